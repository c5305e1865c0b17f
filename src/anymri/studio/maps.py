"""Volumes as the page shows them: compressed NIfTI files of few bytes per voxel, all on the grid of the study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats import nifti
from anymri.data.image import write_image
from anymri.inference.lesions import Box, box_of
from anymri.regions import region_mask

Classes = NDArray[np.uint8]
Affine = NDArray[np.float64]

# Regions of the tables of the page, outermost first.
REGIONS = ("WT", "TC", "ET")
BOTH, FIRST_ONLY, SECOND_ONLY = 1, 2, 3


def write_scan(path: Path, scan: NDArray[np.float32], affine: Affine) -> None:
    """Write a scan (X, Y, Z) as int16: whole numbers as they are, other values scaled to the range of int16."""
    low, high = float(scan.min()), float(scan.max())
    rounded = np.rint(scan)
    top = np.iinfo(np.int16).max
    if -top <= low and high <= top and np.array_equal(rounded, scan):
        write_image(path, rounded.astype(np.int16), affine)
        return
    slope = max((high - low) / (2 * top), float(np.finfo(np.float32).tiny))
    middle = (high + low) / 2
    stored = np.rint((scan - middle) / slope).astype(np.int16)
    nifti.write(path, stored, nifti.new_header(stored.shape, affine), (slope, middle))


def in_bytes(share: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Return values in 0..1 in steps of 1/255, as `write_share` takes them."""
    stored: NDArray[np.uint8] = np.rint(share * 255).astype(np.uint8)
    return stored


def write_share(path: Path, stored: NDArray[np.uint8], affine: Affine) -> None:
    """Write a map (X, Y, Z) of values in 0..1 in steps of 1/255."""
    nifti.write(path, stored, nifti.new_header(stored.shape, affine), (1 / 255, 0.0))


def write_labels(path: Path, classes: Classes, affine: Affine) -> None:
    """Write a label map (X, Y, Z)."""
    write_image(path, classes, affine)


def read_labels(path: Path, shape: tuple[int, ...]) -> Classes:
    """Return a label map that `write_labels` wrote, (X, Y, Z) uint8; faster than any file is read."""
    from isal import igzip

    content = igzip.decompress(path.read_bytes())
    voxels = np.frombuffer(content, dtype=np.uint8, offset=len(content) - math.prod(shape))
    return voxels.reshape(shape, order="F")


def compared(first: Classes, second: Classes) -> Classes:
    """Return where two label maps have WT: 1 both, 2 the first only, 3 the second only; (X, Y, Z) uint8."""
    one, other = region_mask(first, "WT"), region_mask(second, "WT")
    places: Classes = (one & other) * np.uint8(BOTH) + (one & ~other) * np.uint8(FIRST_ONLY)
    places += (~one & other) * np.uint8(SECOND_ONLY)
    return places


def box_of_both(first: Classes, second: Classes) -> Box:
    """Return the box around the labels of two maps, at least one voxel."""
    return box_of((first != 0) | (second != 0))


def volumes_ml(classes: Classes, affine: Affine) -> dict[str, float]:
    """Return region -> volume in millilitres."""
    box = box_of_both(classes, classes)
    voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000
    return {region: round(float(region_mask(classes[box], region).sum()) * voxel_ml, 4) for region in REGIONS}


def dice(first: Classes, second: Classes) -> dict[str, float]:
    """Return region -> Dice of two label maps on one grid; 1 where both are empty."""
    from anymri.evaluation.metrics.overlap import dice as dice_of_masks

    box = box_of_both(first, second)
    one, other = first[box], second[box]
    return {r: round(float(dice_of_masks(region_mask(one, r), region_mask(other, r))), 4) for r in REGIONS}


def changes(before: Classes, after: Classes, affine: Affine) -> dict[str, Mapping[str, float]]:
    """Return region -> `added_ml` and `lost_ml` from one label map to another."""
    box = box_of_both(before, after)
    voxel_ml = float(abs(np.linalg.det(affine[:3, :3]))) / 1000
    found: dict[str, Mapping[str, float]] = {}
    for region in REGIONS:
        old, new = region_mask(before[box], region), region_mask(after[box], region)
        found[region] = {
            "added_ml": round(float((new & ~old).sum()) * voxel_ml, 4),
            "lost_ml": round(float((old & ~new).sum()) * voxel_ml, 4),
        }
    return found
