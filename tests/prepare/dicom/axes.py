"""Axes of series for tests: planes of acquisition, oblique and tilted stacks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Axes of the volume that become columns, rows and slices; rows grow to the feet in coronal and sagittal series.
PLANES = {"axial": ((0, 1, 2), ()), "coronal": ((0, 2, 1), (1,)), "sagittal": ((1, 2, 0), (1,))}


def in_plane(array: NDArray[Any], affine: NDArray[np.float64], plane: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return an LPS volume (x, y, z) and its affine with the axes of an axial, coronal or sagittal series."""
    order, flipped = PLANES[plane]
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for new, old in enumerate(order):
        step[old, new] = -1 if new in flipped else 1
        step[old, 3] = array.shape[old] - 1 if new in flipped else 0
    return np.flip(array.transpose(order), flipped), affine @ step


def rotated(affine: NDArray[np.float64], degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return an affine turned about the axes of the world, in the order x, y, z."""
    from scipy.spatial.transform import Rotation

    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    return turn @ affine


def sheared(affine: NDArray[np.float64], mm_per_slice: float) -> NDArray[np.float64]:
    """Return an affine whose slices advance along the rows too, as with a tilted gantry."""
    moved = affine.copy()
    moved[:3, 2] += mm_per_slice * affine[:3, 1] / np.linalg.norm(affine[:3, 1])
    return moved
