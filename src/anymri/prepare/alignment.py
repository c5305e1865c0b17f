"""Brains of the scans of a study, and the transforms that bring the scans onto one of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import as_brain_mask
from anymri.data.image import Image
from anymri.errors import GeometryError, ImageError, InputWarning
from anymri.modalities import REFERENCE_ORDER
from anymri.prepare.brain import BrainMask, find_brain
from anymri.prepare.checks import dice, spacing_text, without
from anymri.prepare.grid import Grid, study_grid
from anymri.prepare.raw import RawStudy
from anymri.prepare.registration import register
from anymri.prepare.resampling import resample
from anymri.prepare.steps import STUDY, Record

Transform = NDArray[np.float64]

# Dice of two brain masks, each made from its scan alone: about 0.94 for aligned scans, 0.8 for others.
ALIGNED, NOT_ALIGNED = 0.9, 0.85
# Scans on one grid that were registered before have at least this overlap.
_OVERLAP_SPACING_MM = 2.0

# Method of `anymri.prepare.brain.find_brain` -> sentence of the record.
_HOW_FOUND = {
    "background": "The scan shows the brain alone, which is what differs from the background.",
    "deepbet": "The brain was found by deepbet.",
    "hd-bet": "The brain was found by HD-BET.",
    "fallback": "The brain was found by simple thresholds, which is rough.",
}


def best_scan(raw: RawStudy) -> str:
    """Return the modality that the others are brought onto.

    It is the one with the finest slices; of scans whose largest spacings are equal to 0.1 mm, the first of T1c, FLAIR,
    T2 and T1.
    """

    def rank(modality: str) -> tuple[float, int]:
        return round(max(raw.scans[modality].image.spacing_mm), 1), REFERENCE_ORDER.index(modality)

    return min(raw.scans, key=rank)


def find_brains(raw: RawStudy, method: str, record: Record) -> dict[str, BrainMask]:
    """Return the brain mask of each scan, in the orientation of its file.

    method  see `anymri.prepare.brain.find_brain`

    A mask that the user gave counts for all scans on its grid.
    """
    brains = {}
    mask, owner = raw.brain_mask, mask_owner(raw)
    for modality, scan in raw.scans.items():
        grid = Grid.of(scan.image)
        if mask is not None and (modality == owner or grid.same_as(Grid.of(raw.scans[owner].image))):
            inside = resample(as_brain_mask(mask.array, mask.path), mask.affine, grid) >= 0.5
            brain = BrainMask(inside, "given", float(inside.sum()) * grid.voxel_volume_ml)
            why = f"The brain mask {mask.path.name} is used."
        else:
            brain = find_brain(scan.image, method)
            why = _HOW_FOUND[brain.method]
        if not brain.mask.any():
            raise ImageError(
                f"No brain was found in {scan.image.path} ({modality}).",
                f"Check that it is a scan of a head, give --brain-mask FILE, or leave it out: {without(raw, modality)}",
            )
        record.add(modality, "brain", why, method=brain.method, volume_ml=brain.volume_ml)
        brains[modality] = brain
    return brains


def mask_owner(raw: RawStudy) -> str:
    """Return the modality of the scan whose position the given brain mask has: that with its grid, or the reference."""
    if raw.brain_mask is not None:
        grid = study_grid(raw.brain_mask)
        for modality in REFERENCE_ORDER:
            if modality in raw.scans and study_grid(raw.scans[modality].image).same_as(grid):
                return modality
    return raw.reference


def header_overlap(one: Image, one_brain: BrainMask, other: Image, other_brain: BrainMask) -> float:
    """Return the Dice of two brain masks in the positions that the headers give, on a grid of 2 mm."""
    grid = study_grid(one, _OVERLAP_SPACING_MM)
    first = resample(one_brain.mask, one.affine, grid) >= 0.5
    second = resample(other_brain.mask, other.affine, grid) >= 0.5
    return dice(first, second)


def align(
    raw: RawStudy, brains: Mapping[str, BrainMask], fixed: str, registration: bool, record: Record
) -> dict[str, Transform]:
    """Return modality -> (4, 4) transform from the world of the fixed scan to that of the scan, RAS+ millimetres.

    brains        empty if none were looked for
    registration  whether scans may be moved; otherwise their headers are trusted

    Raises `GeometryError` if a registration fails its checks.
    """
    anchor = raw.scans[fixed].image
    why = f"The {fixed} scan is the one that others are brought onto: its slices are the finest"
    why += ", or it comes first of T1c, FLAIR, T2 and T1 with slices as fine."
    record.add(fixed, "reference", why, spacing_mm=anchor.spacing_mm)
    transforms = {fixed: np.eye(4)}
    for modality, scan in raw.scans.items():
        if modality == fixed:
            continue
        shares_grid = study_grid(scan.image).same_as(study_grid(anchor))
        overlap = None
        if brains and (shares_grid or not registration):
            overlap = header_overlap(anchor, brains[fixed], scan.image, brains[modality])
        if not registration or (shares_grid and (overlap is None or overlap >= ALIGNED)):
            transforms[modality] = np.eye(4)
            _keep(modality, fixed, overlap, registration, record)
        else:
            transforms[modality] = _register(raw, modality, fixed, brains, record)
    return {modality: transforms[modality] for modality in raw.scans}


def _keep(modality: str, fixed: str, overlap: float | None, registration: bool, record: Record) -> None:
    """Record that the header of a scan is trusted; warn if the brains do not lie on each other."""
    why = f"The {modality} and the {fixed} scan are on one grid and are not moved."
    if not registration:
        why = f"The {modality} scan is not registered, as requested; its header is trusted."
    if overlap is None:
        record.add(modality, "registration", why, kept=True)
        return
    record.add(modality, "registration", why, kept=True, overlap=overlap)
    if overlap < NOT_ALIGNED:
        warnings.warn(
            f"The brains of the {modality} and the {fixed} scan overlap by {overlap:.2f} only, and aligned scans by "
            "about 0.94: without registration, expect errors.",
            InputWarning,
            stacklevel=4,
        )


def _register(raw: RawStudy, modality: str, fixed: str, brains: Mapping[str, BrainMask], record: Record) -> Transform:
    moving, anchor = raw.scans[modality].image, raw.scans[fixed].image
    masks = (brains[modality].mask, brains[fixed].mask) if brains else (None, None)
    found = register(moving, anchor, *masks)
    if not found.accepted:
        raise GeometryError(
            f"{moving.path} ({modality}) cannot be aligned with {anchor.path} ({fixed}): {found.reason}",
            "Check that both are scans of one patient; then give scans that are aligned and use --no-registration, or "
            f"leave the scan out: {without(raw, modality)}",
        )
    record.add(
        modality,
        "registration",
        f"The {modality} scan was brought onto the {fixed} scan. {found.reason}",
        kept=bool(np.array_equal(found.transform, np.eye(4))),
        overlap=found.overlap,
        overlap_before=found.overlap_before,
        residual_mm=found.residual_mm,
        shift_mm=found.shift_mm,
        angle_degrees=found.angle_degrees,
    )
    return found.transform


def describe(raw: RawStudy, record: Record) -> None:
    """Record the grids of the scans as they were found."""
    for modality, scan in raw.scans.items():
        size = "x".join(map(str, scan.image.shape))
        why = f"The scan has {size} voxels of {spacing_text(scan.image.spacing_mm)} mm, {scan.image.orientation}."
        record.add(modality, "found", why, shape=scan.image.shape, spacing_mm=scan.image.spacing_mm)
    for sentence in raw.left_out:
        record.add(STUDY, "left out", sentence)
