"""Functions for numba: norm of channels with leaky ReLU, and its gradient (see `compiled_norm`).

Arrays are float32, those of `moments` and `normalise` perhaps bfloat16 as uint16. `rows` are (R, W), flat: W numbers of
one or more voxels side by side, a multiple of 16. `factors` have one row of W numbers for each thing that is known per
channel. Rows from `first` to `last` are processed. Imported only where numba is installed; `compiled` compiles the
functions that have a signature.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from anymri.layers.compiled import LANES
from anymri.layers.vectors import (
    add,
    constant,
    largest,
    load,
    multiply,
    multiply_add,
    store,
    subtract,
    where_positive,
)

# Rows whose float32 sums are still exact enough.
SUMMED = 64
SIGNATURES = {
    "moments": "void({}[::1], float32[::1], int64, int64, int64, float64[::1])",
    "normalise": "void({}[::1], {}[::1], float32[::1], float32, int64, int64, int64)",
    "gradient_sums": "void(float32[::1], float32[::1], float32[::1], float32, int64, int64, int64, float64[::1])",
    "differentiate": "void(float32[::1], float32[::1], float32[::1], float32[::1], float32, int64, int64, int64)",
}


@njit(error_model="numpy")
def flush(part: Any, sums: Any) -> None:
    """Add float32 sums to those in float64, and begin again."""
    for c in range(len(part)):
        sums[c] += part[c]
        part[c] = 0


def moments(rows: Any, middle: Any, width: int, first: int, last: int, sums: Any) -> None:
    """Add the sums over rows of the difference to `middle`, (W,), and of its square, to `sums`, (2 W,)."""
    part = np.zeros(2 * width, np.float32)
    for r in range(first, last):
        for c in range(0, width, LANES):
            difference = subtract(load(rows, r * width + c), load(middle, c))
            store(part, c, add(load(part, c), difference))
            store(part, width + c, multiply_add(difference, difference, load(part, width + c)))
        if (r - first) % SUMMED == SUMMED - 1:
            flush(part, sums)
    flush(part, sums)


@njit(error_model="numpy")
def normalise_row(rows: Any, place: int, output: Any, target: int, factors: Any, slope: float, width: int) -> None:
    """Write one row, from `place` of `rows` to `target` of `output`; see `normalise`."""
    slopes = constant(slope)
    for c in range(0, width, LANES):
        difference = subtract(load(rows, place + c), load(factors, c))
        normed = multiply_add(difference, load(factors, width + c), load(factors, 2 * width + c))
        store(output, target + c, largest(multiply(slopes, normed), normed))


def normalise(rows: Any, output: Any, factors: Any, slope: float, width: int, first: int, last: int) -> None:
    """Write leaky ReLU of (rows - middle) * scale + shift.

    factors  middle, scale and shift
    slope    of the leaky ReLU for negative values, at most 1
    """
    for r in range(first, last):
        normalise_row(rows, r * width, output, r * width, factors, slope, width)


@njit(error_model="numpy")
def before_activation(rows: Any, gradients: Any, factors: Any, slopes: Any, width: int, place: int, c: int) -> Any:
    """Return the difference to `middle` and the gradient of what the leaky ReLU received."""
    difference = subtract(load(rows, place + c), load(factors, c))
    normed = multiply_add(difference, load(factors, width + c), load(factors, 2 * width + c))
    gradient = load(gradients, place + c)
    return difference, where_positive(normed, gradient, multiply(slopes, gradient))


def gradient_sums(
    rows: Any, gradients: Any, factors: Any, slope: float, width: int, first: int, last: int, sums: Any
) -> None:
    """Add the sums over rows of the gradient before the leaky ReLU, and of its product with the difference to `middle`.

    factors, slope  as for `normalise`
    sums            (2 W,)
    """
    slopes, part = constant(slope), np.zeros(2 * width, np.float32)
    for r in range(first, last):
        for c in range(0, width, LANES):
            difference, gradient = before_activation(rows, gradients, factors, slopes, width, r * width, c)
            store(part, c, add(load(part, c), gradient))
            store(part, width + c, multiply_add(difference, gradient, load(part, width + c)))
        if (r - first) % SUMMED == SUMMED - 1:
            flush(part, sums)
    flush(part, sums)


def differentiate(
    rows: Any, gradients: Any, output: Any, factors: Any, slope: float, width: int, first: int, last: int
) -> None:
    """Write gradient * scale + (rows - middle) * factor + offset, of the gradient before the leaky ReLU.

    factors  middle, scale, shift, factor and offset
    """
    slopes = constant(slope)
    for r in range(first, last):
        for c in range(0, width, LANES):
            difference, gradient = before_activation(rows, gradients, factors, slopes, width, r * width, c)
            linear = multiply_add(difference, load(factors, 3 * width + c), load(factors, 4 * width + c))
            store(output, r * width + c, multiply_add(gradient, load(factors, width + c), linear))
