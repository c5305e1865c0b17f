"""Distances between the surfaces of two masks, and what the field makes of them.

Three kinds of surface are in use, and their numbers differ:

    voxels   the mask's voxels with a face neighbour outside it (medpy)
    surfels  nodes between 2x2x2 voxels, each with the area of the surface that passes there (surface-distance, BraTS)
    sobel    voxels where a Sobel-like filter answers, on both sides of the border (XLSTM-HVED)

Outside the image counts as outside the mask. All functions take two non-empty masks: what an empty one scores is a rule
of each metric (`metrics.py`). Source: protocol sheet, sections 8 and 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d
from scipy.spatial import KDTree

from anymri.evaluation.metrics.overlap import Mask
from anymri.evaluation.metrics.surfels import surfel_areas, surfel_codes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Surface:
    """A surface as points.

    where   (X, Y, Z) bool, on the grid of voxels or of nodes
    points  (n, 3) mm, in the order of `where`
    areas   (n,) what each point stands for: mm², or ones
    """

    where: Mask
    points: Floats
    areas: Floats

    @cached_property
    def tree(self) -> KDTree:
        # Points of a grid hardly gain from a balanced tree, which takes several times longer to build.
        return KDTree(self.points, balanced_tree=False, compact_nodes=False)

    def distances_to(self, other: Surface) -> Floats:
        """(n,) mm from each point to the nearest of `other`, a surface on the same grid."""
        distances = np.zeros(len(self.points))
        apart = ~other.where[self.where]  # most points of similar masks are shared
        if apart.any():
            distances[apart] = other.tree.query(self.points[apart])[0]
        return distances


@dataclass(frozen=True)
class Gap:
    """Distances between the surfaces of a prediction (a) and the truth (b): (n,) and (m,) mm, with areas."""

    a: Floats
    b: Floats
    a_areas: Floats
    b_areas: Floats

    @classmethod
    def between(cls, a: Surface, b: Surface) -> Gap:
        return cls(a.distances_to(b), b.distances_to(a), a.areas, b.areas)

    def pooled_percentile(self, percent: float = 95) -> float:
        """Linear percentile of both lists together (medpy)."""
        return float(np.percentile(np.concatenate([self.a, self.b]), percent))

    def directed_percentile(self, percent: float = 95) -> float:
        """The larger of the lists' linear percentiles (MONAI), up to 2.3 times the pooled one."""
        return float(max(np.percentile(self.a, percent), np.percentile(self.b, percent)))

    def area_percentile(self, percent: float = 95) -> float:
        """The larger of the two distances within which so much of a surface's area lies (surface-distance)."""
        return max(_area_percentile(self.a, self.a_areas, percent), _area_percentile(self.b, self.b_areas, percent))

    def mean(self) -> float:
        """Mean of both lists together, not of the two means (medpy's ASSD in this version)."""
        return float(np.concatenate([self.a, self.b]).mean())

    def area_within(self, tolerance_mm: float) -> float:
        """Share of the area of both surfaces that lies within `tolerance_mm` of the other."""
        near = self.a_areas[self.a <= tolerance_mm].sum() + self.b_areas[self.b <= tolerance_mm].sum()
        return float(near / (self.a_areas.sum() + self.b_areas.sum()))

    def share_within(self, tolerance_mm: float) -> float:
        """Mean of the two surfaces' shares of points within `tolerance_mm` of the other (BraTS 2024)."""
        return float((np.mean(self.a <= tolerance_mm) + np.mean(self.b <= tolerance_mm)) / 2)


def voxel_surface(mask: Mask, spacing_mm: Sequence[float]) -> Surface:
    """Voxels of the mask with at least one of six face neighbours outside it."""
    padded = np.pad(mask, 1)
    inner = slice(1, -1)
    enclosed = padded[:-2, inner, inner] & padded[2:, inner, inner]
    enclosed &= padded[inner, :-2, inner] & padded[inner, 2:, inner]
    enclosed &= padded[inner, inner, :-2] & padded[inner, inner, 2:]
    return _unweighted(mask & ~enclosed, spacing_mm)


def surfel_surface(mask: Mask | NDArray[np.integer[Any]], spacing_mm: Sequence[float]) -> Surface:
    """Nodes, one more than voxels along each axis, of whose 8 voxels some but not all are in the mask."""
    codes = surfel_codes(mask)
    where = (codes != 0) & (codes != 255)
    areas = surfel_areas(tuple(float(s) for s in spacing_mm))[codes[where]]
    return Surface(where, _points(where, spacing_mm), areas)


def sobel_surface(mask: Mask) -> Surface:
    """Voxels of the image where one of three filters answers; XLSTM-HVED knows no spacing, so points are in voxels.

    mask  with a margin of one voxel, unless the image ends there: the surface lies on both sides of the border
    """
    filters = (([1, 2, 1], [1, 2, 1], [-1, 0, 1]), ([1, 1, 1], [-1, 0, 1], [1, 2, 1]), ([-1, 0, 1], [1] * 3, [1] * 3))
    where = np.zeros(mask.shape, dtype=bool)
    for weights in filters:
        answer = mask.astype(np.int32)
        for axis, line in enumerate(weights):
            answer = correlate1d(answer, line, axis, mode="constant")
        where |= answer != 0
    return _unweighted(where, (1, 1, 1))


def _unweighted(where: Mask, spacing_mm: Sequence[float]) -> Surface:
    points = _points(where, spacing_mm)
    return Surface(where, points, np.ones(len(points)))


def _points(where: Mask, spacing_mm: Sequence[float]) -> Floats:
    """(n, 3) mm; `argwhere` takes several times as long to find a few voxels in many."""
    indices = np.unravel_index(np.flatnonzero(where), where.shape)
    points: Floats = np.stack(indices, axis=1) * np.asarray(spacing_mm, dtype=float)
    return points


def _area_percentile(distances: Floats, areas: Floats, percent: float) -> float:
    order = np.argsort(distances, kind="stable")
    shares = np.cumsum(areas[order]) / areas.sum()
    reached = int(np.searchsorted(shares, percent / 100))
    return float(distances[order][min(reached, len(order) - 1)])
