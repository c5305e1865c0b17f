"""Augmentation of training patches: MONAI's transforms, and published ones that MONAI does not have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from anymri.data.distortions import distort_nnunet, distort_shaspec, middle

Augmentation = Literal[
    "none",
    "flip",
    "flip_intensity",
    "rotate_flip",
    "rotate_flip_intensity",
    "shift_flip",
    "shift_flip_in_plane",
    "nnunet",
    "nnunet_cubic",
    "shaspec",
    "shaspec_cubic",
]
Augment = Callable[[Tensor, Tensor, Tensor, int, Tensor], tuple[Tensor, Tensor, Tensor]]
Distortion = Callable[[Tensor, Tensor, np.random.Generator, Sequence[int] | None], tuple[Tensor, Tensor]]
Change = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]

_INTENSITY = 0.1
# Intensity of the voxels that a rotation moves in from outside the patch; their class is background.
_OUTSIDE = -1
_PLANES = ((-3, -2), (-2, -1), (-3, -1))


def augmentation(name: Augmentation, sides: Sequence[int] | None = None) -> Augment:
    """Return the augmentation `name`: a function that returns images, classes and corners after changes by a seed.

    Of the images and classes it returns the middle of `sides` voxels, by default all.

    images     (4, X, Y, Z) float32, preprocessed
    classes    (X, Y, Z) uint8, moved like the images
    corners    (2, 3) int64: first and last voxel of the patch, exchanged where an axis is mirrored; rotations do not
               change them
    seed       int
    deviation  (4,) float32: standard deviations of the non-zero voxels of the case, see `CachedCase`

    flip                   each axis mirrored with probability 0.5
    flip_intensity         the same; each channel scaled by U(0.9, 1.1) and shifted by U(-0.1, 0.1)
    rotate_flip_intensity  IM-Fuse's family (protocol sheet, section 4): rotation in one of the three coordinate planes
                           by -10 to 9 whole degrees, nearest neighbour, -1 (class 0) outside; each slice of the first
                           axis of each channel scaled by U(0.9, 1.1) and shifted by U(-0.1, 0.1); each axis mirrored
                           with probability 0.5
    rotate_flip            the same with unchanged intensities
    shift_flip             RA-HVED (its sheet, section 6): U(-0.1, 0.1), drawn once, times the standard deviation of the
                           non-zero voxels of each scan is added to these; each axis mirrored with probability 0.5
    shift_flip_in_plane    XLSTM-HVED: the same, the last axis never mirrored
    nnunet                 nnU-Net, as in MaM (its sheet, Data and training): rotation up to 30 degrees about all axes,
                           zoom, noise, blur, brightness, contrast, low resolution, gamma, each in a share of patches;
                           each axis mirrored with probability 0.5. Voxels that are 0 in all images stay 0
    nnunet_cubic           the same, images resampled by cubic splines as the authors do, in four times the time
    shaspec                ShaSpec (its sheet, section 7): as nnunet, but also elastic deformation, rotation up to 15
                           degrees, intensities also shifted, and less gamma
    shaspec_cubic          the same by cubic splines
    """
    if name == "none":
        return lambda images, classes, corners, seed, deviation: (
            middle(images, sides or classes.shape),
            middle(classes, sides or classes.shape),
            corners,
        )

    from monai.data.meta_obj import set_track_meta
    from monai.transforms import Compose

    set_track_meta(False)
    chain = Compose(_monai_transforms(name))

    def augment(
        images: Tensor, classes: Tensor, corners: Tensor, seed: int, deviation: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng(seed)
        if name in ("shift_flip", "shift_flip_in_plane"):
            share = float(rng.uniform(-_INTENSITY, _INTENSITY))
            images = images + (images != 0) * (share * deviation)[:, None, None, None]
        if name in _DISTORTIONS:
            images, classes = _DISTORTIONS[name](images, classes, rng, sides)
        for change in _BEFORE_FLIPS.get(name, ()):
            images, classes = change(images, classes, rng)
        images, classes = (middle(values, sides or classes.shape) for values in (images, classes))
        chain.set_random_state(seed=seed)
        # (3, 2, 2, 2): coordinates x, y, z of all eight corners, which are mirrored as images are.
        eight = torch.stack(torch.meshgrid(*corners.T, indexing="ij"))
        with torch.device("cpu"):  # MONAI creates tensors on the default device
            changed = chain({"images": images, "classes": classes[None].float(), "corners": eight})
        mirrored = torch.stack([changed["corners"][:, 0, 0, 0], changed["corners"][:, 1, 1, 1]])
        return changed["images"], changed["classes"][0].to(classes.dtype), mirrored

    return augment


def _rotate(images: Tensor, classes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Rotate in one of the coordinate planes."""
    plane = _PLANES[rng.integers(len(_PLANES))]
    degrees = int(rng.integers(-10, 10))

    def rotated(values: Tensor, outside: int) -> Tensor:
        return torch.from_numpy(ndimage.rotate(values.numpy(), degrees, plane, reshape=False, order=0, cval=outside))

    return rotated(images, _OUTSIDE), rotated(classes, 0)


def _change_slices(images: Tensor, classes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Scale and shift the intensities of each slice along the first axis of each channel."""
    scale, shift = rng.uniform(-_INTENSITY, _INTENSITY, (2, len(images), len(classes), 1, 1)).astype(np.float32)
    return images * torch.from_numpy(1 + scale) + torch.from_numpy(shift), classes


_BEFORE_FLIPS: dict[str, tuple[Change, ...]] = {
    "rotate_flip": (_rotate,),
    "rotate_flip_intensity": (_rotate, _change_slices),
}
# Chains that return the middle of a larger patch, into which they bring voxels from around it.
_DISTORTIONS: dict[str, Distortion] = {
    "nnunet": distort_nnunet,
    "nnunet_cubic": partial(distort_nnunet, order=3),
    "shaspec": distort_shaspec,
    "shaspec_cubic": partial(distort_shaspec, order=3),
}


def _monai_transforms(name: Augmentation) -> list[Any]:
    """Return the transforms of a published chain that MONAI has."""
    from monai.transforms import RandFlipd, RandScaleIntensityd, RandShiftIntensityd

    flips = [RandFlipd(["images", "classes", "corners"], prob=0.5, spatial_axis=axis) for axis in range(3)]
    if name == "shift_flip_in_plane":
        return flips[:2]
    if name != "flip_intensity":
        return flips
    return [
        *flips,
        RandScaleIntensityd("images", factors=_INTENSITY, prob=1, channel_wise=True),
        RandShiftIntensityd("images", offsets=_INTENSITY, prob=1, channel_wise=True),
    ]
