"""Anatomy of phantoms: the tissues of a healthy brain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from anymri.synthesis.fields import Floats, Mask, axes, distance_to_zero, ellipsoid, field

OUTSIDE, CSF, GREY, WHITE = range(4)


@dataclass(frozen=True)
class Anatomy:
    """Tissues of a healthy brain.

    tissue      (X, Y, Z) uint8: OUTSIDE, CSF, GREY or WHITE
    ventricles  (X, Y, Z) mask of the CSF in the ventricles, which a tumour does not enter
    depth       (X, Y, Z) distance from the surface of the brain, about 0.8 in the middle, negative outside
    """

    tissue: NDArray[np.uint8]
    ventricles: Mask
    depth: Floats


def draw_anatomy(rng: Generator, size: int) -> Anatomy:
    """Return an ellipsoid, flatter below, with a folded cortex, a fissure, ventricles and deep grey nuclei.

    A sulcus is the surface where a random field is zero, near that of the brain; grey matter follows both surfaces.
    """
    x, y, z = axes(size)
    width, length, height = rng.uniform((0.72, 0.88, 0.72), (0.80, 0.95, 0.80))
    radius = np.sqrt((x / width) ** 2 + (y / length) ** 2 + (z / np.where(z > 0, height, 0.75 * height)) ** 2)
    depth = ((1 - radius + 0.025 * field(rng, size, 5)) * 0.8).astype(np.float32)

    fissure = np.abs(x + 0.02 * field(rng, size, 3)) + np.maximum(0, depth - 0.30)
    sulci = distance_to_zero(field(rng, size, 11)) + np.maximum(0, depth - 0.22)
    cortex = np.minimum(depth, np.minimum(fissure, sulci))
    tissue = np.select([depth <= 0, cortex < 0.016, cortex < 0.080], [OUTSIDE, CSF, GREY], WHITE)

    wobble = 0.25 * field(rng, size, 6)
    side = np.abs(x)
    nuclei = ellipsoid(side - 0.25, y + 0.02, z + 0.05, (0.10, 0.20, 0.13)) + wobble < 1
    tissue[nuclei] = GREY
    swelling = rng.uniform(0.9, 1.4)
    horns = ellipsoid(side - 0.10 - 0.35 * y**2, y - 0.03, z - 0.08, (0.065 * swelling, 0.38, 0.10 * swelling))
    third = ellipsoid(x, y - 0.05, z + 0.08, (0.025 * swelling, 0.14, 0.10))
    ventricles = (np.minimum(horns, third) + wobble < 1) & (depth > 0)
    tissue[ventricles] = CSF
    return Anatomy(tissue.astype(np.uint8), ventricles, depth)
