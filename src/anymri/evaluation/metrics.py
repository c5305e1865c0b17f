"""Segmentation metrics, each with the name of its convention and a rule for empty masks.

Masks are bool (X, Y, Z) on one grid. Source: protocol sheet, section 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]

# The diagonal of a BraTS volume (240 x 240 x 155 mm), the usual HD95 of a region that only one of two masks has.
ONE_EMPTY_HD95_MM = 373.13

CONVENTIONS = {
    "dice": "2|A and B| / (|A| + |B|); both empty 1, one empty 0",
    "hd95": "95th percentile of both directed surface distances pooled (as medpy), mm; "
    f"both empty 0, one empty {ONE_EMPTY_HD95_MM}",
}


def dice(prediction: Mask, truth: Mask) -> float:
    """2|A and B| / (|A| + |B|); 1 if both masks are empty, 0 if one is."""
    size = np.count_nonzero(prediction) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(prediction & truth) / size if size else 1.0


def hd95(prediction: Mask, truth: Mask, spacing_mm: Sequence[float] = (1, 1, 1)) -> float:
    """95th percentile (linear interpolation) of the pooled distances from each surface voxel to the other surface.

    Surface voxels have a face neighbour outside the mask; outside the image counts as outside the mask. This is
    medpy's definition; MONAI takes the larger of the two directed percentiles, up to 2.3 times more. 0 if both masks
    are empty, `ONE_EMPTY_HD95_MM` if one is.
    """
    if not prediction.any() or not truth.any():
        return 0.0 if prediction.any() == truth.any() else ONE_EMPTY_HD95_MM
    box = find_objects((prediction | truth).view(np.uint8))[0]
    a, b = (_surface(mask[box]) * np.asarray(spacing_mm, dtype=float) for mask in (prediction, truth))
    distances = np.concatenate([KDTree(b).query(a)[0], KDTree(a).query(b)[0]])
    return float(np.percentile(distances, 95))


def _surface(mask: Mask) -> NDArray[np.intp]:
    """(n, 3) indices of the mask's voxels with at least one of six face neighbours outside it."""
    padded = np.pad(mask, 1)
    inner = (slice(1, -1),) * 3
    enclosed = mask.copy()
    for axis in range(3):
        for step in (-1, 1):
            enclosed &= np.roll(padded, step, axis)[inner]
    return np.argwhere(mask & ~enclosed)
