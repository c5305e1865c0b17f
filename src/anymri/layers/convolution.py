"""Convolutions over volumes on oneDNN, whatever the batch and the size.

On a CPU, torch computes a float32 convolution of a single small crop by its own slow kernels: oneDNN, several times
faster, is chosen only for batches, groups, kernels beyond 3 voxels, or B * C * X * Y > 20,480
(`ConvParams::use_mkldnn` of torch). Here small crops are computed by oneDNN too: without gradients by its operator,
else as a batch of two halves. Features are kept channels last, the layout in which oneDNN reorders nothing. Elsewhere,
and in graphs that are traced, compiled or counted, these are torch's convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from anymri.layers.compiled import autocasts_to_bfloat16, is_traced
from anymri.layers.compiled_convolution import can_convolve, convolved, weight_gradient
from anymri.layers.reflecting_convolution import can_reflect, reflecting_conv3d

Triple = tuple[int, int, int]

_is_available: Callable[[], bool] = torch.backends.mkldnn.is_available
ONEDNN = _is_available()

# torch takes oneDNN for a single crop beyond this product of channels and the first two sides.
SMALL = 20480


def conv3d(
    features: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Triple = (1, 1, 1),
    padding: Triple = (0, 0, 0), dilation: Triple = (1, 1, 1), groups: int = 1,
) -> Tensor:  # fmt: skip
    """Return what `torch.nn.functional.conv3d` returns, (B, O, X', Y', Z'), on a CPU channels last.

    features  (B, C, X, Y, Z)
    weight    (O, C / groups, k, k, k)
    bias      (O,)
    padding   voxels of zeros on both sides of x, y and z
    """
    if not fast(features):
        return functional.conv3d(features, weight, bias, stride, padding, dilation, groups)
    if _unsafe(features, weight, stride, padding):
        with torch.autocast("cpu", enabled=False):
            return conv3d(features.float(), weight, bias, stride, padding, dilation, groups)
    features = channels_last(features)
    if weight[0, 0].numel() == 1 and stride == (1, 1, 1) and padding == (0, 0, 0) and groups == 1:
        return from_tokens(functional.linear(to_tokens(features), weight.flatten(1), bias))
    if is_compiled(features, weight, stride, padding, dilation, groups):
        compiled: Callable[..., Tensor] = _CompiledConvolution.apply
        return from_tokens(compiled(to_tokens(features).float(), weight, bias))
    if _taken_by_torch(features, weight, groups):
        return functional.conv3d(features, weight, bias, stride, padding, dilation, groups)
    convolve = _in_halves if torch.is_grad_enabled() else torch.mkldnn_convolution
    return convolve(features, weight, bias, padding, stride, dilation, groups)


def fast(features: Tensor) -> bool:
    """Return whether features are computed by oneDNN, channels last: on a CPU, outside traced and counted graphs."""
    return features.device.type == "cpu" and ONEDNN and not is_in_torch_dispatch_mode() and not is_traced()


def _unsafe(features: Tensor, weight: Tensor, stride: Triple, padding: Triple) -> bool:
    """Return whether oneDNN may fail in bfloat16: a kernel longer than the features, or one position of it on an axis.

    torch 2.13 then returns whatever was in memory, or the process crashes: with AVX-512 but without AMX in gradients of
    weights, with AMX in the convolution itself.
    """
    axes = zip(features.shape[2:], weight.shape[2:], stride, padding, strict=True)
    return torch.is_autocast_enabled("cpu") and any(
        side < reach or side + 2 * margin - reach < step for side, reach, step, margin in axes if reach > 1
    )


def is_compiled(
    features: Tensor, weight: Tensor, stride: Triple, padding: Triple, dilation: Triple, groups: int
) -> bool:
    """Return whether `compiled_convolution` computes a convolution of features on a CPU."""
    return stride == padding == dilation == (1, 1, 1) and groups == 1 and can_convolve(features, weight)


def channels_last(features: Tensor) -> Tensor:
    """Return (B, C, X, Y, Z) with the channels of a voxel side by side in memory; the same tensor where they are."""
    if features.shape[1] == 1:
        # The strides of a single channel are ambiguous: these are the ones that count as channels last.
        return features.contiguous().view(len(features), *features.shape[2:], 1).movedim(-1, 1)
    return features.contiguous(memory_format=torch.channels_last_3d)


def to_tokens(features: Tensor) -> Tensor:
    """Return (B, C, X, Y, Z) as (B, X, Y, Z, C)."""
    return features.permute(0, 2, 3, 4, 1)


def from_tokens(tokens: Tensor) -> Tensor:
    """Return (B, X, Y, Z, C) as (B, C, X, Y, Z)."""
    return tokens.permute(0, 4, 1, 2, 3)


def _taken_by_torch(features: Tensor, weight: Tensor, groups: int) -> bool:
    """Return whether torch itself takes oneDNN, or whether the operator is not the right one: autocast, other types."""
    count, channels, x, y, _ = features.shape
    return (
        features.dtype != torch.float32
        or torch.is_autocast_enabled("cpu")
        or count > 1
        or groups > 1
        or (weight.shape[-1] > 3 and weight.shape[-2] > 3)
        or channels * x * y > SMALL
    )


def _in_halves(
    features: Tensor, weight: Tensor, bias: Tensor | None,
    padding: Triple, stride: Triple, dilation: Triple, groups: int,
) -> Tensor:  # fmt: skip
    """Return the convolution of one crop, computed as a batch of two halves along x: torch takes oneDNN for batches.

    So does its backward pass. The halves of an odd number of output voxels share one of them.
    """
    reach = dilation[0] * (weight.shape[2] - 1) + 1
    sides = (features.shape[2] + 2 * padding[0] - reach) // stride[0] + 1
    if sides < 2:
        return functional.conv3d(features, weight, bias, stride, padding, dilation, groups)
    half = (sides + 1) // 2
    length, second = (half - 1) * stride[0] + reach, (sides - half) * stride[0]
    padded = functional.pad(features, (0, 0, 0, 0, padding[0], padding[0]))
    halves = torch.cat([padded[:, :, :length], padded[:, :, second : second + length]])
    output = to_tokens(functional.conv3d(halves, weight, bias, stride, (0, padding[1], padding[2]), dilation, groups))
    whole = output.flatten(0, 1) if sides % 2 == 0 else torch.cat([output[0], output[1, 1:]])
    return from_tokens(whole[None])


class _CompiledConvolution(torch.autograd.Function):
    """Convolution of (B, X, Y, Z, C), contiguous, by `compiled_convolution`."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(tokens, weight)
        return convolved(tokens, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        tokens, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_tokens_, to_weight, to_bias = ctx.needs_input_grad
        reversed_kernel = weight.flip(2, 3, 4).transpose(0, 1)
        return (
            to_tokens(conv3d(from_tokens(gradient), reversed_kernel, padding=(1, 1, 1))) if to_tokens_ else None,
            weight_gradient(tokens, gradient) if to_weight else None,
            # Sums of sums keep the digits that one sum of all voxels loses.
            gradient.sum(3).sum(2).sum((0, 1)) if to_bias else None,
        )


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`, computed by `conv3d`."""

    def is_compiled(self, features: Tensor) -> bool:
        """Return whether `compiled` computes the convolution of features; mirrored margins only without gradients."""
        if self.padding_mode == "zeros":
            return fast(features) and is_compiled(features, self.weight, *self._geometry(), self.groups)
        return not torch.is_grad_enabled() and self._mirrors(features) and can_convolve(features, self.weight)

    def compiled(self, tokens: Tensor, factors: Tensor | None = None, slope: float = 1.0) -> Tensor:
        """Return the convolution of (B, X, Y, Z, C), contiguous, and of the norm before it, see `convolved`."""
        return from_tokens(convolved(tokens, self.weight, self.bias, self.padding_mode == "reflect", factors, slope))

    def _geometry(self) -> tuple[Triple, Triple, Triple]:
        stride, padding, dilation = (cast("Triple", each) for each in (self.stride, self.padding, self.dilation))
        return stride, padding, dilation

    def _mirrors(self, features: Tensor) -> bool:
        """Return whether the size stays the same by a margin of one mirrored voxel, on a CPU."""
        ones = self._geometry() == ((1, 1, 1),) * 3 and self.groups == 1 and self.padding_mode == "reflect"
        return ones and fast(features) and min(features.shape[2:]) > 1

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        stride, padding, dilation = self._geometry()
        if self.padding_mode != "zeros":
            if self.is_compiled(input):
                return self.compiled(to_tokens(channels_last(input)).float())
            if autocasts_to_bfloat16() and not torch.is_grad_enabled():
                input = input.bfloat16()  # which is copied with its margin faster than the margin is added afterwards
            elif self._mirrors(input) and can_reflect(input, weight):
                return reflecting_conv3d(partial(conv3d, padding=padding), input, weight, bias)
            input = functional.pad(input, self._reversed_padding_repeated_twice, self.padding_mode)
            padding = (0, 0, 0)
        return conv3d(input, weight, bias, stride, padding, dilation, self.groups)


class ConvTranspose3d(nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d` whose kernels do not overlap: kernel and stride have the same sides."""

    def __init__(self, in_channels: int, out_channels: int, side: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, side, side, bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return (B, O, s X, s Y, s Z) of features (B, C, X, Y, Z): each voxel becomes a cube of s^3 voxels."""
        if not fast(input):
            return super().forward(input, output_size)
        side = self.weight.shape[-1]
        # One matrix product; the channels of a voxel stay together when its cube is put in its place.
        weight = self.weight.permute(2, 3, 4, 1, 0).flatten(0, 3)
        bias = None if self.bias is None else self.bias.repeat(side**3)
        b, x, y, z, _ = (tokens := to_tokens(channels_last(input))).shape
        cubes = functional.linear(tokens, weight, bias).view(b, x, y, z, side, side, side, -1)
        return from_tokens(cubes.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, side * x, side * y, side * z, -1))
