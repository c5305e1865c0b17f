"""Shapes as signed distances in millimetres: negative inside, positive outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from anymri.synthesis.realistic.space import Floats

# Coordinates of points: x, y, z, each (N,). Shapes that exist on both sides take |x|.
Points = tuple[Floats, Floats, Floats]
Triple = tuple[float, float, float]
Knot = tuple[float, float, float, float]

FAR_MM = np.float32(99)


def ellipsoid(points: Points, centre: Triple, semi_axes: Triple) -> Floats:
    """Return the signed distance to an ellipsoid, exact on its surface to first order."""
    level = np.zeros_like(points[0])
    slope = np.zeros_like(points[0])
    for line, middle, axis in zip(points, centre, semi_axes, strict=True):
        part = (line - np.float32(middle)) * np.float32(1 / axis)
        part *= part
        level += part
        slope += part * np.float32(1 / axis**2)
    tiny = 1e-6  # in the middle, where level and slope vanish, the nearest surface counts
    level += np.float32(tiny)
    slope += np.float32(tiny / min(semi_axes) ** 2)
    distance: Floats = (np.sqrt(level) - 1) * np.sqrt(level / slope)
    return distance


def tube(points: Points, knots: Sequence[Knot]) -> Floats:
    """Return the signed distance to a bent tube.

    knots  x, y, z and radius in millimetres along its middle line, two or more
    """
    x, y, z = points
    nearest = np.full(x.shape, FAR_MM)
    for (ax, ay, az, ar), (bx, by, bz, br) in pairwise(knots):
        dx, dy, dz = bx - ax, by - ay, bz - az
        px, py, pz = x - np.float32(ax), y - np.float32(ay), z - np.float32(az)
        scale = 1 / (dx * dx + dy * dy + dz * dz)
        t = px * np.float32(dx * scale) + py * np.float32(dy * scale) + pz * np.float32(dz * scale)
        np.clip(t, 0, 1, out=t)
        px -= t * np.float32(dx)
        py -= t * np.float32(dy)
        pz -= t * np.float32(dz)
        distance = np.sqrt(px * px + py * py + pz * pz) - (np.float32(ar) + t * np.float32(br - ar))
        np.minimum(nearest, distance, out=nearest)
    return nearest


def union(first: Floats, second: Floats, blend_mm: float = 0) -> Floats:
    """Return the union of two shapes; within `blend_mm` of both surfaces it is filled to a smooth transition."""
    joined = np.minimum(first, second)
    if blend_mm > 0:
        gap = np.maximum(np.float32(blend_mm) - np.abs(first - second), 0)
        joined -= gap * gap * np.float32(0.25 / blend_mm)
    return joined


def inside_box(points: Points, low: Triple, high: Triple, shape: Callable[[Points], Floats]) -> Floats:
    """Return `shape(points)` where the points are in a box, and `FAR_MM` elsewhere: saves time for small shapes."""
    near = np.ones(points[0].shape, dtype=bool)
    for line, a, b in zip(points, low, high, strict=True):
        near &= (line > a) & (line < b)
    where = np.flatnonzero(near)
    distance = np.full(points[0].shape, FAR_MM)
    if len(where):
        distance[where] = shape((points[0][where], points[1][where], points[2][where]))
    return distance


def cover(distance: Floats, softness_mm: float) -> Floats:
    """Return the share of a voxel that a shape fills, 0 to 1, for voxels or transitions of `softness_mm`."""
    share: Floats = np.clip(np.float32(0.5) - distance * np.float32(1 / softness_mm), 0, 1)
    return share
