"""Random changes of training patches, from MONAI's transforms."""

from __future__ import annotations

from collections.abc import Callable
from math import radians
from typing import Literal

from torch import Tensor

Augmentation = Literal["none", "flip_intensity", "rotate_flip", "rotate_flip_intensity"]
Augment = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]

_ROTATION = radians(10)
_INTENSITY = 0.1


def augmentation(name: Augmentation) -> Augment:
    """A function of images (4, X, Y, Z), classes (X, Y, Z) and a seed, which returns both changed alike.

    flip_intensity         each axis mirrored with probability 0.5; each channel scaled by U(0.9, 1.1) and shifted by
                           U(-0.1, 0.1)
    rotate_flip_intensity  before that, a turn of at most 10 degrees about one axis, nearest neighbour, as in IM-Fuse's
                           family (protocol sheet, section 4), which draws whole degrees and intensities per slice
    rotate_flip            the same with intensities as they are
    """
    if name == "none":
        return lambda images, classes, seed: (images, classes)

    from monai.data.meta_obj import set_track_meta
    from monai.transforms import (
        Compose,
        OneOf,
        RandFlipd,
        RandRotated,
        RandScaleIntensityd,
        RandShiftIntensityd,
    )

    set_track_meta(False)
    both = ["images", "classes"]
    turns = [
        RandRotated(both, **{axis: _ROTATION}, prob=1, mode="nearest", padding_mode="border")
        for axis in ("range_x", "range_y", "range_z")
    ]
    intensities = [
        RandScaleIntensityd("images", factors=_INTENSITY, prob=1, channel_wise=True),
        RandShiftIntensityd("images", offsets=_INTENSITY, prob=1, channel_wise=True),
    ]
    chain = Compose(
        [
            *([OneOf(turns)] if "rotate" in name else []),
            *(RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)),
            *(intensities if "intensity" in name else []),
        ]
    )

    def augment(images: Tensor, classes: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        chain.set_random_state(seed=seed)
        changed = chain({"images": images, "classes": classes[None].float()})
        return changed["images"], changed["classes"][0].to(classes.dtype)

    return augment
