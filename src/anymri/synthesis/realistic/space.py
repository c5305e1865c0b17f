"""Grid of a synthetic volume, smooth random fields on it, and random streams."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class Space:
    """Grid of a volume: voxels per axis and their side in millimetres.

    The axes x, y, z point to left, posterior and superior, as in BraTS files. Positions in millimetres are counted
    from the middle of the volume, to the left, to the front and up: y has the opposite sign of the voxel index.
    """

    shape: tuple[int, int, int]
    spacing: float

    def lines(self) -> tuple[Floats, Floats, Floats]:
        """Return the positions of the voxel centres in millimetres: (X, 1, 1), (1, Y, 1) and (1, 1, Z)."""
        x, y, z = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(self.spacing) for n in self.shape)
        return x[:, None, None], -y[None, :, None], z[None, None, :]

    def positions(self, where: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        """Return the positions in millimetres of voxels given by their flat indices, each (N,)."""
        x, y, z = (line.ravel() for line in self.lines())
        i, j, k = np.unravel_index(where, self.shape)
        return x[i], y[j], z[k]

    def volume(self, values: NDArray[Value], where: NDArray[np.intp], outside: float) -> NDArray[Value]:
        """Return a volume (X, Y, Z) with `values` (N,) at the flat indices `where` (N,), and `outside` elsewhere."""
        whole = np.full(self.shape, outside, dtype=values.dtype)
        whole.ravel()[where] = values
        return whole


def stream(seed: int, index: int, name: str) -> Generator:
    """Return the random stream of one concern of a case.

    Concerns have streams of their own, so that one more draw in the scanner does not change the anatomy.
    """
    return Generator(PCG64(SeedSequence((seed, index, zlib.crc32(name.encode())))))


def smooth_field(rng: Generator, space: Space, bump_mm: float) -> Floats:
    """Return a random field (X, Y, Z) with mean 0, variance 1 and bumps about `bump_mm` wide.

    The field is a function of position in millimetres, so that it is the same on a finer grid of the same extent.
    """
    weights = []
    for voxels in space.shape:
        half = (voxels - 1) / 2
        reach = int(np.ceil(voxels * space.spacing / 2 / bump_mm)) + 2
        positions = (np.arange(voxels) - half) * space.spacing / bump_mm
        row = np.exp(-0.5 * ((positions[:, None] - np.arange(-reach, reach + 1)) / 0.7) ** 2)
        weights.append((row / np.linalg.norm(row, axis=1, keepdims=True)).astype(np.float32))
    values = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for weight in weights[::-1]:  # each pass interpolates the last axis and moves it to the front
        values = np.moveaxis(values, -1, 0)
        values = (weight @ values.reshape(len(values), -1)).reshape(len(weight), *values.shape[1:])
    return np.ascontiguousarray(values)


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Return a number between two positive limits, uniform in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
