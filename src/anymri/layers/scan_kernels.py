"""Functions for numba: the selective scan (see `selective_scan`) and the convolution before it (see `mamba`).

16 channels advance at once, as vectors, and the others after them. The tokens of one chunk at a time are transposed,
so that the channels of a token are neighbours. Arrays are float32. Those without a named shape are the arguments of
`selective_scan`, flat. Tokens of a chunk, (T, 16) or (T, rows), are flat as well, with rows = N rounded up to vectors.
Imported only where numba is installed; `compiled` compiles the functions that have a signature.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from anymri.layers.compiled import LANES
from anymri.layers.mamba import KERNEL
from anymri.layers.vectors import (
    LOG2_E,
    add,
    constant,
    exp2,
    load,
    multiply,
    multiply_add,
    silu,
    softplus,
    splat,
    store,
    transpose,
)

# Groups of tokens that a convolution processes at a time: few enough for a CPU's first-level cache.
CONVOLVED = 512
SIGNATURES = {
    "scan": "void(UniTuple(float32[::1], 4), float32[::1], float32[::1], float32[::1], float32[::1], "
    "UniTuple(int64, 5), boolean, int64, int64)",
    "convolve": "void(Tuple((float32[:, :, :, :], boolean[:, :], float32[::1], float32[:, :])), "
    "float32[:, :, :, ::1], float32[::1], float32[::1], float32[:, :, :, ::1], int64, int64)",
}


@njit(error_model="numpy")
def to_columns(source: Any, start: int, stride: int, rows: int, target: Any, place: int, step: int, count: int) -> None:
    """Transpose (rows, count) numbers of `source` to (count, 16) of `target`; rows that do not exist become zeros."""
    for first in range(0, count - LANES + 1, LANES):
        transpose(source, start + first, stride, rows, target, place + first * step, step)
    if count < LANES:
        for k in range(count):
            for i in range(LANES):
                target[place + k * step + i] = source[start + i * stride + k] if i < rows else np.float32(0)
    elif count % LANES:
        first = count - LANES
        transpose(source, start + first, stride, rows, target, place + first * step, step)


@njit(error_model="numpy")
def to_rows(
    source: Any,
    start: int,
    step: int,
    target: Any,
    place: int,
    stride: int,
    rows: int,
    count: int,
    lines: Any,
    sums: bool,
) -> None:
    """Write the transpose of (count, 16) numbers of `source` to (rows, count) of `target`, or add it if `sums`.

    lines  memory for 256 numbers
    """
    for first in range(0, count, LANES):
        width = min(LANES, count - first)
        transpose(source, start + first * step, step, width, lines, 0, LANES)
        for i in range(rows):
            offset = place + i * stride + first
            if width < LANES:
                for k in range(width):
                    target[offset + k] = lines[i * LANES + k] + (target[offset + k] if sums else np.float32(0))
            elif sums:
                store(target, offset, add(load(target, offset), load(lines, i * LANES)))
            else:
                store(target, offset, load(lines, i * LANES))


@njit(error_model="numpy")
def by_number(source: Any, start: int, rows: int, numbers: int, target: Any) -> None:
    """Write (rows, numbers) of `source` as (numbers, 16) of `target`; rows that do not exist become zeros."""
    for n in range(numbers):
        for i in range(LANES):
            target[n * LANES + i] = source[start + i * numbers + n] if i < rows else np.float32(0)


@njit(error_model="numpy")
def by_channel(source: Any, target: Any, start: int, rows: int, numbers: int) -> None:
    """Write (numbers, 16) of `source` as (rows, numbers) of `target`."""
    for i in range(rows):
        for n in range(numbers):
            target[start + i * numbers + n] = source[n * LANES + i]


@njit(error_model="numpy")
def read_numbers(source: Any, place: int, sizes: Any, count: int, target: Any, g: int, group: int) -> None:
    """Transpose (N, count) numbers of `source` from `place` on to `target`: each group has (group, rows), read is g."""
    _, _, numbers, length, _ = sizes
    rows = -(-numbers // LANES) * LANES
    for n in range(0, numbers, LANES):
        to_columns(source, place + n * length, length, numbers - n, target, g * rows + n, group * rows, count)


@njit(error_model="numpy")
def read_chunk(arrays: Any, sizes: Any, sample: int, channel: int, begin: int, count: int, into: Any) -> None:
    """Read `count` groups of the `arrays` u, delta, B and C `into` tokens of a chunk; of u and delta, 16 channels."""
    (group, channels, numbers, length, _), (u, delta, B, C) = sizes, arrays
    inputs, times, to_state, from_state = into
    for g in range(group):
        place = ((sample * group + g) * channels + channel) * length + begin
        to_columns(u, place, length, channels - channel, inputs, g * LANES, group * LANES, count)
        to_columns(delta, place, length, channels - channel, times, g * LANES, group * LANES, count)
        read_numbers(B, (sample * group + g) * numbers * length + begin, sizes, count, to_state, g, group)
    if len(C):
        read_numbers(C, sample * numbers * length + begin, sizes, count, from_state, 0, 1)


@njit(error_model="numpy")
def memory(sizes: Any) -> Any:
    """Return memory for the tokens of a chunk, to be read from u, delta, B and C."""
    group, _, numbers, _, steps = sizes
    rows = -(-numbers // LANES) * LANES
    inputs, times = np.empty(steps * group * LANES, np.float32), np.empty(steps * group * LANES, np.float32)
    return inputs, times, np.empty(steps * group * rows, np.float32), np.empty(steps * rows, np.float32)


@njit(error_model="numpy")
def _advance(sizes: Any, tokens: int, chunk: Any, rates: Any, states: Any, outputs: Any) -> None:
    """Advance the states, (N, 16), over the tokens of a chunk; write the outputs of its groups, (E, 16), if any."""
    (group, _, numbers, _, _), (inputs, times, to_state, from_state) = sizes, chunk
    rows = -(-numbers // LANES) * LANES
    for t in range(tokens):
        time = load(times, t * LANES)
        added = multiply(time, load(inputs, t * LANES))
        has_output, at = len(outputs) > 0 and t % group == group - 1, t // group
        output = constant(np.float32(0))
        for n in range(numbers):
            factor = exp2(multiply(time, load(rates, n * LANES)))
            new = multiply(added, splat(to_state, t * rows + n))
            new = multiply_add(factor, load(states, n * LANES), new)
            store(states, n * LANES, new)
            if has_output:
                output = multiply_add(new, splat(from_state, at * rows + n), output)
        if has_output:
            store(outputs, at * LANES, output)


def scan(arrays: Any, A: Any, state: Any, starts: Any, y: Any, sizes: Any, raw: bool, first: int, last: int) -> None:
    """Scan the tasks `first` to `last` - 1, each 16 channels of a sample; fill `y`, and update `state`.

    arrays  u, delta, B, C
    starts  states before each chunk, (S, chunks, D, N), to be filled; empty if not needed
    sizes   G, D, N, V and the number of groups per chunk
    raw     whether softplus is still to be applied to delta
    """
    group, channels, numbers, length, steps = sizes
    blocks, chunks = -(-channels // LANES), -(-length // steps)
    rates, states = np.empty(numbers * LANES, np.float32), np.empty(numbers * LANES, np.float32)
    outputs, lines = np.empty(steps * LANES if len(y) else 0, np.float32), np.empty(LANES * LANES, np.float32)
    chunk = memory(sizes)
    for task in range(first, last):
        sample, channel = task // blocks, task % blocks * LANES
        width, row = min(LANES, channels - channel), sample * channels + channel
        by_number(A, channel * numbers, width, numbers, rates)
        for n in range(len(rates)):
            rates[n] *= LOG2_E
        by_number(state, row * numbers, width, numbers, states)
        for begin in range(0, length, steps):
            count = min(steps, length - begin)
            if len(starts):
                place = ((sample * chunks + begin // steps) * channels + channel) * numbers
                by_channel(states, starts, place, width, numbers)
            read_chunk(arrays, sizes, sample, channel, begin, count, chunk)
            if raw:
                times = chunk[1]
                for t in range(count * group):
                    store(times, t * LANES, softplus(load(times, t * LANES)))
            _advance(sizes, count * group, chunk, rates, states, outputs)
            if len(y):
                to_rows(outputs, 0, LANES, y, row * length + begin, length, width, count, lines, False)
        by_channel(states, state, row * numbers, width, numbers)


@njit(error_model="numpy")
def _copy(source: Any, start: int, target: Any, place: int, count: int) -> None:
    """Copy numbers from one row, whose last stride is 1, to another; compiles in a tenth of the time of slices."""
    whole = count - count % LANES
    for k in range(0, whole, LANES):
        store(target, place + k, load(source, start + k))
    for k in range(whole, count):
        target[place + k] = source[start + k]


@njit(error_model="numpy")
def _read_tokens(
    sources: Any, sample: int, g: int, channel: int, begin: int, count: int, into: Any, place: int
) -> None:
    """Write `count` tokens of one channel, from `begin` on, `into` memory: of modality g, or fused ones."""
    modalities, available, missing, fused = sources
    if g == modalities.shape[1]:
        _copy(fused[channel], begin, into, place, count)
    elif available[sample, g]:
        _copy(modalities[sample, g, channel], begin, into, place, count)
    else:
        for k in range(count):
            into[place + k] = missing[channel]


def convolve(sources: Any, before: Any, weight: Any, bias: Any, u: Any, first: int, last: int) -> None:
    """Convolve each token with the three before it and apply SiLU, for the channels `first` to `last` - 1.

    sources  modalities, available, missing and fused of `scan_compiled.convolve`, as the other arrays; weight is flat
    """
    samples, group, _, length = u.shape
    history, stride = before.shape[3], LANES + CONVOLVED
    tokens, result = np.zeros(group * stride, np.float32), np.empty(CONVOLVED, np.float32)
    for task in range(samples * (last - first)):
        sample, channel = task // (last - first), first + task % (last - first)
        for i in range(group * history):
            g, h = i // history, i % history
            tokens[g * stride + LANES - history + h] = before[sample, g, channel, h]
        for begin in range(0, length, CONVOLVED):
            count = min(CONVOLVED, length - begin)
            for g in range(group):
                _read_tokens(sources, sample, g, channel, begin, count, tokens, g * stride + LANES)
            for g in range(group):
                for k in range(0, count, LANES):
                    mixed = splat(bias, channel)
                    for back in range(KERNEL):
                        place = (g - back) % group * stride + LANES + (g - back) // group + k
                        factor = splat(weight, (channel + 1) * KERNEL - 1 - back)
                        mixed = multiply_add(load(tokens, place), factor, mixed)
                    store(result, k, silu(mixed))
                _copy(result, 0, u[sample, g, channel], begin, count)
            for g in range(group):
                for place in range(g * stride + LANES - history, g * stride + LANES):
                    tokens[place] = tokens[place + count]
        for i in range(group * history):
            g, h = i // history, i % history
            before[sample, g, channel, h] = tokens[g * stride + LANES - history + h]
