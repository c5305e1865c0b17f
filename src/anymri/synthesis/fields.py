"""Coordinates, ellipsoids and smooth random fields, of which phantoms are made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


def field(rng: Generator, size: int, cells: float) -> Floats:
    """Return a smooth random field (size, size, size): white noise on a coarse grid, interpolated by Gaussians.

    Each voxel has mean 0 and variance 1; there are about `cells` bumps per axis.
    """
    positions = np.arange(size) * (cells / size)
    knots = np.arange(-2, int(np.ceil(cells)) + 2)
    weights = np.exp(-0.5 * ((positions[:, None] - knots) / 0.7) ** 2)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    values = rng.standard_normal((len(knots),) * 3)
    for _ in range(3):  # each pass interpolates the first axis and moves it to the end
        values = np.einsum("ia,abc->bci", weights, values)
    return values.astype(np.float32)


def distance_to_zero(values: Floats) -> Floats:
    """Return the distance to the surface where a smooth field is zero, to first order."""
    slope = np.linalg.norm(np.gradient(values, 2 / len(values)), axis=0)
    distance: Floats = np.abs(values) / np.maximum(slope, 1.0)
    return distance


def axes(size: int) -> tuple[Floats, Floats, Floats]:
    """Return the coordinates of the voxel centres in -1..1 as (size, 1, 1), (1, size, 1) and (1, 1, size)."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    return line[:, None, None], line[None, :, None], line[None, None, :]


def ellipsoid(x: Floats, y: Floats, z: Floats, semi_axes: Iterable[float]) -> Floats:
    """Return the level of an ellipsoid around the origin: 0 in the middle, 1 on the surface."""
    a, b, c = semi_axes
    level: Floats = (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2
    return level
