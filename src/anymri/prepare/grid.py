"""Grids: the positions of the voxels of a volume in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import Image, to_lps

# Two grids are the same if no corner voxels are farther apart; rounding of headers is far smaller.
TOLERANCE_MM = 0.01
# Share of a voxel by which a scan may end after the last voxel of its isotropic grid; spacings are rounded in headers.
_ROUNDING = 0.05


@dataclass(frozen=True, eq=False)
class Grid:
    """Positions of the voxels of a volume.

    shape   voxels along x, y and z
    affine  (4, 4) float64: voxel indices to RAS+ millimetres
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @classmethod
    def of(cls, image: Image) -> Grid:
        """Return the grid of a scan in the orientation of its file."""
        return cls(image.shape, np.asarray(image.affine, dtype=np.float64))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along x, y and z."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def corners_mm(self) -> NDArray[np.float64]:
        """World coordinates (8, 3) of the outer corners of the corner voxels, RAS+ millimetres."""
        indices = np.array(list(np.ndindex(2, 2, 2))) * np.array(self.shape) - 0.5
        corners: NDArray[np.float64] = indices @ self.affine[:3, :3].T + self.affine[:3, 3]
        return corners

    def same_as(self, other: Grid, tolerance_mm: float = TOLERANCE_MM) -> bool:
        """Return whether both grids have the same shape and no corners farther apart than the tolerance."""
        if self.shape != other.shape:
            return False
        apart = np.linalg.norm(self.corners_mm - other.corners_mm, axis=1)
        return bool(apart.max() <= tolerance_mm)


def study_grid(image: Image, spacing_mm: float = 1.0) -> Grid:
    """Return the isotropic grid that covers a scan, with axes along those of the scan, in LPS.

    A scan that is isotropic with this spacing gives its own voxels. Axes that are not perpendicular (sheared affines)
    are replaced by the nearest ones that are.
    """
    array, affine = to_lps(image.array, image.affine)
    directions = _nearest_rotation(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    x, y, z = array.shape
    corners = Grid((x, y, z), affine).corners_mm @ directions
    low, high = corners.min(axis=0), corners.max(axis=0)
    sides = np.maximum(np.ceil((high - low) / spacing_mm - _ROUNDING), 1).astype(int)
    first = (low + high - (sides - 1) * spacing_mm) / 2
    covering = np.eye(4)
    covering[:3, :3] = directions * spacing_mm
    covering[:3, 3] = directions @ first
    return Grid((int(sides[0]), int(sides[1]), int(sides[2])), covering)


def _nearest_rotation(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the orthonormal matrix (3, 3) that is nearest to the given directions, mirrored if they are."""
    left, _, right = np.linalg.svd(directions)
    nearest: NDArray[np.float64] = left @ right
    return nearest
