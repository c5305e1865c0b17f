"""Area of the surface of a mask at each node between 2x2x2 voxels: marching cubes through midpoints of cut edges.

With more than 4 of the 8 voxels set, the surface of the complement is taken; two set voxels across the diagonal of a
face are not connected. Source: protocol sheet, section 9.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.metrics.axes import Axes
from anymri.evaluation.metrics.overlap import Mask

Corner = tuple[int, int, int]
Edge = frozenset[Corner]

# Voxel (0, 0, 0) around a node has the weight 128, (0, 0, 1) 64, ... (1, 1, 1) 1.
CORNERS: tuple[Corner, ...] = tuple((x, y, z) for x, y, z in product((0, 1), repeat=3))


def surfel_codes(mask: Mask | NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Return which of the 8 voxels around each node are set, (X + 1, Y + 1, Z + 1) uint8.

    mask  (X, Y, Z) bool; numbers in its place multiply the weights of their voxels, modulo 256
    """
    padded = np.pad(mask, 1).astype(np.uint8)
    codes = np.zeros([n + 1 for n in mask.shape], dtype=np.uint8)
    for bit, (x, y, z) in enumerate(CORNERS):
        corner = padded[x : x + codes.shape[0], y : y + codes.shape[1], z : z + codes.shape[2]]
        codes += corner << (7 - bit)
    return codes


def surfel_areas(axes: Axes) -> NDArray[np.float64]:
    """Return the area of the surface for each code, (256,) mm²."""
    return _surfel_areas(tuple(axes.ravel().tolist()))


@cache
def _surfel_areas(numbers: tuple[float, ...]) -> NDArray[np.float64]:
    axes = np.reshape(numbers, (3, 3))
    return np.array([sum(_area(t @ axes.T) for t in triangles) for triangles in _triangles_by_code()])


@cache
def _triangles_by_code() -> list[list[NDArray[np.float64]]]:
    """Return the triangles of each code, (3, 3) vertices in voxels."""
    return [[t for polygon in _polygons(code) for t in _largest_triangulation(polygon)[1]] for code in range(256)]


def _polygons(code: int) -> list[list[NDArray[np.float64]]]:
    """Return the closed polygons through the midpoints of the edges that the surface cuts."""
    inside = {corner for bit, corner in enumerate(CORNERS) if code >> (7 - bit) & 1}
    if len(inside) > 4:
        inside = set(CORNERS) - inside
    neighbours: dict[Edge, list[Edge]] = {}
    for axis, side in product(range(3), (0, 1)):
        for a, b in _segments(_around(axis, side), inside):
            neighbours.setdefault(a, []).append(b)
            neighbours.setdefault(b, []).append(a)
    polygons = []
    while neighbours:
        edge = next(iter(neighbours))
        polygon = []
        while edge in neighbours:
            polygon.append(np.mean(sorted(edge), axis=0))
            following = [each for each in neighbours.pop(edge) if each in neighbours]
            edge = following[0] if following else edge
        polygons.append(polygon)
    return polygons


def _around(axis: int, side: int) -> list[Corner]:
    """Return the four corners of a face in the order of its outline."""
    corners: list[Corner] = []
    for square in ([0, 0], [0, 1], [1, 1], [1, 0]):
        square.insert(axis, side)
        x, y, z = square
        corners.append((x, y, z))
    return corners


def _segments(outline: list[Corner], inside: set[Corner]) -> list[tuple[Edge, Edge]]:
    """Return where the surface crosses a face: pairs of cut edges."""
    edges = [frozenset((outline[i - 1], outline[i])) for i in range(4)]  # edge i ends in corner i
    cut = [i for i in range(4) if (outline[i - 1] in inside) != (outline[i] in inside)]
    if len(cut) == 4:  # each of the two set corners is cut off alone
        return [(edges[i], edges[(i + 1) % 4]) for i in range(4) if outline[i] in inside]
    return [(edges[cut[0]], edges[cut[1]])] if cut else []


def _largest_triangulation(polygon: list[NDArray[np.float64]]) -> tuple[float, list[NDArray[np.float64]]]:
    """Return area and triangles, in voxels, of the triangulation of a bent polygon that has the largest area."""
    if len(polygon) < 3:
        return 0.0, []
    best: tuple[float, list[NDArray[np.float64]]] = (-1.0, [])
    for i in range(1, len(polygon) - 1):  # the triangle on the side from the last vertex to the first
        triangle = np.array([polygon[0], polygon[i], polygon[-1]])
        left, right = _largest_triangulation(polygon[: i + 1]), _largest_triangulation(polygon[i:])
        area = _area(triangle) + left[0] + right[0]
        if area > best[0] + 1e-12:
            best = area, [triangle, *left[1], *right[1]]
    return best


def _area(triangle: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])) / 2)
