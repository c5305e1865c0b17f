"""3x3x3 convolution of features that are mirrored at their borders, from one with a margin of zeros.

The two differ only in the outermost voxels, where six convolutions of a plane each add what the mirrored margin
contributes. So large features are neither copied with their margin nor convolved by the slower functions for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad

# Axis, then the place of a border, of the plane next to it, and of the tap of the kernel that reaches the margin.
_BORDERS = tuple((axis, *places) for axis in (2, 3, 4) for places in ((0, 1, 0), (-1, -2, 2)))
# In smaller features, and with more output channels, the six planes cost more than they save.
_SMALLEST_SIDE, _MOST_OUTPUTS = 32, 8

Convolve = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def can_reflect(features: Tensor, weight: Tensor) -> bool:
    """Return whether the convolution of (B, C, X, Y, Z) is faster this way; `weight` is (O, C, k, k, k)."""
    outputs, _, *side = weight.shape
    return side == [3, 3, 3] and outputs <= _MOST_OUTPUTS and min(features.shape[2:]) >= _SMALLEST_SIDE


def reflecting_conv3d(convolve: Convolve, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution that keeps the size, (B, O, X, Y, Z), of features mirrored at the outermost voxels.

    convolve  function of the other arguments that returns the convolution with a margin of zeros
    features  (B, C, X, Y, Z), sides of at least 2 voxels
    weight    (O, C, 3, 3, 3)
    bias      (O,)
    """
    divided: Callable[..., tuple[Tensor, ...]] = _Divided.apply
    joined: Callable[..., Tensor] = _Joined.apply
    whole, *planes = divided(features)
    return joined(convolve(whole, weight, bias), *_contributions(planes, weight))


def _contributions(planes: list[Tensor], weight: Tensor) -> Iterator[Tensor]:
    """Yield what the margin contributes at each border, (B, O, ., .); edges and corners belong to the first axes."""
    for (axis, _, _, tap), plane in zip(_BORDERS, planes, strict=True):
        mirrored = {2: (1, 1, 1, 1), 3: (1, 1, 0, 0), 4: (0, 0, 0, 0)}[axis]
        empty = {2: (0, 0), 3: (1, 0), 4: (1, 1)}[axis]
        yield conv2d(pad(plane, mirrored, "reflect"), weight.select(axis, tap), padding=empty)


class _Divided(torch.autograd.Function):
    """Return the features, to be convolved, and copies of the six planes next to the border ones.

    Their gradients are added in place to that of the features, which the convolution has made and nothing else reads;
    slices would make a tensor of zeros of the full size per plane.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> tuple[Tensor, ...]:
        planes = (features.select(axis, beside) for axis, _, beside, _ in _BORDERS)
        return features.view_as(features), *(each.clone(memory_format=torch.channels_last) for each in planes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *planes: Tensor) -> Tensor:
        for (axis, _, beside, _), plane in zip(_BORDERS, planes, strict=True):
            gradient.select(axis, beside).add_(plane)
        return gradient


class _Joined(torch.autograd.Function):
    """Add the contributions of the margin to the output of the convolution, in place."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, *contributions: Tensor) -> Tensor:
        for (axis, border, _, _), contribution in zip(_BORDERS, contributions, strict=True):
            output.select(axis, border).add_(contribution)
        ctx.mark_dirty(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return gradient, *(gradient.select(axis, border) for axis, border, _, _ in _BORDERS)
