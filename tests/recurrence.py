"""The selective scan by its definition, and chunks so small that a few dozen tokens meet all their boundaries."""

from unittest.mock import patch

import torch

from anymri.layers import scan_chunks

LANES, STEPS, SHORTEST = 4, 6, 3


def small_chunks():
    """Within this, chunks are small."""
    return patch.multiple(scan_chunks, CPU_LANES=LANES, STEPS=STEPS, SHORTEST_CHUNK=SHORTEST, CPU_STATES=32)


def recurrence(u, delta, A, B, C, state):
    """Token by token; arguments and answers as those of `selective_scan`."""
    answers = []
    for v in range(u.shape[-1]):
        for g in range(u.shape[1]):
            state = torch.exp(delta[:, g, :, None, v] * A) * state
            state = state + (delta * u)[:, g, :, None, v] * B[:, g, None, :, v]
        answers.append((state * C[:, None, :, v]).sum(-1))
    return torch.stack(answers, -1), state
