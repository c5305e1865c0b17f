"""Functions for numba: 3x3x3 convolution with few output channels, and its gradients (see `compiled_convolution`).

A vector holds 16 voxels along z of one channel. So features, which are channels last, are transposed plane by plane
along x; the three planes that a kernel reaches are kept in a ring, with their margin. Arrays are float32 and flat.

sizes  X, Y, Z and C of the features; Z is a multiple of 16

Output planes from `first` to `last` along x are processed. Imported only where numba is installed; `compiled` compiles
the functions that have a signature.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from anymri.layers.compiled import LANES
from anymri.layers.compiled_convolution import GROUP
from anymri.layers.norm_kernels import normalise_row
from anymri.layers.scan_kernels import to_rows
from anymri.layers.vectors import (
    add_products,
    block_of,
    load,
    multiply_add,
    pair,
    store,
    store_block,
    total,
    transpose,
)

SIGNATURES = {
    "convolve": "void(float32[::1], float32[::1], float32[::1], float32[::1], float32, boolean, UniTuple(int64, 4), "
    "int64, int64, int64, {}, {})",
    "differentiate": "void(float32[::1], float32[::1], float64[::1], UniTuple(int64, 4), int64, int64, int64)",
}


@njit(error_model="numpy")
def row_length(z: int) -> int:
    """Return the numbers of a row of a ring: one of margin, the voxels up to a multiple of 64, and a vector."""
    return (z + 4 * LANES - 1) // (4 * LANES) * 4 * LANES + LANES


@njit(error_model="numpy")
def normalise_line(features: Any, place: int, count: int, factors: Any, slope: float, line: Any) -> None:
    """Copy `count` numbers; with factors, leaky ReLU of (features - middle) * scale + shift.

    factors  (3, Z * C): middle, scale and shift of each number of a line; empty for none
    """
    if len(factors) == 0:
        for k in range(0, count, LANES):
            store(line, k, load(features, place + k))
    else:
        normalise_row(features, place, line, 0, factors, slope, count)


@njit(error_model="numpy")
def load_plane(
    features: Any, x: int, factors: Any, slope: float, mirror: bool, sizes: Any, pairs: Any, ring: Any, memory: Any
) -> None:
    """Write plane x to its place in the ring, (3, Y + 2, rows, row), with a margin of one voxel.

    mirror  the margin has the features mirrored at the outer voxels; else zeros
    pairs   None for a row per channel; else each number of a row is a pair of numbers of two channels in bfloat16
    memory  for a line of features and a vector, for 256 numbers, and for a row per channel
    """
    sides_x, sides_y, sides_z, channels = sizes
    line, square, single = memory
    stride = row_length(sides_z)
    count = sides_z * channels
    row = (channels if pairs is None else (channels + 1) // 2) * stride
    first = place = x % 3 * (sides_y + 2) * row
    if x < 0 or x >= sides_x:
        if not mirror:
            ring[place : place + (sides_y + 2) * row] = np.float32(0)
            return
        x = -x if x < 0 else 2 * (sides_x - 1) - x
    for y in range(sides_y):
        normalise_line(features, (x * sides_y + y) * count, count, factors, slope, line)
        place += row
        if pairs is None:
            separate(line, channels, sides_z, ring, place + 1, stride, square)
        else:
            separate(line, channels, sides_z, single, 0, stride, square)
            for c in range(0, channels, 2):
                for k in range(0, sides_z, LANES):
                    # The row after the last channel is empty.
                    both = pair(load(single, c * stride + k), load(single, (c + 1) * stride + k))
                    store(ring, place + 1 + c // 2 * stride + k, both)
        if mirror:
            for k in range(place, place + row, stride):
                ring[k] = ring[k + 2]
                ring[k + sides_z + 1] = ring[k + sides_z - 1]
    if mirror:
        for k in range(0, row, LANES):
            store(ring, first + k, load(ring, first + 2 * row + k))
            store(ring, place + row + k, load(ring, place - row + k))


@njit(error_model="numpy")
def separate(line: Any, channels: int, count: int, target: Any, place: int, stride: int, square: Any) -> None:
    """Write (count, C) numbers as C rows; `square` is memory for 256 numbers."""
    if channels == 1:
        for k in range(0, count, LANES):
            store(target, place + k, load(line, k))
        return
    for c in range(0, channels, LANES):
        rows = min(LANES, channels - c)
        to_rows(line, c, channels, target, place + c * stride, stride, rows, count, square, False)


@njit(error_model="numpy")
def correlate(
    ring: Any, starts: Any, stride: int, rows: int, weights: Any, place: int, pairs: Any, shape: Any, sums: Any,
    target: int,
) -> None:  # fmt: skip
    """Write a block of sums: some output channels of some vectors of voxels.

    starts   offsets of the first of `rows` rows, at the nine places that the kernel reaches
    weights  from `place` on: bias (O,), then (9, rows, 3, O), of rows of pairs as pairs
    shape    of the block, see `block_of`
    sums     from `target` on: (O, 16 V)
    """
    block = block_of(shape, weights, place)
    place += len(shape)
    for start in starts:
        for offset in range(start, start + rows * stride, stride):
            for z in range(offset, offset + 3):
                block = add_products(block, shape, ring, z, weights, place, pairs)
                place += len(shape)
    store_block(block, sums, target)


def convolve(
    features: Any, weights: Any, output: Any, factors: Any, slope: float, mirror: bool, sizes: Any, outputs: int,
    first: int, last: int, pairs: Any, shape: Any,
) -> None:  # fmt: skip
    """Write the convolution of the normalised features, channels last.

    weights         bias and kernel of each group of outputs, see `correlate`
    factors, slope  of the norm and the leaky ReLU before the convolution, see `normalise_line`
    outputs         number of output channels, a multiple of a block's
    mirror, pairs   see `load_plane`
    shape           of the blocks that are computed at once, see `block_of`
    """
    _, sides_y, sides_z, channels = sizes
    stride = row_length(sides_z)
    rows = channels if pairs is None else (channels + 1) // 2
    row = rows * stride
    plane = (sides_y + 2) * row
    block_outputs, voxels = len(shape), len(shape[0]) * LANES
    ring, starts = np.zeros(3 * plane, np.float32), np.zeros(9, np.int64)
    line = np.zeros(stride * max(channels, outputs) + LANES, np.float32)
    square, sums = np.zeros(LANES * LANES, np.float32), np.zeros(outputs * voxels, np.float32)
    memory = line, square, np.zeros((channels + 1) * stride, np.float32)
    group = block_outputs * (1 + 27 * rows)
    for x in range(first - 1, first + 1):
        load_plane(features, x, factors, slope, mirror, sizes, pairs, ring, memory)
    for x in range(first, last):
        load_plane(features, x + 1, factors, slope, mirror, sizes, pairs, ring, memory)
        for y in range(sides_y):
            for z in range(0, sides_z, voxels):
                for tap in range(9):
                    starts[tap] = (x + tap // 3 + 2) % 3 * plane + (y + tap % 3) * row + z
                for o in range(0, outputs, block_outputs):
                    place = o // block_outputs * group
                    correlate(ring, starts, stride, rows, weights, place, pairs, shape, sums, o * voxels)
                for part in range(z, min(z + voxels, sides_z), LANES):
                    # Rows of 16 numbers reach into the next voxels, which are written after them.
                    for o in range((outputs - 1) // LANES * LANES, -1, -LANES):
                        count = min(LANES, outputs - o)
                        transpose(sums, o * voxels + part - z, voxels, count, line, part * outputs + o, outputs)
            place = (x * sides_y + y) * sides_z * outputs
            for k in range(0, sides_z * outputs, LANES):
                store(output, place + k, load(line, k))


@njit(error_model="numpy")
def correlate_gradients(
    ring: Any, start: int, gradients: Any, place: int, stride: int, count: int, sums: Any, target: int
) -> None:
    """Add the products of a row of features with rows of four output channels, for the three voxels that each reaches.

    start   offset in the ring of the row
    place   offset in the gradients of the first row; the next ones are `stride` apart
    count   voxels of a row
    sums    from `target` on: (4, 3, 16)
    """
    a0, a1, a2 = load(sums, target), load(sums, target + LANES), load(sums, target + 2 * LANES)
    b0, b1, b2 = load(sums, target + 3 * LANES), load(sums, target + 4 * LANES), load(sums, target + 5 * LANES)
    c0, c1, c2 = load(sums, target + 6 * LANES), load(sums, target + 7 * LANES), load(sums, target + 8 * LANES)
    d0, d1, d2 = load(sums, target + 9 * LANES), load(sums, target + 10 * LANES), load(sums, target + 11 * LANES)
    for z in range(0, count, LANES):
        x0, x1, x2 = load(ring, start + z), load(ring, start + z + 1), load(ring, start + z + 2)
        gradient = load(gradients, place + z)
        a0, a1, a2 = multiply_add(x0, gradient, a0), multiply_add(x1, gradient, a1), multiply_add(x2, gradient, a2)
        gradient = load(gradients, place + stride + z)
        b0, b1, b2 = multiply_add(x0, gradient, b0), multiply_add(x1, gradient, b1), multiply_add(x2, gradient, b2)
        gradient = load(gradients, place + 2 * stride + z)
        c0, c1, c2 = multiply_add(x0, gradient, c0), multiply_add(x1, gradient, c1), multiply_add(x2, gradient, c2)
        gradient = load(gradients, place + 3 * stride + z)
        d0, d1, d2 = multiply_add(x0, gradient, d0), multiply_add(x1, gradient, d1), multiply_add(x2, gradient, d2)
    for k, vector in enumerate((a0, a1, a2, b0, b1, b2, c0, c1, c2, d0, d1, d2)):
        store(sums, target + k * LANES, vector)


def differentiate(features: Any, gradients: Any, output: Any, sizes: Any, outputs: int, first: int, last: int) -> None:
    """Add the gradient of the kernel, (9, C, O, 3), from the gradients of the output voxels, (X, Y, Z, O)."""
    _sides_x, sides_y, sides_z, channels = sizes
    stride = row_length(sides_z)
    row = channels * stride
    plane = (sides_y + 2) * row
    none = np.zeros(0, np.float32)
    ring, rows = np.zeros(3 * plane, np.float32), np.zeros(outputs * stride, np.float32)
    line = np.zeros(stride * max(channels, outputs) + LANES, np.float32)
    square, sums = np.zeros(LANES * LANES, np.float32), np.zeros(len(output) * LANES, np.float32)
    memory, one = (line, square, none), np.float32(1)
    for x in range(first - 1, first + 1):
        load_plane(features, x, none, one, False, sizes, None, ring, memory)
    for x in range(first, last):
        load_plane(features, x + 1, none, one, False, sizes, None, ring, memory)
        for y in range(sides_y):
            normalise_line(gradients, (x * sides_y + y) * sides_z * outputs, sides_z * outputs, none, one, line)
            separate(line, outputs, sides_z, rows, 0, stride, square)
            target = 0
            for tap in range(9):
                start = (x + tap // 3 + 2) % 3 * plane + (y + tap % 3) * row
                for c in range(channels):
                    for o in range(0, outputs, GROUP):
                        correlate_gradients(ring, start + c * stride, rows, o * stride, stride, sides_z, sums, target)
                        target += 3 * GROUP * LANES
        # float32 sums of a plane are still exact enough.
        for k in range(len(output)):
            output[k] += total(load(sums, k * LANES))
        sums[:] = np.float32(0)
