"""Distances between the surfaces of two masks, and the statistics of them that metrics use.

Three kinds of surface are in use, and their numbers differ:

    voxels   the mask's voxels with a face neighbour outside it (medpy)
    surfels  nodes between 2x2x2 voxels, each with the area of the surface that passes there (surface-distance, BraTS)
    sobel    voxels where a Sobel-like filter is not zero, on both sides of the border (XLSTM-HVED)

Outside the image counts as outside the mask. All functions take two masks that are not empty: the values for empty
masks are a rule of each metric (`definitions.py`). Source: protocol sheet, sections 8 and 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.metrics.axes import Axes
from anymri.evaluation.metrics.overlap import Mask
from anymri.evaluation.metrics.surfels import surfel_areas, surfel_codes

if TYPE_CHECKING:
    from scipy.spatial import KDTree

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """Surface of a mask as points.

    where   (X, Y, Z) bool, on the grid of voxels or of nodes
    points  (n, 3) mm, in the order of `where`
    areas   (n,) weight of each point: mm², or ones
    """

    where: Mask
    points: Floats
    areas: Floats

    @cached_property
    def tree(self) -> KDTree:
        """Search tree of the points."""
        from scipy.spatial import KDTree

        # Points of a grid hardly gain from a balanced tree, which takes several times longer to build.
        return KDTree(self.points, balanced_tree=False, compact_nodes=False)

    def distances_to(self, other: Surface) -> Floats:
        """Return the distance from each point to the nearest of `other`, (n,) mm; both surfaces are on one grid."""
        distances = np.zeros(len(self.points))
        apart = ~other.where[self.where]  # most points of similar masks are shared
        if apart.any():
            distances[apart] = other.tree.query(self.points[apart])[0]
        return distances


@dataclass(frozen=True)
class Gap:
    """Distances between the surfaces of a prediction (a) and the truth (b).

    a, b              (n,) and (m,) mm, from each point to the nearest of the other surface
    a_areas, b_areas  (n,) and (m,) weights of the points
    """

    a: Floats
    b: Floats
    a_areas: Floats
    b_areas: Floats

    @classmethod
    def between(cls, a: Surface, b: Surface) -> Gap:
        """Return the distances between two surfaces on one grid."""
        return cls(a.distances_to(b), b.distances_to(a), a.areas, b.areas)

    def pooled_percentile(self, percent: float = 95) -> float:
        """Return the linear percentile of both lists together, mm (medpy)."""
        return float(np.percentile(np.concatenate([self.a, self.b]), percent))

    def directed_percentile(self, percent: float = 95) -> float:
        """Return the larger of the lists' linear percentiles, mm (MONAI), up to 2.3 times the pooled one."""
        return float(max(np.percentile(self.a, percent), np.percentile(self.b, percent)))

    def area_percentile(self, percent: float = 95) -> float:
        """Return the larger of the distances within which this share of a surface's area is, mm (surface-distance)."""
        return max(_area_percentile(self.a, self.a_areas, percent), _area_percentile(self.b, self.b_areas, percent))

    def mean(self) -> float:
        """Return the mean of both lists together, mm, not of the two means (ASSD as in current medpy)."""
        return float(np.concatenate([self.a, self.b]).mean())

    def area_within(self, tolerance_mm: float) -> float:
        """Return the share of the area of both surfaces that is within `tolerance_mm` of the other."""
        near = self.a_areas[self.a <= tolerance_mm].sum() + self.b_areas[self.b <= tolerance_mm].sum()
        return float(near / (self.a_areas.sum() + self.b_areas.sum()))

    def share_within(self, tolerance_mm: float) -> float:
        """Return the mean of the two surfaces' shares of points within `tolerance_mm` of the other (BraTS 2024)."""
        return float((np.mean(self.a <= tolerance_mm) + np.mean(self.b <= tolerance_mm)) / 2)


def voxel_surface(mask: Mask, axes: Axes) -> Surface:
    """Return the voxels of a mask (X, Y, Z) with at least one of six face neighbours outside it."""
    padded = np.pad(mask, 1)
    inner = slice(1, -1)
    enclosed = padded[:-2, inner, inner] & padded[2:, inner, inner]
    enclosed &= padded[inner, :-2, inner] & padded[inner, 2:, inner]
    enclosed &= padded[inner, inner, :-2] & padded[inner, inner, 2:]
    return _unweighted(mask & ~enclosed, axes)


def surfel_surface(mask: Mask | NDArray[np.integer[Any]], axes: Axes) -> Surface:
    """Return the nodes, one more than voxels per axis, of whose 8 voxels some but not all are in a mask (X, Y, Z)."""
    codes = surfel_codes(mask)
    where = (codes != 0) & (codes != 255)
    areas = surfel_areas(axes)[codes[where]]
    return Surface(where, _points(where, axes), areas)


def sobel_surface(mask: Mask) -> Surface:
    """Return the voxels where one of three filters is not zero; points are in voxels, as in XLSTM-HVED.

    mask  (X, Y, Z) bool with a margin of one voxel, unless the image ends there: the surface is on both sides of the
          border
    """
    from scipy.ndimage import correlate1d

    filters = (([1, 2, 1], [1, 2, 1], [-1, 0, 1]), ([1, 1, 1], [-1, 0, 1], [1, 2, 1]), ([-1, 0, 1], [1] * 3, [1] * 3))
    where = np.zeros(mask.shape, dtype=bool)
    for weights in filters:
        filtered = mask.astype(np.int32)
        for axis, line in enumerate(weights):
            filtered = correlate1d(filtered, line, axis, mode="constant")
        where |= filtered != 0
    return _unweighted(where, np.eye(3))


def _unweighted(where: Mask, axes: Axes) -> Surface:
    points = _points(where, axes)
    return Surface(where, points, np.ones(len(points)))


def _points(where: Mask, axes: Axes) -> Floats:
    """Return (n, 3) mm; `argwhere` takes several times as long to find a few voxels in many."""
    indices = np.unravel_index(np.flatnonzero(where), where.shape)
    points: Floats = np.stack(indices, axis=1) @ axes.T
    return points


def _area_percentile(distances: Floats, areas: Floats, percent: float) -> float:
    order = np.argsort(distances, kind="stable")
    shares = np.cumsum(areas[order]) / areas.sum()
    reached = int(np.searchsorted(shares, percent / 100))
    return float(distances[order][min(reached, len(order) - 1)])
