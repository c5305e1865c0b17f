"""From the scans of a case to what a network sees: brain box and intensities.

Statistics come from the modalities that exist, inside the brain. Source: protocol sheet, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from anymri.errors import ImageError
from anymri.modalities import MODALITIES

if TYPE_CHECKING:
    from anymri.data.case import Study

Box = tuple[slice, slice, slice]
PERCENTILES = (1, 99)


class Preprocessing(BaseModel):
    """Named choices, each from a published system."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    normalisation: Literal["zscore", "zscore_background_zero", "percentiles", "divide_255"] = Field(
        default="zscore",
        description="zscore: mean 0 and standard deviation 1 in the brain, applied to all voxels (IM-Fuse's family); "
        "zscore_background_zero: the same with background 0 (nnU-Net's family); percentiles: the first to the 99th "
        "percentile in the brain become 0 to 1, beyond them clipped, background 0 (M3AE); divide_255: as XLSTM-HVED",
    )
    crop_to_brain: bool = Field(default=True, description="cut to the box around the brain")
    drop_last_slice: bool = Field(
        default=False, description="lose the box's last slice on each axis, as IM-Fuse's code"
    )


@dataclass
class Preprocessed:
    """A case ready for a network, all arrays in LPS.

    modalities  those that exist, in the order of `MODALITIES`
    images      (n, X, Y, Z) float32 in the box, one channel for each of `modalities`
    background  (n,) float32: what padding around the box is filled with
    classes     (X, Y, Z) uint8 in the box, or None without a label
    box         where the box lies in the whole grid
    grid        shape of the whole grid
    """

    modalities: tuple[str, ...]
    images: NDArray[np.float32]
    background: NDArray[np.float32]
    classes: NDArray[np.uint8] | None
    box: Box
    grid: tuple[int, int, int]

    @property
    def origin(self) -> tuple[int, int, int]:
        """First voxel of the box, counted from the middle of the grid, voxel n // 2 of n."""
        x, y, z = (axis.start - n // 2 for axis, n in zip(self.box, self.grid, strict=True))
        return x, y, z

    def paste(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Values in the box, (..., X, Y, Z), on the whole grid, zero elsewhere."""
        whole = np.zeros((*values.shape[:-3], *self.grid), dtype=values.dtype)
        whole[(..., *self.box)] = values
        return whole


def preprocess(study: Study, settings: Preprocessing) -> Preprocessed:
    """Cuts and normalises; raises `ImageError` if a scan is constant inside the brain."""
    modalities = tuple(m for m in MODALITIES if m in study.images)
    scans = [study.images[m] for m in modalities]
    outside = [background_value(scan) for scan in scans]
    brain = brain_mask(study)
    grid = brain.shape
    assert len(grid) == 3
    box = _box(brain, settings) if settings.crop_to_brain else (slice(0, grid[0]), slice(0, grid[1]), slice(0, grid[2]))
    inside = brain[box]
    images = np.empty((len(scans), *inside.shape), dtype=np.float32)
    background = np.empty(len(scans), dtype=np.float32)
    for i, (modality, scan, value) in enumerate(zip(modalities, scans, outside, strict=True)):
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
    classes = None if study.classes is None else study.classes[box]
    return Preprocessed(modalities, images, background, classes, box, grid)


def background_value(scan: NDArray[np.float32]) -> float | None:
    """The constant around a skull-stripped brain: the value that most voxels on the six faces share, or None.

    Zero in BraTS, about -4 in data normalised before it was stored; scans of a whole head have none.
    """
    faces = np.concatenate([face.ravel() for axis in range(3) for face in (scan.take(0, axis), scan.take(-1, axis))])
    values, counts = np.unique(faces, return_counts=True)
    most = counts.argmax()
    return float(values[most]) if counts[most] > faces.size / 2 else None


def brain_mask(study: Study) -> NDArray[np.bool_]:
    """The mask that came with the case, or else every voxel in which some scan differs from its background."""
    if study.brain is not None and study.brain.any():
        return study.brain
    brain = np.zeros(next(iter(study.images.values())).shape, dtype=bool)
    for scan in study.images.values():
        value = background_value(scan)
        brain |= True if value is None else scan != value
    return brain


def _box(brain: NDArray[np.bool_], settings: Preprocessing) -> Box:
    x, y, z = ndimage.find_objects(brain.view(np.uint8), max_label=1)[0]
    box = (x, y, z)
    if settings.drop_last_slice:
        box = tuple(slice(s.start, max(s.stop - 1, s.start + 1)) for s in box)  # type: ignore[assignment]
    return box


def _statistics(
    study: Study, modality: str, inside: NDArray[np.float32], settings: Preprocessing
) -> tuple[float, float]:
    """What to subtract and what to divide by."""
    if settings.normalisation == "divide_255":
        return 0.0, 255.0
    if settings.normalisation == "percentiles":
        low, high = np.percentile(inside, PERCENTILES) if inside.size else (0.0, 0.0)
        shift, scale = float(low), float(high - low)
    else:
        shift, scale = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
    if scale == 0:
        raise ImageError(
            f"{study.case.scans[modality]} has the same value everywhere inside the brain.",
            "Leave this scan out: a modality that does not exist is absent, never a constant.",
        )
    return shift, scale
