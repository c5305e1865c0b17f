"""Counts of voxels: Dice, sensitivity, specificity, precision, volumes. Source: protocol sheet, sections 8 and 9."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

# A predicted ET of fewer voxels is emptied by the size rule of the missing-modality papers.
ET_SIZE_RULE_VOXELS = 500


def dice(prediction: Mask, truth: Mask) -> float:
    """Return 2|A and B| / (|A| + |B|) of two masks of one shape; 1 if both are empty, 0 if one is."""
    size = np.count_nonzero(prediction) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(prediction & truth) / size if size else 1.0


def dice_plus_one(prediction: Mask, truth: Mask) -> float:
    """Return 2|A and B| / (|A| + |B| + 1) of two masks of one shape; 0 if one or both are empty."""
    return 2 * np.count_nonzero(prediction & truth) / (np.count_nonzero(prediction) + np.count_nonzero(truth) + 1)


def sensitivity(prediction: Mask, truth: Mask) -> float:
    """Return the share of the truth that is predicted; with an empty truth 1 if the prediction is empty too, else 0."""
    return _share(prediction & truth, truth, prediction)


def precision(prediction: Mask, truth: Mask) -> float:
    """Return the share of the prediction that is true; with an empty prediction 1 if the truth is empty too, else 0."""
    return _share(prediction & truth, prediction, truth)


def specificity(prediction: Mask, truth: Mask, voxels: int) -> float:
    """Return the share of the background that is predicted as such; 1 if there is no background.

    voxels  number of voxels of the whole image, of which the masks may be a part
    """
    background = voxels - np.count_nonzero(truth)
    return 1 - np.count_nonzero(prediction & ~truth) / background if background else 1.0


def without_small(prediction: Mask) -> Mask:
    """Return the mask, or an empty one if it has fewer than `ET_SIZE_RULE_VOXELS` voxels."""
    return prediction if np.count_nonzero(prediction) >= ET_SIZE_RULE_VOXELS else np.zeros_like(prediction)


def _share(part: Mask, whole: Mask, other: Mask) -> float:
    if not whole.any():
        return float(not other.any())
    return np.count_nonzero(part) / np.count_nonzero(whole)
