"""The common grid of a study: one brain mask for all scans, and the scans resampled to 1 mm."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import Image
from anymri.errors import InputWarning
from anymri.prepare.alignment import Transform, mask_owner
from anymri.prepare.brain import BrainMask, vote
from anymri.prepare.checks import check_brain, cut_is_noted, largest_cut
from anymri.prepare.grid import Grid, study_grid
from anymri.prepare.raw import RawStudy
from anymri.prepare.resampling import resample
from anymri.prepare.steps import STUDY, Record

if TYPE_CHECKING:
    from anymri.data.prepared import Box

# Distance kept around the brain, mm.
MARGIN_MM = 6.0
# Share of the brain that a scan must show without a note.
SMALLEST_COVERAGE = 0.9
# Percentile of the darkest intensities of scans with negative values.
DARKEST_PERCENT = 0.1


def grid_of_brain(
    raw: RawStudy, brains: Mapping[str, BrainMask], transforms: Mapping[str, Transform], fixed: str, record: Record
) -> tuple[Grid, NDArray[np.bool_] | None]:
    """Return the grid of 1 mm around the brain, and the brain mask on it; without brains the whole scan and None."""
    whole = study_grid(raw.scans[fixed].image)
    if not brains:
        record.add(STUDY, "grid", "The grid of 1 mm covers the whole scan.", shape=whole.shape)
        return whole, None
    owner = mask_owner(raw)
    given = brains[owner].method == "given"
    masks = []
    for modality in [owner] if given else list(brains):
        scan = raw.scans[modality].image
        masks.append(resample(brains[modality].mask, scan.affine, whole, transforms[modality], outside=np.nan))
    mask = _voted(masks)
    figures = check_brain(mask, whole, raw, fixed)
    face, share = largest_cut(mask)
    if cut_is_noted(share):
        warnings.warn(
            f"{raw.scans[fixed].image.path} does not contain all of the brain: the {face} part is cut off.",
            InputWarning,
            stacklevel=3,
        )
    why = "The given brain mask is that of the study." if given else "The brain masks of the scans were voted to one."
    record.add(STUDY, "mask", why, masks=len(masks), **figures)
    grid, place = _around(mask, whole)
    record.add(STUDY, "grid", "The grid of 1 mm covers the brain and a margin.", shape=grid.shape, margin_mm=MARGIN_MM)
    return grid, np.ascontiguousarray(mask[place])


def _voted(masks: list[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Return the mask that most scans agree on.

    masks  (X, Y, Z) in 0..1, NaN outside the field of view of the scan, where the other scans decide
    """
    inside = [mask >= 0.5 for mask in masks]  # False where NaN
    seen = np.sum([np.isfinite(mask) for mask in masks], axis=0, dtype=np.int16)
    most = (2 * np.sum(inside, axis=0, dtype=np.int16) >= seen) & (seen > 0)
    for mask, each in zip(masks, inside, strict=True):
        np.copyto(each, most, where=np.isnan(mask))
    return vote(inside)


def _around(mask: NDArray[np.bool_], grid: Grid) -> tuple[Grid, Box]:
    """Return the part of a grid of 1 mm around a mask, and its position."""
    margin = round(MARGIN_MM)
    starts, sides, box = [], [], []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        first, end = max(int(found[0]) - margin, 0), min(int(found[-1]) + 1 + margin, mask.shape[axis])
        starts.append(first)
        sides.append(end - first)
        box.append(slice(first, end))
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ starts
    return Grid((sides[0], sides[1], sides[2]), affine), (box[0], box[1], box[2])


def resampled(
    raw: RawStudy, modality: str, grid: Grid, transform: Transform, mask: NDArray[np.bool_] | None, record: Record
) -> NDArray[np.float32]:
    """Return a scan on the grid, with background 0 and nothing outside the mask."""
    scan = raw.scans[modality].image
    dark = _dark_value(scan)
    array = resample(scan.array, scan.affine, grid, transform, outside=np.nan)
    outside = np.isnan(array)
    array -= np.float32(dark)
    array[outside] = 0
    why = "The scan was resampled to the grid of the study by linear interpolation."
    figures: dict[str, float] = {"subtracted": dark}
    if mask is not None:
        array[~mask] = 0
        why += " Voxels outside the brain are 0."
        figures["covered_share"] = 1 - float(np.count_nonzero(outside & mask)) / np.count_nonzero(mask)
        if figures["covered_share"] < SMALLEST_COVERAGE:
            warnings.warn(
                f"{scan.path} ({modality}) shows only {100 * figures['covered_share']:.0f} % of the brain.",
                InputWarning,
                stacklevel=4,
            )
    record.add(modality, "resampling", why, **figures)
    return array


def _dark_value(scan: Image) -> float:
    """Return what to subtract so that the background of a scan is 0: its constant background, or the darkest air."""
    from anymri.data.preprocessing import background_value

    value = background_value(scan.array)
    if value is not None:
        return value
    return min(float(np.percentile(scan.array, DARKEST_PERCENT)), 0.0)
