"""Definition of the selective scan, inputs to compare it with, and contexts that change how it is computed."""

import importlib.util
from unittest.mock import patch

import pytest
import torch

from anymri.layers import compiled, scan_chunks

LANES, STEPS, SHORTEST = 4, 6, 3
needs_numba = pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="the extra `fast` is not installed")


def small_chunks():
    """Return a context in which chunks are small."""
    return patch.multiple(scan_chunks, CPU_LANES=LANES, STEPS=STEPS, SHORTEST_CHUNK=SHORTEST, CPU_STATES=32)


def without_numba():
    """Return a context in which torch's operators compute everything."""
    return patch.object(compiled, "_compiled", lambda *_: None)


def recurrence(u, delta, A, B, C, state):
    """Compute `selective_scan` token by token, with the same arguments and results."""
    outputs = []
    for v in range(u.shape[-1]):
        for g in range(u.shape[1]):
            state = torch.exp(delta[:, g, :, None, v] * A) * state
            state = state + (delta * u)[:, g, :, None, v] * B[:, g, None, :, v]
        outputs.append((state * C[:, None, :, v]).sum(-1))
    return torch.stack(outputs, -1), state


def random_inputs(length, group=1, samples=1, channels=3, numbers=4):
    """Return inputs of the scan, float64; the channels remember from a few tokens to thousands."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    u, delta = normal(2, samples, group, channels, length)
    delta = torch.logspace(-4, 0, channels, dtype=torch.float64)[:, None] * delta.exp()
    A = -torch.arange(1, numbers + 1, dtype=torch.float64) * normal(channels, numbers).exp()
    B, C = normal(samples, group, numbers, length), normal(samples, numbers, length)
    return [u, delta, A, B, C, normal(samples, channels, numbers)]


def outputs_and_gradients(form, inputs, dtype=torch.float64):
    """Return the outputs of one form of the scan, and the gradients of a random weighted sum of them."""
    inputs = [each.to(dtype).requires_grad_() for each in inputs]
    outputs = form(*inputs)
    generator = torch.Generator().manual_seed(0)
    towards = [torch.randn(each.shape, generator=generator, dtype=torch.float64).to(dtype) for each in outputs]
    return *outputs, *torch.autograd.grad(outputs, inputs, towards)


def assert_close(found, expected, relative):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert (ours.double() - theirs).abs().max() <= relative * theirs.abs().max()
