"""Convolutions in float64 by slabs: torch unfolds the whole input at once, which takes almost twice as long."""

from contextlib import contextmanager
from math import prod
from unittest.mock import patch

import torch
from torch.nn import functional

# Elements of the unfolded input of one slab; more do not stay in the caches.
UNFOLDED = 2**22


@contextmanager
def convolutions_by_slabs():
    """Context in which convolutions of stride 1 compute a few slices of x at a time; the result differs by rounding."""
    whole = functional.conv3d

    def conv3d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        per_slice = x[0, :, 0].numel() * prod(weight.shape[2:])
        if set(_triple(stride)) != {1} or per_slice * x.shape[2] <= UNFOLDED:
            return whole(x, weight, bias, stride, padding, dilation, groups)
        padded = functional.pad(x, [side for side in reversed(_triple(padding)) for _ in range(2)])
        halo, slices = weight.shape[2] - 1, max(1, UNFOLDED // per_slice)
        starts = range(0, padded.shape[2] - halo, slices)
        pieces = [padded[:, :, start : start + slices + halo] for start in starts]
        return torch.cat([whole(piece, weight, bias, groups=groups) for piece in pieces], dim=2)

    with patch.object(functional, "conv3d", conv3d):
        yield


def _triple(sides):
    return (sides,) * 3 if isinstance(sides, int) else sides
