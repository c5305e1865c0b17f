"""Preprocessing of scans into the input of a network: crop to the brain, normalisation of intensities.

Source: protocol sheet, section 3.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from anymri.data.prepared import Box, Prepared, whole_box
from anymri.errors import ImageError
from anymri.modalities import MODALITIES

if TYPE_CHECKING:
    from anymri.data.case import Study

# Intensities that become 0 and 1 (M3AE).
PERCENTILES = (1, 99)
# The last bin of a histogram with at least so many voxels caps intensities (ShaSpec). Scans of whole numbers, of which
# the cap is meant, have fewer bins than the most.
FEWEST_VOXELS, MOST_BINS = 50, 2**24
# Smallest share of the head that a brain mask covers; a brain has a third of a head, most tumours less than a tenth.
SMALLEST_BRAIN = 0.1


class Preprocessing(BaseModel):
    """Settings of the preprocessing, each from a published system; part of recipes and of weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    normalisation: Literal["zscore", "zscore_background_zero", "zscore_capped", "percentiles", "divide_255"] = Field(
        default="zscore",
        description="zscore: mean 0 and standard deviation 1 in the brain, applied to all voxels (IM-Fuse's family); "
        "zscore_background_zero: the same with background 0 (nnU-Net's family); zscore_capped: the same over the "
        "voxels of each scan that differ from its first, after intensities were capped at the last whole number that "
        "50 voxels have (ShaSpec); percentiles: the first to the 99th percentile in the brain become 0 to 1, clipped "
        "beyond, background 0 (M3AE); divide_255: intensities over 255 (XLSTM-HVED)",
    )
    brain_from: Literal["T1", "T1c", "T2", "FLAIR"] | None = Field(
        default=None,
        description="modality whose voxels make the brain, for its box and its statistics, where it exists and there "
        "is no brain mask (T1c in RA-HVED); by default any scan",
    )
    fill_holes: bool = Field(default=False, description="fill holes of the brain for its statistics (nnU-Net)")
    crop_to_brain: bool = Field(default=True, description="crop to the box around the brain")
    drop_last_slice: bool = Field(
        default=False,
        description="drop the last slice of the box on each axis that `minimum_box` does not widen, as IM-Fuse's code "
        "does",
    )
    slice_before: bool = Field(
        default=False, description="begin the box a voxel before the brain on each axis, as M3AE's code does"
    )
    minimum_box: int | None = Field(
        default=None,
        ge=1,
        le=512,
        description="shortest side of the box, voxels: shorter ones are widened within the scan, at both ends where "
        "there is room at the first, by a voxel more than needed where the deficit is even (128 in IM-Fuse's family, "
        "112 in RA-HVED)",
    )
    coarsening: int = Field(
        default=1,
        ge=1,
        le=4,
        description="voxels along each axis that are averaged into one for the network, whose output is interpolated "
        "back: with 2, networks work on 2 mm, at an eighth of the cost",
    )


def preprocess(study: Study, settings: Preprocessing) -> Prepared:
    """Crop, coarsen and normalise the scans of a study.

    Each scan is normalised by its intensities inside the brain. Raises `ImageError` if a scan is constant there, or if
    the brain mask covers so little of the head that it is probably the mask of a tumour.
    """
    import torch  # processes that prepare scans read this module without it

    brain = brain_mask(study, settings.brain_from)
    if study.brain is not None:
        _check_covers(study, brain)
    x, y, z = brain.shape
    box = _box(brain, settings) if settings.crop_to_brain else whole_box(brain.shape)
    box = _whole_cubes(box, brain.shape, settings.coarsening)
    inside = ndimage.binary_fill_holes(brain[box]) if settings.fill_holes else brain[box]
    factor = settings.coarsening
    inside = coarse(inside, factor) >= 0.5
    images = np.zeros((len(MODALITIES), *inside.shape), dtype=np.float32)
    background = np.zeros(len(MODALITIES), dtype=np.float32)
    for i, modality in enumerate(MODALITIES):
        if modality not in study.images:
            continue
        scan = study.images[modality]
        value, counted = background_value(scan), inside
        if settings.normalisation == "zscore_capped":
            scan = np.minimum(scan, intensity_cap(scan))
            value = float(scan[0, 0, 0])
        around = float(scan.min()) if value is None else value
        scan = coarse(scan[box], factor)
        if settings.normalisation == "zscore_capped":
            counted = scan != value
        voxels = scan[counted]
        if settings.normalisation == "percentiles" and value is not None:
            voxels = voxels[voxels != value]
        shift, scale = _statistics(study, modality, voxels, settings)
        images[i] = (scan - shift) / scale
        background[i] = (around - shift) / scale
        if settings.normalisation == "percentiles":
            images[i].clip(0, 1, out=images[i])
        if settings.normalisation in ("percentiles", "zscore_background_zero", "zscore_capped"):
            images[i][~counted] = 0
            background[i] = 0
    classes = None if study.classes is None else torch.from_numpy(coarse_classes(study.classes[box], factor))
    present = torch.tensor([m in study.images for m in MODALITIES], device="cpu")
    return Prepared(torch.from_numpy(images), present, torch.from_numpy(background), classes, box, (x, y, z), factor)


def coarse(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return the means of cubes of `factor`^3 voxels, (X, Y, Z) float32; with factor 1, the values."""
    if factor == 1:
        return values
    x, y, z = (side // factor for side in values.shape)
    means: NDArray[np.float32] = values.reshape(x, factor, y, factor, z, factor).mean((1, 3, 5), dtype=np.float32)
    return means


def coarse_classes(classes: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Return the class that most voxels of each cube of `factor`^3 have, (X, Y, Z) uint8; the lowest of equal ones."""
    if factor == 1:
        return np.ascontiguousarray(classes)
    present = np.unique(classes)
    shares = np.stack([coarse(classes == each, factor) for each in present])
    most: NDArray[np.uint8] = present[shares.argmax(0)]
    return most


def background_value(scan: NDArray[np.float32]) -> float | None:
    """Return the constant around a skull-stripped brain: the value of most voxels on the six faces, or None.

    It is zero in BraTS, and about -4 in data normalised before they were stored; scans of a whole head have none.
    """
    faces = (scan[0], scan[-1], scan[:, 0], scan[:, -1], scan[..., 0], scan[..., -1])
    values, counts = np.unique(np.concatenate([face.ravel() for face in faces]), return_counts=True)
    most = counts.argmax()
    return float(values[most]) if 2 * counts[most] > counts.sum() else None


def intensity_cap(scan: NDArray[np.float32]) -> float:
    """Return the index of the last bin with at least `FEWEST_VOXELS` voxels, of as many bins as the largest intensity.

    That is an intensity if intensities are whole numbers from 0. Infinity if there is no such bin but that of the
    first voxel, as in a small scan.
    """
    bins = int(scan.max())
    if not 1 <= bins <= MOST_BINS:
        return float("inf")
    counts, _ = np.histogram(scan, bins)
    frequent = np.flatnonzero(counts >= FEWEST_VOXELS)
    return float(frequent[-1]) if frequent.size and frequent[-1] > scan[0, 0, 0] else float("inf")


def brain_mask(study: Study, modality: str | None = None) -> NDArray[np.bool_]:
    """Return the brain mask (X, Y, Z) of the case, or else of the voxels where a scan differs from its background.

    modality  the only scan that counts, if it exists
    """
    if study.brain is not None and study.brain.any():
        return study.brain
    brain = np.zeros(next(iter(study.images.values())).shape, dtype=bool)
    scans = [study.images[modality]] if modality in study.images else study.images.values()
    for scan in scans:
        value = background_value(scan)
        brain |= True if value is None else scan != value
    return brain


def _check_covers(study: Study, brain: NDArray[np.bool_]) -> None:
    """Raise `ImageError` if the brain mask covers less than a tenth of the head in the scans."""
    head = np.zeros(next(iter(study.images.values())).shape, dtype=bool)
    for scan in study.images.values():
        value = background_value(scan)
        # The noise around a whole head is darker than the mean.
        head |= scan > scan.mean() if value is None else scan != value
    covered = np.count_nonzero(brain) / np.count_nonzero(head)
    if covered < SMALLEST_BRAIN:
        raise ImageError(
            f"The brain mask {study.case.brain_mask} has only {100 * covered:.1f} % as many voxels as the head in the "
            "scans.",
            "Give a mask of the whole brain, or omit it; the mask of a tumour is not a brain mask.",
        )


def _box(brain: NDArray[np.bool_], settings: Preprocessing) -> Box:
    found = ndimage.find_objects(brain.view(np.uint8), max_label=1)[0]
    x, y, z = (_side(axis, length, settings) for axis, length in zip(found, brain.shape, strict=True))
    return x, y, z


def _side(brain: slice, length: int, settings: Preprocessing) -> slice:
    """Return one side of the box, of the voxels of the brain on an axis of `length` voxels."""
    first, end = brain.start, brain.stop
    if settings.drop_last_slice:
        end = max(end - 1, first + 1)
    if settings.slice_before:
        first = max(first - 1, 0)
    missing = (settings.minimum_box or 0) - (end - first)
    if missing > 0:
        first, end = first - missing // 2, end + missing // 2 + 1
        first, end = max(first, 0), end - min(first, 0)
    return slice(first, min(end, length))


def _whole_cubes(box: Box, grid: tuple[int, ...], factor: int) -> Box:
    """Return the box, longer by what cubes of `factor`^3 voxels need, or shorter where the grid has no room."""
    sides = []
    for side, length in zip(box, grid, strict=True):
        wanted = min(ceil((side.stop - side.start) / factor), length // factor) * factor
        first = max(min(side.start, length - wanted), 0)
        sides.append(slice(first, first + wanted))
    x, y, z = sides
    return x, y, z


def _statistics(
    study: Study, modality: str, inside: NDArray[np.float32], settings: Preprocessing
) -> tuple[float, float]:
    """Return what to subtract from a scan and what to divide it by."""
    if settings.normalisation == "divide_255":
        return 0.0, 255.0
    if settings.normalisation == "percentiles":
        low, high = np.percentile(inside, PERCENTILES) if inside.size else (0.0, 0.0)
        shift, scale = float(low), float(high - low)
    elif inside.size:
        shift, scale = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
    else:
        shift, scale = 0.0, 0.0
    if scale == 0:
        raise ImageError(
            f"{study.case.scans[modality]} is constant inside the brain.",
            "Omit this scan: a missing modality is not an image of one value.",
        )
    return shift, scale
