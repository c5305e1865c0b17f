"""Warnings about scans that can be used, but are probably not what they are taken for."""

from __future__ import annotations

import warnings
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import Study
from anymri.data.image import Image
from anymri.data.preprocessing import background_value
from anymri.errors import InputWarning
from anymri.prepare.checks import dice
from anymri.prepare.raw import RawStudy

# Correlation of neighbouring voxels in the middle of a scan: over 0.6 in scans of heads, 0 in noise.
SMALLEST_CORRELATION = 0.3
# Dice of two brains on one grid: 0.96 and more if the scans are of one patient, about 0.9 if they are of two.
SMALLEST_OVERLAP = 0.93


def warn_of_doubts(raw: RawStudy) -> None:
    """Issue an `InputWarning` for scans that have the same voxels, and for scans without structure."""
    for (one, first), (other, second) in combinations(raw.scans.items(), 2):
        if np.array_equal(first.image.array, second.image.array):
            warnings.warn(
                f"The {one} and the {other} scan of {raw.name} have the same voxels: is one file given as both?",
                InputWarning,
                stacklevel=3,
            )
    for modality, scan in raw.scans.items():
        if fault := structure_fault(scan.image):
            warnings.warn(f"{scan.image.path} ({modality}): {fault}", InputWarning, stacklevel=3)


def warn_of_two_heads(raw: RawStudy, study: Study) -> None:
    """Issue an `InputWarning` for scans that are used as they are, but whose brains have different shapes.

    Scans without constant background are not compared, because their brains are not known.
    """
    brains = {modality: _foreground(image) for modality, image in study.images.items()}
    reference = brains[raw.reference]
    for modality, brain in brains.items() if reference is not None else ():
        if brain is not None and reference is not None and (overlap := dice(reference, brain)) < SMALLEST_OVERLAP:
            warnings.warn(
                f"The brains of the {modality} and the {raw.reference} scan of {raw.name} overlap by {overlap:.2f}, "
                "and those of one patient on one grid by 0.96 and more: are they of two patients? Examine them with "
                "`anymri doctor`.",
                InputWarning,
                stacklevel=3,
            )


def structure_fault(image: Image) -> str | None:
    """Return a sentence if neighbouring voxels in the middle third of a scan are unrelated, None otherwise."""
    middle = image.array[tuple(slice(side // 3, side - side // 3) for side in image.shape)]
    found = max(_correlation(middle, axis) for axis in range(3))
    if found >= SMALLEST_CORRELATION:
        return None
    return (
        f"neighbouring voxels in the middle of the scan are unrelated (correlation {found:.2f}, in scans of heads over "
        "0.6): is it noise or a test object, or was it decoded wrongly?"
    )


def _correlation(array: NDArray[np.float32], axis: int) -> float:
    """Return the correlation of voxels with their neighbours along an axis; 1 without neighbours or variation."""
    first = array.take(range(1, array.shape[axis]), axis).ravel().astype(np.float64)
    second = array.take(range(array.shape[axis] - 1), axis).ravel().astype(np.float64)
    if first.size < 2 or first.std() == 0 or second.std() == 0:
        return 1.0
    return float(np.corrcoef(first, second)[0, 1])


def _foreground(array: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    value = background_value(array)
    return None if value is None else array != value
