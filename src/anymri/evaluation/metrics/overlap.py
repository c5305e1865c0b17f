"""Counts of voxels: Dice, sensitivity, specificity, precision, volumes. Source: protocol sheet, sections 8 and 9."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

# Below so many voxels a predicted ET counts as none under the size rule of the missing-modality papers.
ET_SIZE_RULE_VOXELS = 500


def dice(prediction: Mask, truth: Mask) -> float:
    """2|A and B| / (|A| + |B|); 1 if both masks are empty, 0 if one is."""
    size = np.count_nonzero(prediction) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(prediction & truth) / size if size else 1.0


def sensitivity(prediction: Mask, truth: Mask) -> float:
    """Share of the truth that is predicted; with an empty truth 1 if the prediction is empty too, else 0."""
    return _share(prediction & truth, truth, prediction)


def precision(prediction: Mask, truth: Mask) -> float:
    """Share of the prediction that is true; with an empty prediction 1 if the truth is empty too, else 0."""
    return _share(prediction & truth, prediction, truth)


def specificity(prediction: Mask, truth: Mask, voxels: int) -> float:
    """Share of the background of a whole image of `voxels` that is left free; 1 if there is no background."""
    background = voxels - np.count_nonzero(truth)
    return 1 - np.count_nonzero(prediction & ~truth) / background if background else 1.0


def without_small(prediction: Mask) -> Mask:
    """The mask, or an empty one if it has fewer than `ET_SIZE_RULE_VOXELS` voxels."""
    return prediction if np.count_nonzero(prediction) >= ET_SIZE_RULE_VOXELS else np.zeros_like(prediction)


def _share(part: Mask, whole: Mask, other: Mask) -> float:
    if not whole.any():
        return float(not other.any())
    return np.count_nonzero(part) / np.count_nonzero(whole)
