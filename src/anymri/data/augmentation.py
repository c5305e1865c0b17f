"""Random changes of training patches, from MONAI's transforms."""

from __future__ import annotations

from collections.abc import Callable
from math import radians
from typing import Any, Literal

import torch
from torch import Tensor

Augmentation = Literal["none", "flip_intensity", "rotate_flip", "rotate_flip_intensity", "nnunet"]
Augment = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor, Tensor]]

_ROTATION = radians(10)
_INTENSITY = 0.1
_BOTH = ["images", "classes"]


def augmentation(name: Augmentation) -> Augment:
    """A function of images (4, X, Y, Z), classes (X, Y, Z), corners (2, 3) and a seed, which returns all changed alike.

    Corners are exchanged where an axis is mirrored; turns leave them as they are.

    flip_intensity         each axis mirrored with probability 0.5; each channel scaled by U(0.9, 1.1) and shifted by
                           U(-0.1, 0.1)
    rotate_flip_intensity  before that, a turn of at most 10 degrees about one axis, nearest neighbour, as in IM-Fuse's
                           family (protocol sheet, section 4), which draws whole degrees and intensities per slice
    rotate_flip            the same with intensities as they are
    nnunet                 turns up to 30 degrees about all axes, zoom, noise, blur, brightness, contrast, low
                           resolution, gamma and mirrored axes, each in a share of patches (sheet mam). As nnU-Net, but
                           linear, and one draw of blur, contrast, resolution and gamma for all channels
    """
    if name == "none":
        return lambda images, classes, corners, seed: (images, classes, corners)

    from monai.data.meta_obj import set_track_meta
    from monai.transforms import Compose

    set_track_meta(False)
    chain = Compose(_nnunet() if name == "nnunet" else _family("rotate" in name, "intensity" in name))

    def augment(images: Tensor, classes: Tensor, corners: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        chain.set_random_state(seed=seed)
        # (3, 2, 2, 2): a coordinate each of all eight corners, which are mirrored as images are.
        places = torch.stack(torch.meshgrid(*corners.T, indexing="ij"))
        changed = chain({"images": images, "classes": classes[None].float(), "places": places})
        mirrored = torch.stack([changed["places"][:, 0, 0, 0], changed["places"][:, 1, 1, 1]])
        return changed["images"], changed["classes"][0].to(classes.dtype), mirrored

    return augment


def _family(turned: bool, recoloured: bool) -> list[Any]:
    """Of IM-Fuse's family; see `augmentation`."""
    from monai.transforms import OneOf, RandRotated, RandScaleIntensityd, RandShiftIntensityd

    turns = [
        RandRotated(_BOTH, **{axis: _ROTATION}, prob=1, mode="nearest", padding_mode="border")
        for axis in ("range_x", "range_y", "range_z")
    ]
    intensities = [
        RandScaleIntensityd("images", factors=_INTENSITY, prob=1, channel_wise=True),
        RandShiftIntensityd("images", offsets=_INTENSITY, prob=1, channel_wise=True),
    ]
    return [*([OneOf(turns)] if turned else []), *_flips(), *(intensities if recoloured else [])]


def _nnunet() -> list[Any]:
    """Of nnU-Net; see `augmentation`."""
    from monai import transforms as t

    turn = dict.fromkeys(("range_x", "range_y", "range_z"), radians(30))
    blur = dict.fromkeys(("sigma_x", "sigma_y", "sigma_z"), (0.5, 1.0))
    linear: dict[str, Any] = {"mode": ("bilinear", "nearest")}
    zoom: dict[str, Any] = {"mode": ("trilinear", "nearest"), "padding_mode": "constant"}
    return [
        t.RandRotated(_BOTH, **turn, prob=0.2, padding_mode="zeros", **linear),
        t.RandZoomd(_BOTH, prob=0.2, min_zoom=0.7, max_zoom=1.4, **zoom),
        t.RandGaussianNoised("images", prob=0.1, std=0.1),
        t.RandGaussianSmoothd("images", prob=0.2, **blur),
        t.RandScaleIntensityd("images", factors=0.25, prob=0.15, channel_wise=True),
        t.RandScaleIntensityFixedMeand("images", factors=0.25, prob=0.15, preserve_range=True, channel_wise=True),
        t.RandSimulateLowResolutiond("images", prob=0.25, zoom_range=(0.5, 1.0)),
        t.RandAdjustContrastd("images", prob=0.1, gamma=(0.7, 1.5), invert_image=True, retain_stats=True),
        t.RandAdjustContrastd("images", prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
        *_flips(),
    ]


def _flips() -> list[Any]:
    from monai.transforms import RandFlipd

    return [RandFlipd([*_BOTH, "places"], prob=0.5, spatial_axis=axis) for axis in range(3)]
