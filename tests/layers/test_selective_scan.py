"""The chunked scan against its recurrence, token by token."""

import subprocess
import sys

import pytest
import torch

from anymri.layers import scan_chunks
from anymri.layers.selective_scan import selective_scan
from recurrence import LANES, SHORTEST, STEPS, recurrence
from recurrence import small_chunks as chunks_made_small


@pytest.fixture
def small_chunks():
    with chunks_made_small():
        yield


def random(length, group=1, samples=1, channels=3, numbers=4):
    """Inputs of the scan, float64; channels differ in speed, from a memory of a few tokens to one of thousands."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    u, delta = normal(2, samples, group, channels, length)
    delta = torch.logspace(-4, 0, channels, dtype=torch.float64)[:, None] * delta.exp()
    A = -torch.arange(1, numbers + 1, dtype=torch.float64) * normal(channels, numbers).exp()
    B, C = normal(samples, group, numbers, length), normal(samples, numbers, length)
    return [u, delta, A, B, C, normal(samples, channels, numbers)]


def answers_and_gradients(form, inputs, dtype=torch.float64):
    """What a form of the scan answers, and the gradients of a random sum of all of it."""
    inputs = [each.to(dtype).requires_grad_() for each in inputs]
    answers = form(*inputs)
    generator = torch.Generator().manual_seed(0)
    towards = [torch.randn(each.shape, generator=generator, dtype=torch.float64).to(dtype) for each in answers]
    return *answers, *torch.autograd.grad(answers, inputs, towards)


def assert_close(found, expected, relative):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours.double() - theirs).abs().max() <= relative * theirs.abs().max()


SLAB = LANES * STEPS
LENGTHS = [1, 2, *(edge + i for edge in (STEPS, LANES * SHORTEST, SLAB) for i in (-1, 0, 1)), 2 * SLAB + 17]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("group", "samples"), [(1, 1), (5, 1), (2, 2)])
@pytest.mark.usefixtures("small_chunks")
def test_chunks_equal_the_recurrence(length, group, samples):
    inputs = random(length, group, samples)
    expected = answers_and_gradients(recurrence, inputs)
    assert_close(answers_and_gradients(selective_scan, inputs), expected, 1e-12)
    assert_close(answers_and_gradients(selective_scan, inputs, torch.float32), expected, 1e-5)


@pytest.mark.parametrize("length", [1, 2, *(scan_chunks.STEPS + i for i in (-1, 0, 1))])
def test_one_chunk_of_the_usual_size_equals_the_recurrence(length):
    check_usual_size(length)


@pytest.mark.parametrize("beyond", [0, 1])
def test_chunks_of_the_usual_size_equal_the_recurrence(beyond):
    check_usual_size(scan_chunks.CPU_LANES * scan_chunks.SHORTEST_CHUNK + beyond)


def check_usual_size(length):
    inputs = random(length, channels=2, numbers=2)
    expected = answers_and_gradients(recurrence, inputs)
    assert_close(answers_and_gradients(selective_scan, inputs), expected, 1e-6)
    assert_close(answers_and_gradients(selective_scan, inputs, torch.float32), expected, 1e-4)


@pytest.mark.usefixtures("small_chunks")
def test_a_sequence_in_two_parts_is_the_sequence():
    """Also where the first part only writes."""
    u, delta, A, B, C, state = inputs = random(3 * SLAB + 1, group=2)
    answer, last = selective_scan(*inputs)
    cut = SLAB + 5
    begin, end = ([each[..., part] for each in (u, delta, B)] for part in (slice(cut), slice(cut, None)))
    nothing, between = selective_scan(*begin[:2], A, begin[2], None, state)
    rest, end_state = selective_scan(*end[:2], A, end[2], C[..., cut:], between)
    assert nothing.shape[-1] == 0
    torch.testing.assert_close(rest, answer[..., cut:])
    torch.testing.assert_close(end_state, last)


@pytest.mark.usefixtures("small_chunks")
def test_gradients_of_tokens_that_only_write():
    u, delta, A, B, C, state = random(SLAB + 5, group=2)

    def last_state(form):
        return lambda *inputs: form(*inputs)[1:]

    inputs = [u, delta, A, B, state]
    found = answers_and_gradients(last_state(lambda *i: selective_scan(*i[:4], None, i[4])), inputs)
    expected = answers_and_gradients(last_state(lambda *i: recurrence(*i[:4], C, i[4])), inputs)
    assert_close(found, expected, 1e-12)


@pytest.mark.parametrize("time", [0.0, 1e4])
@pytest.mark.usefixtures("small_chunks")
def test_no_time_keeps_the_state_and_much_time_forgets_it(time):
    u, delta, A, B, C, state = (each.float() for each in random(SLAB + 5))
    answer, last = selective_scan(torch.zeros_like(u), torch.full_like(delta, time), A, B, C, state)
    assert answer.isfinite().all()
    torch.testing.assert_close(last, state if time == 0 else torch.zeros_like(state))


def test_low_precision_is_computed_in_float32():
    inputs = [each.bfloat16() for each in random(50)]
    answer, last = selective_scan(*inputs)
    assert answer.dtype == last.dtype == torch.float32
    torch.testing.assert_close((answer, last), selective_scan(*(each.float() for each in inputs)), rtol=0, atol=0)


def test_the_backward_pass_keeps_the_inputs_and_one_state_a_chunk():
    inputs = [each.float().requires_grad_() for each in random(100_000)]
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        selective_scan(*inputs)
    states = 100_000 * inputs[2].numel()
    assert sum(kept.values()) - sum(each.numel() for each in inputs) < 1.2 * states / scan_chunks.STEPS


MEMORY_OF_HALF_A_MILLION_TOKENS = """
import re, torch
from pathlib import Path
from anymri.layers.selective_scan import selective_scan

def megabytes(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1000

torch.set_num_threads(1)
u, delta, B, C = (torch.empty(1, *shape, 500_000).uniform_() for shape in ((1, 16), (1, 16), (1, 8), (8,)))
before = megabytes("VmRSS")
with torch.inference_mode():
    y, _ = selective_scan(u, delta, -torch.ones(16, 8), B, C)
print(megabytes("VmHWM") - before - y.nbytes / 1e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process as Linux tells it")
def test_memory_does_not_grow_with_the_sequence():
    """All states of these tokens would take 256 MB."""
    command = [sys.executable, "-c", MEMORY_OF_HALF_A_MILLION_TOKENS]
    peak = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert peak < 64
