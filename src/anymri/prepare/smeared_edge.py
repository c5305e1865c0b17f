"""Edges of skull-stripped scans that were interpolated afterwards: voxels that are brain in part only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Voxels at the edge with less than this share of the brightness of the brain are dark.
_DARK = 0.25
# Share of dark voxels at the edge, compared with the brain next to each, above which it is smeared: at most 0.5 in
# scans that were stripped last, and 0.8 or more in scans that were then resampled to 2 mm or to slices of 5 mm.
_SMEARED = 0.6


def without_smeared_edge(mask: NDArray[np.bool_], brightness: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return a mask of the brain without the voxels of a smeared edge that are brain by less than half.

    mask        (X, Y, Z) voxels that differ from the background
    brightness  (X, Y, Z) absolute difference from the background

    Interpolation of a stripped scan makes dim voxels around the brain, which differ from the background. A mask without
    a smeared edge is returned as it is.
    """
    inner = ndimage.binary_erosion(mask)
    edge = mask & ~inner
    # The median of the brain is compared first, because it costs little.
    if not inner.any() or _dark_share(brightness[edge], np.median(brightness[inner])) < _SMEARED:
        return mask
    share = ndimage.uniform_filter(inner.astype(np.float32), 3)[edge]
    near = ndimage.uniform_filter(np.where(inner, brightness, np.float32(0)), 3)[edge] / np.maximum(share, 1e-6)
    if _dark_share(brightness[edge], near) < _SMEARED:
        return mask
    inner[edge] = brightness[edge] >= 0.5 * near
    return inner


def _dark_share(edge: NDArray[np.float32], brain: NDArray[np.floating] | np.floating) -> float:
    return float(np.mean(edge < _DARK * brain))
