"""Function for numba: the product of Gaussians of some modalities (see `gaussians`).

Imported only where numba is installed; `compiled` compiles the functions that have a signature.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from anymri.layers.compiled import LANES
from anymri.layers.vectors import (
    LOG2_E,
    add,
    constant,
    divide,
    exp2,
    halves_of_2,
    halves_of_4,
    halves_of_8,
    largest,
    load,
    multiply,
    multiply_add,
    store,
    subtract,
)

SIGNATURES = {
    "fuse": "void({}[::1], boolean[::1], float32[::1], float32[::1], float32, float32, float32, float32, "
    "UniTuple(int64, 3), int64, int64)"
}


@njit(error_model="numpy")
def mean_and_logarithm(moments: Any, place: int, k: int, channels: int) -> Any:
    """Return 16 means and log-variances of a row, (Z, 2 C) from `place` on: those from k on of (Z, C)."""
    if channels % LANES == 0:
        place += k + k // channels * channels
        return load(moments, place), load(moments, place + channels)
    first, second = load(moments, place + 2 * k), load(moments, place + 2 * k + LANES)
    if channels == 8:
        return halves_of_8(first, second)
    return halves_of_4(first, second) if channels == 4 else halves_of_2(first, second)


@njit(error_model="numpy")
def clamped(vector: Any, limit: float) -> Any:
    """Return numbers of at least -limit and at most limit; NaN remains NaN."""
    zero, least = constant(np.float32(0)), constant(-limit)
    return subtract(zero, largest(least, subtract(zero, largest(least, vector))))


def fuse(
    moments: Any, available: Any, mean: Any, variance: Any, limit: float, eps: float, prior: float, floor: float,
    sizes: Any, first: int, last: int,
) -> None:  # fmt: skip
    """Write mean and variance of the product of the available modalities' Gaussians and a prior of mean 0.

    Rows of voxels from `first` to `last` are processed. Arrays are flat.

    moments         (M, R, Z, 2 C): means, then log-variances; float32, or bfloat16 as uint16
    mean, variance  (R, Z, C)
    limit           of the size of log-variances
    eps             added to the variances of the modalities
    prior           precision of the prior
    floor           added to the variance of the product
    sizes           R, Z and C; C is 2, 4, 8 or a multiple of 16, and Z C a multiple of 16
    """
    rows, sides_z, channels = sizes
    length = sides_z * channels
    precision, weighted = np.zeros(length, np.float32), np.zeros(length, np.float32)
    one = constant(np.float32(1))
    for r in range(first, last):
        precision[:] = prior
        weighted[:] = np.float32(0)
        for m in range(len(available)):
            if available[m]:
                place = 2 * length * (m * rows + r)
                for k in range(0, length, LANES):
                    its_mean, logarithm = mean_and_logarithm(moments, place, k, channels)
                    power = exp2(multiply(clamped(logarithm, limit), constant(LOG2_E)))
                    each = divide(one, add(power, constant(eps)))
                    store(precision, k, add(load(precision, k), each))
                    store(weighted, k, multiply_add(each, its_mean, load(weighted, k)))
        for k in range(0, length, LANES):
            inverse = divide(one, load(precision, k))
            store(mean, r * length + k, multiply(load(weighted, k), inverse))
            store(variance, r * length + k, add(inverse, constant(floor)))
