"""Random changes of training patches: MONAI's transforms, and published ones that MONAI does not have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from anymri.data.distortions import distort_nnunet, distort_shaspec

Augmentation = Literal[
    "none",
    "flip_intensity",
    "flip_intensity_axial",
    "rotate_flip",
    "rotate_flip_intensity",
    "shift_flip",
    "shift_flip_in_plane",
    "nnunet",
    "shaspec",
]
Augment = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]

_INTENSITY = 0.1
# What a turn brings in from outside; of the classes, background.
_OUTSIDE = -1
_PLANES = ((-3, -2), (-2, -1), (-3, -1))


def augmentation(name: Augmentation) -> Augment:
    """A function of images (4, X, Y, Z), classes (X, Y, Z), corners (2, 3) and a seed, which returns all changed alike.

    Corners are exchanged where an axis is mirrored; turns leave them as they are.

    flip_intensity         each axis mirrored with probability 0.5; each channel scaled by U(0.9, 1.1) and shifted by
                           U(-0.1, 0.1)
    flip_intensity_axial   M3AE (its sheet, section 6): the same, but drawn for each slice of the last axis
    rotate_flip_intensity  IM-Fuse's family (protocol sheet, section 4): a turn in one of the three coordinate planes by
                           -10 to 9 whole degrees, nearest neighbour, -1 (background) where nothing was; each slice of
                           the first axis of each channel scaled by U(0.9, 1.1) and shifted by U(-0.1, 0.1); each axis
                           mirrored with probability 0.5
    rotate_flip            the same with intensities as they are
    shift_flip             RA-HVED (its sheet, section 6): one share U(-0.1, 0.1) of each channel's standard deviation,
                           taken of its voxels other than 0, added to these; each axis mirrored with probability 0.5
    shift_flip_in_plane    XLSTM-HVED: the same, the last axis never mirrored
    nnunet                 nnU-Net, as MaM has it (its sheet, Data and training): turns up to 30 degrees about all axes,
                           zoom, noise, blur, brightness, contrast, low resolution, gamma, each in a share of patches;
                           each axis mirrored with probability 0.5. What is 0 in all images stays 0
    shaspec                ShaSpec (its sheet, section 7): as nnunet, but also elastic deformation, turns up to 15
                           degrees, intensities also shifted, and less gamma
    """
    if name == "none":
        return lambda images, classes, corners, seed: (images, classes, corners)

    from monai.data.meta_obj import set_track_meta
    from monai.transforms import Compose

    set_track_meta(False)
    chain = Compose(_flips_of(name))

    def augment(images: Tensor, classes: Tensor, corners: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng(seed)
        for change in _BEFORE_FLIPS.get(name, ()):
            images, classes = change(images, classes, rng)
        chain.set_random_state(seed=seed)
        # (3, 2, 2, 2): a coordinate each of all eight corners, which are mirrored as images are.
        places = torch.stack(torch.meshgrid(*corners.T, indexing="ij"))
        changed = chain({"images": images, "classes": classes[None].float(), "places": places})
        mirrored = torch.stack([changed["places"][:, 0, 0, 0], changed["places"][:, 1, 1, 1]])
        return changed["images"], changed["classes"][0].to(classes.dtype), mirrored

    return augment


def _rotate(images: Tensor, classes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    plane = _PLANES[rng.integers(len(_PLANES))]
    degrees = int(rng.integers(-10, 10))

    def turned(values: Tensor, outside: int) -> Tensor:
        return torch.from_numpy(ndimage.rotate(values.numpy(), degrees, plane, reshape=False, order=0, cval=outside))

    return turned(images, _OUTSIDE), turned(classes, 0)


def _change_slices(images: Tensor, classes: Tensor, rng: np.random.Generator, axis: int = 0) -> tuple[Tensor, Tensor]:
    sides = [side if number == axis else 1 for number, side in enumerate(classes.shape)]
    scale, shift = rng.uniform(-_INTENSITY, _INTENSITY, (2, len(images), *sides)).astype(np.float32)
    return images * torch.from_numpy(1 + scale) + torch.from_numpy(shift), classes


def _shift(images: Tensor, classes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    share = rng.uniform(-_INTENSITY, _INTENSITY)
    inside = images != 0
    # Zeros add nothing to sums. A modality that does not exist is zeros.
    count = inside.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean, square = (
        each.sum((1, 2, 3), keepdim=True, dtype=torch.float64) / count for each in (images, images.square())
    )
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    return images + inside * (share * deviation).float(), classes


_BEFORE_FLIPS: dict[str, tuple[Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]], ...]] = {
    "flip_intensity_axial": (partial(_change_slices, axis=2),),
    "rotate_flip": (_rotate,),
    "rotate_flip_intensity": (_rotate, _change_slices),
    "shift_flip": (_shift,),
    "shift_flip_in_plane": (_shift,),
    "nnunet": (distort_nnunet,),
    "shaspec": (distort_shaspec,),
}


def _flips_of(name: Augmentation) -> list[Any]:
    """The part of a published chain that MONAI's transforms do."""
    from monai.transforms import RandScaleIntensityd, RandShiftIntensityd

    flips = _flips()
    if name == "shift_flip_in_plane":
        return flips[:2]
    if name != "flip_intensity":
        return flips
    return [
        *flips,
        RandScaleIntensityd("images", factors=_INTENSITY, prob=1, channel_wise=True),
        RandShiftIntensityd("images", offsets=_INTENSITY, prob=1, channel_wise=True),
    ]


def _flips() -> list[Any]:
    from monai.transforms import RandFlipd

    return [RandFlipd(["images", "classes", "places"], prob=0.5, spatial_axis=axis) for axis in range(3)]
