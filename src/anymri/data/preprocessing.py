"""Preprocessing of scans into the input of a network: crop to the brain, normalisation of intensities.

Source: protocol sheet, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
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
# Smallest share of the head that a brain mask covers; a brain has a third of a head, most tumours less than a tenth.
SMALLEST_BRAIN = 0.1


class Preprocessing(BaseModel):
    """Settings of the preprocessing, each from a published system; part of recipes and of weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    normalisation: Literal["zscore", "zscore_background_zero", "percentiles", "divide_255"] = Field(
        default="zscore",
        description="zscore: mean 0 and standard deviation 1 in the brain, applied to all voxels (IM-Fuse's family); "
        "zscore_background_zero: the same with background 0 (nnU-Net's family); percentiles: the first to the 99th "
        "percentile in the brain become 0 to 1, clipped beyond, background 0 (M3AE); divide_255: intensities over 255 "
        "(XLSTM-HVED)",
    )
    crop_to_brain: bool = Field(default=True, description="crop to the box around the brain")
    drop_last_slice: bool = Field(
        default=False,
        description="drop the last slice of the box on each axis that `minimum_box` does not widen, as IM-Fuse's code "
        "does",
    )
    minimum_box: int | None = Field(
        default=None,
        ge=1,
        le=512,
        description="shortest side of the box, voxels: shorter ones are widened within the scan, at both ends where "
        "there is room at the first, by a voxel more than needed where the deficit is even (128 in IM-Fuse's family, "
        "112 in RA-HVED)",
    )


def preprocess(study: Study, settings: Preprocessing) -> Prepared:
    """Crop and normalise the scans of a study.

    Each scan is normalised by its intensities inside the brain. Raises `ImageError` if a scan is constant there, or if
    the brain mask covers so little of the head that it is probably the mask of a tumour.
    """
    brain = brain_mask(study)
    if study.brain is not None:
        _check_covers(study, brain)
    x, y, z = brain.shape
    box = _box(brain, settings) if settings.crop_to_brain else whole_box(brain.shape)
    inside = brain[box]
    images = np.zeros((len(MODALITIES), *inside.shape), dtype=np.float32)
    background = np.zeros(len(MODALITIES), dtype=np.float32)
    for i, modality in enumerate(MODALITIES):
        if modality not in study.images:
            continue
        scan = study.images[modality]
        value = background_value(scan)
        voxels = scan[box][inside]
        if settings.normalisation == "percentiles" and value is not None:
            voxels = voxels[voxels != value]
        shift, scale = _statistics(study, modality, voxels, settings)
        images[i] = (scan[box] - shift) / scale
        background[i] = ((scan.min() if value is None else value) - shift) / scale
        if settings.normalisation == "percentiles":
            images[i].clip(0, 1, out=images[i])
        if settings.normalisation in ("percentiles", "zscore_background_zero"):
            images[i][~inside] = 0
            background[i] = 0
    classes = None if study.classes is None else torch.from_numpy(np.ascontiguousarray(study.classes[box]))
    present = torch.tensor([m in study.images for m in MODALITIES], device="cpu")
    return Prepared(torch.from_numpy(images), present, torch.from_numpy(background), classes, box, (x, y, z))


def background_value(scan: NDArray[np.float32]) -> float | None:
    """Return the constant around a skull-stripped brain: the value of most voxels on the six faces, or None.

    It is zero in BraTS, and about -4 in data normalised before they were stored; scans of a whole head have none.
    """
    faces = np.concatenate([face.ravel() for axis in range(3) for face in (scan.take(0, axis), scan.take(-1, axis))])
    values, counts = np.unique(faces, return_counts=True)
    most = counts.argmax()
    return float(values[most]) if counts[most] > faces.size / 2 else None


def brain_mask(study: Study) -> NDArray[np.bool_]:
    """Return the brain mask (X, Y, Z) of the case, or else of the voxels where a scan differs from its background."""
    if study.brain is not None and study.brain.any():
        return study.brain
    brain = np.zeros(next(iter(study.images.values())).shape, dtype=bool)
    for scan in study.images.values():
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
    missing = (settings.minimum_box or 0) - (end - first)
    if missing > 0:
        first, end = first - missing // 2, end + missing // 2 + 1
        first, end = max(first, 0), end - min(first, 0)
    return slice(first, min(end, length))


def _statistics(
    study: Study, modality: str, inside: NDArray[np.float32], settings: Preprocessing
) -> tuple[float, float]:
    """Return what to subtract from a scan and what to divide it by."""
    if settings.normalisation == "divide_255":
        return 0.0, 255.0
    if settings.normalisation == "percentiles":
        low, high = np.percentile(inside, PERCENTILES) if inside.size else (0.0, 0.0)
        shift, scale = float(low), float(high - low)
    else:
        shift, scale = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
    if scale == 0:
        raise ImageError(
            f"{study.case.scans[modality]} is constant inside the brain.",
            "Omit this scan: a missing modality is not an image of one value.",
        )
    return shift, scale
