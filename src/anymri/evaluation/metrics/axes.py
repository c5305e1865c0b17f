"""Axes of voxels in mm, from which distances, areas and volumes are computed, also on sheared grids.

Axes are a (3, 3) matrix. Column k is the step in mm from a voxel to the next along array axis k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Axes = NDArray[np.float64]

# Largest cosine of an angle that counts as a right one; the float32 of headers gives up to 2e-7.
_COSINE_TOLERANCE = 1e-6


def axes_of(affine: NDArray[np.float64]) -> Axes:
    """Return the axes of the voxels of a volume.

    affine   (4, 4): voxel indices to mm
    returns  (3, 3): the diagonal matrix of the sizes where all angles are right, because rotation changes no distance;
             elsewhere the part of the affine without the origin
    """
    axes = affine[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    cosines = (axes / sizes).T @ (axes / sizes) - np.eye(3)
    return np.diag(sizes) if np.abs(cosines).max() <= _COSINE_TOLERANCE else axes


def as_axes(voxel_mm: Sequence[float] | Axes) -> Axes:
    """Return axes, (3, 3) mm, from axes or from the sizes of a box-shaped voxel along X, Y, Z."""
    given = np.asarray(voxel_mm, dtype=float)
    return np.diag(given) if given.ndim == 1 else given


def voxel_mm3(axes: Axes) -> float:
    """Return the volume of a voxel in mm³."""
    x, y, z = axes.T
    return abs(float(np.cross(x, y) @ z))
