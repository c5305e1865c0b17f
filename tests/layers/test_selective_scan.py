"""The chunked scan of torch's operators, compared with its recurrence token by token."""

import subprocess
import sys

import pytest
import torch

from anymri.layers import scan_chunks
from anymri.layers.selective_scan import selective_scan
from recurrence import (
    LANES,
    SHORTEST,
    STEPS,
    assert_close,
    outputs_and_gradients,
    random_inputs,
    recurrence,
    without_numba,
)
from recurrence import small_chunks as chunks_made_small


@pytest.fixture
def small_chunks():
    with chunks_made_small():
        yield


@pytest.fixture(autouse=True)
def _torch_only():
    with without_numba():
        yield


SLAB = LANES * STEPS
LENGTHS = [1, 2, *(edge + i for edge in (STEPS, LANES * SHORTEST, SLAB) for i in (-1, 0, 1)), 2 * SLAB + 17]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("group", "samples"), [(1, 1), (5, 1), (2, 2)])
@pytest.mark.usefixtures("small_chunks")
def test_small_chunks_equal_the_recurrence(length, group, samples):
    inputs = random_inputs(length, group, samples)
    expected = outputs_and_gradients(recurrence, inputs)
    assert_close(outputs_and_gradients(selective_scan, inputs), expected, 1e-12)
    assert_close(outputs_and_gradients(selective_scan, inputs, torch.float32), expected, 1e-5)


ONE_CHUNK = [1, 2, *(scan_chunks.STEPS + i for i in (-1, 0, 1))]
# One token more than the shortest sequence with parallel chunks, so that the last chunk is padded.
PARALLEL_CHUNKS = scan_chunks.CPU_LANES * scan_chunks.SHORTEST_CHUNK + 1


@pytest.mark.parametrize("length", [*ONE_CHUNK, PARALLEL_CHUNKS])
def test_chunks_of_the_usual_size_equal_the_recurrence(length):
    inputs = random_inputs(length, channels=2, numbers=2)
    expected = outputs_and_gradients(recurrence, inputs)
    assert_close(outputs_and_gradients(selective_scan, inputs), expected, 1e-6)
    assert_close(outputs_and_gradients(selective_scan, inputs, torch.float32), expected, 1e-4)


@pytest.mark.usefixtures("small_chunks")
def test_sequence_in_two_pieces_equals_the_sequence():
    """The first piece has no outputs."""
    u, delta, A, B, C, state = inputs = random_inputs(3 * SLAB + 1, group=2)
    y, last = selective_scan(*inputs)
    cut = SLAB + 5
    begin, end = ([each[..., piece] for each in (u, delta, B)] for piece in (slice(cut), slice(cut, None)))
    empty, between = selective_scan(*begin[:2], A, begin[2], None, state)
    rest, end_state = selective_scan(*end[:2], A, end[2], C[..., cut:], between)
    assert empty.shape[-1] == 0
    torch.testing.assert_close(rest, y[..., cut:])
    torch.testing.assert_close(end_state, last)


@pytest.mark.usefixtures("small_chunks")
def test_gradients_without_outputs_equal_those_of_the_recurrence():
    u, delta, A, B, C, state = random_inputs(SLAB + 5, group=2)

    def last_state(form):
        return lambda *inputs: form(*inputs)[1:]

    inputs = [u, delta, A, B, state]
    found = outputs_and_gradients(last_state(lambda *i: selective_scan(*i[:4], None, i[4])), inputs)
    expected = outputs_and_gradients(last_state(lambda *i: recurrence(*i[:4], C, i[4])), inputs)
    assert_close(found, expected, 1e-12)


@pytest.mark.parametrize("time", [0.0, 1e4])
@pytest.mark.usefixtures("small_chunks")
def test_zero_time_keeps_the_state_and_long_time_clears_it(time):
    u, delta, A, B, C, state = (each.float() for each in random_inputs(SLAB + 5))
    y, last = selective_scan(torch.zeros_like(u), torch.full_like(delta, time), A, B, C, state)
    assert y.isfinite().all()
    torch.testing.assert_close(last, state if time == 0 else torch.zeros_like(state))


def test_bfloat16_is_computed_in_float32():
    inputs = [each.bfloat16() for each in random_inputs(50)]
    y, last = selective_scan(*inputs)
    assert y.dtype == last.dtype == torch.float32
    torch.testing.assert_close((y, last), selective_scan(*(each.float() for each in inputs)), rtol=0, atol=0)


def test_backward_pass_keeps_the_inputs_and_one_state_per_chunk():
    inputs = [each.float().requires_grad_() for each in random_inputs(100_000)]
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        selective_scan(*inputs)
    states = 100_000 * inputs[2].numel()
    assert sum(kept.values()) - sum(each.numel() for each in inputs) < 1.2 * states / scan_chunks.STEPS


MEMORY_OF_250_000_TOKENS = """
import re, torch
from pathlib import Path
from anymri.layers import compiled
from anymri.layers.selective_scan import selective_scan

compiled._compiled = lambda *_: None

def megabytes(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000

torch.set_num_threads(1)
u, delta, B, C = (torch.empty(1, *shape, 250_000).uniform_() for shape in ((1, 16), (1, 16), (1, 8), (8,)))
before = megabytes("VmRSS")
with torch.inference_mode():
    y, _ = selective_scan(u, delta, -torch.ones(16, 8), B, C)
print(megabytes("VmHWM") - before - y.nbytes / 1e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process from /proc")
def test_memory_does_not_grow_with_the_sequence():
    """All states of these tokens would take 128 MB."""
    command = [sys.executable, "-c", MEMORY_OF_250_000_TOKENS]
    peak = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert peak < 64
