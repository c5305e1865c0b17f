"""Definition of the selective scan, and chunks so small that a few dozen tokens cross all boundaries."""

from unittest.mock import patch

import torch

from anymri.layers import scan_chunks

LANES, STEPS, SHORTEST = 4, 6, 3


def small_chunks():
    """Return a context in which chunks are small."""
    return patch.multiple(scan_chunks, CPU_LANES=LANES, STEPS=STEPS, SHORTEST_CHUNK=SHORTEST, CPU_STATES=32)


def recurrence(u, delta, A, B, C, state):
    """Compute `selective_scan` token by token, with the same arguments and results."""
    outputs = []
    for v in range(u.shape[-1]):
        for g in range(u.shape[1]):
            state = torch.exp(delta[:, g, :, None, v] * A) * state
            state = state + (delta * u)[:, g, :, None, v] * B[:, g, None, :, v]
        outputs.append((state * C[:, None, :, v]).sum(-1))
    return torch.stack(outputs, -1), state
