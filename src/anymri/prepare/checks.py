"""Checks of a raw study: whether its scans need a preparation, and whether they can be prepared at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import Image
from anymri.errors import GeometryError, ImageError
from anymri.prepare.brain import has_skull
from anymri.prepare.grid import Grid
from anymri.prepare.raw import RawStudy

# Voxels that differ from 1 mm by more than this are resampled: networks are trained at 1 mm.
SPACING_TOLERANCE_MM = 0.25
# Slices that are farther apart do not show the tumour well enough.
LARGEST_SPACING_MM = 10.0
# Brains of adults have 900 to 1900 mL, those of infants less; beyond these limits it is not a brain, or a part of one.
SMALLEST_BRAIN_ML, LARGEST_BRAIN_ML = 500.0, 2500.0
# Heads have more in front of their background.
SURELY_BRAIN_ML = 1800.0
# Largest area of the brain on a face of a scan, as a share of its largest parallel section: the brain stem is less.
LARGEST_CUT = 0.6
# From here on a message says that a part of the brain is not in the scan.
_NOTED_CUT = 0.3
_FACES = ("right", "left", "anterior", "posterior", "inferior", "superior")


def unlike_training(raw: RawStudy) -> list[str]:
    """Return a sentence for each scan whose voxels are not of about 1 mm."""
    return [
        f"The {modality} scan has voxels of {spacing_text(scan.image.spacing_mm)} mm."
        for modality, scan in raw.scans.items()
        if is_unlike_training(scan.image)
    ]


def is_unlike_training(image: Image) -> bool:
    """Return whether the voxels of an image are not of about 1 mm, on which networks are trained."""
    return max(abs(mm - 1) for mm in image.spacing_mm) > SPACING_TOLERANCE_MM


def shows_head(image: Image) -> bool:
    """Return whether a scan has the head around the brain, as `anymri.prepare.brain.has_skull` does, but faster.

    Brains that are cut out have a constant background; a volume of other voxels that is surely not more than that of
    a brain needs no further look.
    """
    from anymri.data.preprocessing import background_value

    value = background_value(image.array)
    if value is None:
        return True
    foreground = np.count_nonzero(image.array != value) * image.voxel_volume_ml
    return bool(foreground > SURELY_BRAIN_ML and has_skull(image))


def check_spacing(raw: RawStudy) -> None:
    """Raise `GeometryError` for a scan with slices more than 10 mm apart."""
    for modality, scan in raw.scans.items():
        if max(scan.image.spacing_mm) > LARGEST_SPACING_MM:
            raise GeometryError(
                f"{scan.image.path} ({modality}) has voxels of {spacing_text(scan.image.spacing_mm)} mm, more than "
                f"{LARGEST_SPACING_MM:g} mm along one axis.",
                f"Give a scan with thinner slices, or leave it out: {without(raw, modality)}",
            )


def check_brain(mask: NDArray[np.bool_], grid: Grid, raw: RawStudy, fixed: str) -> dict[str, float]:
    """Return the volume of the brain and how far it is cut off; raise `ImageError` if it cannot be a whole brain.

    mask  (X, Y, Z) on `grid`, whose axes are LPS and which covers the scan `fixed`
    """
    volume = float(mask.sum()) * grid.voxel_volume_ml
    path = raw.scans[fixed].image.path
    fix = (
        "Check that it is a scan of a whole head; if it is, give a mask of the brain by --brain-mask FILE, or try "
        "another method by --brain."
    )
    if not SMALLEST_BRAIN_ML <= volume <= LARGEST_BRAIN_ML:
        raise ImageError(
            f"The brain found in {path} has {volume:.0f} mL, and brains have {SMALLEST_BRAIN_ML:.0f} to "
            f"{LARGEST_BRAIN_ML:.0f} mL.",
            fix,
        )
    face, share = largest_cut(mask)
    if share > LARGEST_CUT:
        raise ImageError(
            f"{path} does not contain the {face} part of the brain: on that face of the scan, the brain has "
            f"{100 * share:.0f} % of its largest section.",
            "Give a scan of the whole head; networks are trained on whole brains.",
        )
    return {"volume_ml": volume, "cut_share": share}


def largest_cut(mask: NDArray[np.bool_]) -> tuple[str, float]:
    """Return the face of a volume (X, Y, Z) in LPS on which most of a mask is cut off, and the share.

    The share is the area of the mask on the face over that of its largest parallel section.
    """
    shares: dict[str, float] = {}
    for axis in range(3):
        areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        for face, area in zip(_FACES[2 * axis : 2 * axis + 2], (areas[0], areas[-1]), strict=True):
            shares[face] = float(area) / max(float(areas.max()), 1.0)
    face = max(shares, key=lambda name: shares[name])
    return face, shares[face]


def cut_is_noted(share: float) -> bool:
    """Return whether so much of the brain is cut off that a message says so."""
    return share > _NOTED_CUT


def without(raw: RawStudy, modality: str) -> str:
    """Return the option that leaves a modality out, or what to do if it is the only one."""
    others = [each for each in raw.scans if each != modality]
    return f"--subset {'+'.join(others)}" if others else "choose another scan."


def spacing_text(spacing: tuple[float, float, float]) -> str:
    """Return a spacing in words: 0.94 x 0.94 x 2.50."""
    return " x ".join(f"{mm:.2f}" for mm in spacing)


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient of two masks; 0 if both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 0.0
