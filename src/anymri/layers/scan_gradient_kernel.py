"""Function for numba: gradients of the selective scan (see `scan_kernels`, whose conventions it has)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from anymri.layers.compiled import LANES
from anymri.layers.scan_kernels import by_channel, by_number, memory, read_chunk, to_columns, to_rows
from anymri.layers.vectors import LOG2_E, constant, exp2, load, multiply, multiply_add, splat, store, total

# Numbers of the states that are differentiated at a time: few enough for the second-level cache with all their tokens.
NUMBERS = 8
SIGNATURES = {
    "differentiate": "void(UniTuple(float32[::1], 4), float32[::1], float32[::1], float32[::1], "
    "UniTuple(float32[::1], 4), float32[::1], float32[::1], UniTuple(int64, 5), int64, int64)"
}


@njit(error_model="numpy")
def _advance(sizes: Any, tokens: int, chunk: Any, rates: Any, n0: int, n1: int, states: Any, factors: Any) -> None:
    """Compute the factors of all tokens and the states after them, for the numbers n0 to n1 - 1 of the states."""
    (_, _, numbers, _, _), (inputs, times, to_state, _) = sizes, chunk
    rows = -(-numbers // LANES) * LANES
    for t in range(tokens):
        time = load(times, t * LANES)
        added, exponent = multiply(time, load(inputs, t * LANES)), multiply(time, constant(LOG2_E))
        for n in range(n0, n1):
            at = (t * NUMBERS + n - n0) * LANES
            factor = exp2(multiply(exponent, load(rates, n * LANES)))
            new = multiply(added, splat(to_state, t * rows + n))
            store(states, at + NUMBERS * LANES, multiply_add(factor, load(states, at), new))
            store(factors, at, factor)


@njit(error_model="numpy")
def _retreat(
    sizes: Any, tokens: int, chunk: Any, rates: Any, n0: int, n1: int, states: Any, factors: Any, into: Any, grads: Any
) -> None:
    """Add the gradients of all tokens, last to first, for the numbers n0 to n1 - 1 of the states.

    into   gradients of the outputs, (E, 16)
    grads  of the states, (N, 16), updated to that before the tokens; of A, (N, 16); of the tokens' inputs, delta times
           u, and of delta through the factors, (T, 16); of B, (T, rows), and C, (E, rows), sums over the channels
    """
    (group, _, numbers, _, _), (inputs, times, to_state, from_state) = sizes, chunk
    to_states, to_rates, to_inputs, to_times, grad_B, grad_C = grads
    rows = -(-numbers // LANES) * LANES
    for t in range(tokens - 1, -1, -1):
        time = load(times, t * LANES)
        added = multiply(time, load(inputs, t * LANES))
        input_sum, time_sum = load(to_inputs, t * LANES), load(to_times, t * LANES)
        has_output, k = len(into) > 0 and t % group == group - 1, t // group
        for n in range(n0, n1):
            at = (t * NUMBERS + n - n0) * LANES
            grad = load(to_states, n * LANES)
            if has_output:
                output = load(into, k * LANES)
                grad = multiply_add(output, splat(from_state, k * rows + n), grad)
                grad_C[k * rows + n] = total(multiply(output, load(states, at + NUMBERS * LANES)))
            input_sum = multiply_add(grad, splat(to_state, t * rows + n), input_sum)
            grad_B[t * rows + n] = total(multiply(grad, added))
            grad = multiply(grad, load(factors, at))
            store(to_states, n * LANES, grad)
            # Of the exponent, delta times A.
            product = multiply(grad, load(states, at))
            time_sum = multiply_add(product, load(rates, n * LANES), time_sum)
            store(to_rates, n * LANES, multiply_add(product, time, load(to_rates, n * LANES)))
        store(to_inputs, t * LANES, input_sum)
        store(to_times, t * LANES, time_sum)


@njit(error_model="numpy")
def _write(sizes: Any, sample: int, channel: int, begin: int, count: int, chunk: Any, grads: Any, targets: Any) -> None:
    """Write the gradients of u and delta of a chunk, and add those of B and C: to the `targets`, in this order."""
    (group, channels, numbers, length, _), (inputs, times, _, _) = sizes, chunk
    _, _, to_inputs, to_times, to_B, to_C = grads
    grad_u, grad_delta, grad_B, grad_C = targets
    rows, width, lines = -(-numbers // LANES) * LANES, channels - channel, np.empty(LANES * LANES, np.float32)
    for t in range(count * group):
        to_input = load(to_inputs, t * LANES)
        store(to_times, t * LANES, multiply_add(to_input, load(inputs, t * LANES), load(to_times, t * LANES)))
        store(to_inputs, t * LANES, multiply(to_input, load(times, t * LANES)))
    for g in range(group):
        start, step, place = g * LANES, group * LANES, ((sample * group + g) * channels + channel) * length + begin
        to_rows(to_inputs, start, step, grad_u, place, length, min(LANES, width), count, lines, False)
        to_rows(to_times, start, step, grad_delta, place, length, min(LANES, width), count, lines, False)
    for n in range(0, numbers, LANES):
        width = min(LANES, numbers - n)
        for g in range(group):
            place = ((sample * group + g) * numbers + n) * length + begin
            to_rows(to_B, g * rows + n, group * rows, grad_B, place, length, width, count, lines, True)
        if len(grad_C):
            place = (sample * numbers + n) * length + begin
            to_rows(to_C, n, rows, grad_C, place, length, width, count, lines, True)


def differentiate(
    arrays: Any,
    A: Any,
    starts: Any,
    grad_y: Any,
    grads: Any,
    grad_A: Any,
    grad_state: Any,
    sizes: Any,
    first: int,
    last: int,
) -> None:
    """Compute the gradients of the tasks `first` to `last` - 1 of `scan`.

    arrays, starts, sizes  as for `scan`
    grads                  of u and delta, to be filled, and of B and C, to be added to
    grad_A                 (S, D, N), to be filled
    grad_state             of the last state; updated to that of the first
    """
    group, channels, numbers, length, steps = sizes
    blocks, chunks, chunk = -(-channels // LANES), -(-length // steps), memory(sizes)
    rates, before = np.empty(numbers * LANES, np.float32), np.empty(numbers * LANES, np.float32)
    to_states, to_rates = np.empty(numbers * LANES, np.float32), np.empty(numbers * LANES, np.float32)
    # In the same forms as the tokens of the chunk.
    to_inputs, to_times, to_B, to_C = memory(sizes)
    local = to_states, to_rates, to_inputs, to_times, to_B, to_C
    states = np.empty((steps * group + 1) * NUMBERS * LANES, np.float32)
    factors = np.empty(steps * group * NUMBERS * LANES, np.float32)
    into = np.empty(steps * LANES if len(grad_y) else 0, np.float32)
    for task in range(first, last):
        sample, channel = task // blocks, task % blocks * LANES
        width, row = min(LANES, channels - channel), sample * channels + channel
        by_number(A, channel * numbers, width, numbers, rates)
        by_number(grad_state, row * numbers, width, numbers, to_states)
        to_rates[:] = 0
        for number in range(chunks - 1, -1, -1):
            begin = number * steps
            count = min(steps, length - begin)
            read_chunk(arrays, sizes, sample, channel, begin, count, chunk)
            if len(into):
                to_columns(grad_y, row * length + begin, length, width, into, 0, LANES, count)
            by_number(starts, ((sample * chunks + number) * channels + channel) * numbers, width, numbers, before)
            to_inputs[:] = 0
            to_times[:] = 0
            for n0 in range(0, numbers, NUMBERS):
                n1 = min(numbers, n0 + NUMBERS)
                for n in range(n0, n1):
                    store(states, (n - n0) * LANES, load(before, n * LANES))
                _advance(sizes, count * group, chunk, rates, n0, n1, states, factors)
                _retreat(sizes, count * group, chunk, rates, n0, n1, states, factors, into, local)
            _write(sizes, sample, channel, begin, count, chunk, local, grads)
        by_channel(to_states, grad_state, row * numbers, width, numbers)
        by_channel(to_rates, grad_A, row * numbers, width, numbers)
