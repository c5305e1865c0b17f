"""Positions of training patches: around the tumour or anywhere, by our rules or those of published systems."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anymri.data.cache import CachedCase
from anymri.systems.crops import Sides
from anymri.systems.recipes.schema import Stage

# Regions of which published systems draw one.
_DRAWN = ("WT", "TC", "ET")


def random_start(case: CachedCase, stage: Stage, rng: np.random.Generator, sides: Sides | None = None) -> list[int]:
    """Return the first voxel of a random patch, in voxels of the case's box.

    A share `Stage.foreground_oversampling` of the patches is around a voxel of the tumour, see
    `Stage.foreground_sampling`, the others by `Stage.patch_sampling`.

    sides  sides of the patch; by default `Stage.crop`
    """
    crop = np.array(sides or stage.crop)
    low, high = _limits(case, stage, crop)
    if rng.random() < stage.foreground_oversampling and (start := _around_tumour(case, stage, rng, crop)) is not None:
        if stage.foreground_sampling == "region_nnunet":
            return _listed(np.maximum(start, _lowest(case, stage, crop)))
    elif stage.patch_sampling == "around_voxels":
        start = rng.integers(case.shape) - crop // 2
    else:
        margins = np.where(high - low >= 2 * np.array(stage.patch_margins), stage.patch_margins, 0)
        first, last = low + margins, high - margins
        start = rng.integers(
            first, np.maximum(last, first + 1) if stage.patch_sampling == "uniform_but_end" else last + 1
        )
    return _listed(np.clip(start, low, high))


def _limits(case: CachedCase, stage: Stage, crop: NDArray[np.int_]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return the lowest and the highest first voxel of patches in the box; where it is shorter, of those around it."""
    spare = np.array(case.shape) - crop
    if stage.patch_sampling != "uniform_around":
        return np.minimum(0, spare // 2), np.where(spare < 0, spare // 2, spare)
    # Where the scan is shorter than the patch too, the box is in its middle.
    begin = -np.array(case.start)
    end = begin + np.array(case.grid) - crop
    low, high = np.maximum(np.minimum(spare, 0), begin), np.minimum(np.maximum(spare, 0), end)
    return np.where(low > high, spare // 2, low), np.where(low > high, spare // 2, high)


def _around_tumour(
    case: CachedCase, stage: Stage, rng: np.random.Generator, crop: NDArray[np.int_]
) -> NDArray[np.int_] | None:
    """Return the first voxel of a patch around a random voxel of the tumour; None if the case has none."""
    if stage.foreground_sampling == "class":
        # By class first, each equally likely, so that small regions are sampled as often as large ones.
        by_class = case.tumour_voxels()
        if not by_class:
            return None
        voxels = by_class[rng.integers(len(by_class))]
        start: NDArray[np.int_] = voxels[rng.integers(len(voxels))] - rng.integers(crop // 4, 3 * crop // 4)
        return start
    present = [region for region in _DRAWN if case.has_region(region)]
    among = _DRAWN if stage.foreground_sampling == "region_shaspec" else present
    region = among[rng.integers(len(among))] if among else None
    return case.random_voxel(region, rng) - _before_centre(stage, crop) if region in present else None


def _before_centre(stage: Stage, crop: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the number of voxels of a patch before its centre, which is that of the larger patch around it."""
    source = np.array(stage.augmented_from or crop)
    centre: NDArray[np.int_] = source // 2 - (source - crop) // 2
    return centre


def _lowest(case: CachedCase, stage: Stage, crop: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the lowest first voxel of nnU-Net's patches: the larger patch has half of its border outside the box."""
    source = np.array(stage.augmented_from or crop)
    outside = np.maximum(source - crop, source - np.array(case.shape))
    lowest: NDArray[np.int_] = (source - crop) // 2 - (outside + 1) // 2
    return lowest


def _listed(start: NDArray[np.int_]) -> list[int]:
    return [int(voxel) for voxel in start]
