"""Instance norm and group norm of features that are channels last, with the leaky ReLU that follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from anymri.layers.compiled import autocasts_to_bfloat16
from anymri.layers.compiled_norm import (
    CompiledNorm,
    can_norm,
    can_norm_to_bfloat16,
    group_means,
    line_factors,
    normed_to_bfloat16,
)
from anymri.layers.convolution import Conv3d, channels_last, fast, from_tokens, to_tokens

EPS = 1e-5
# Numbers per row in which features are read, at least, and rows whose float32 sums are still exact enough.
ROW = 256
ROWS = 1024


def instance_norm(
    features: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = EPS,
    slope: float = 1.0,
) -> Tensor:
    """Return (B, C, X, Y, Z) normalised per sample and channel, then leaky ReLU.

    A single voxel, which torch's module refuses, becomes the bias.

    weight, bias  (C,) gains and biases
    slope         of the leaky ReLU for negative values; 1 for none
    """
    if _normed_here(features):
        return _normed(features, weight, bias, features.shape[1], eps, slope)
    cudnn = torch.backends.cudnn.enabled
    normed = torch.instance_norm(features, weight, bias, None, None, True, 0.0, eps, cudnn)
    return normed if slope == 1 else functional.leaky_relu(normed, slope, inplace=True)


def _normed_here(features: Tensor) -> bool:
    """Return whether features are normed in float32 by the functions of this module: on a CPU, bfloat16 too."""
    return fast(features) and features.dtype in (torch.float32, torch.bfloat16)


def _normed(
    features: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float, slope: float
) -> Tensor:
    """Return (B, C, X, Y, Z) normalised per sample and group of channels, then leaky ReLU; float32."""
    tokens = to_tokens(channels_last(features)).float()
    norm: Callable[..., Tensor] = CompiledNorm.apply if can_norm(tokens, slope) else _Norm.apply
    return from_tokens(norm(tokens, weight, bias, groups, eps, slope))


def normed_conv3d(
    features: Tensor,
    conv: Conv3d,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = EPS,
    slope: float = 1.0,
) -> Tensor:
    """Return the convolution of `instance_norm` of features; compiled, it norms them while it reads them."""
    if not torch.is_grad_enabled() and _normed_here(features):
        tokens, groups = to_tokens(channels_last(features)), features.shape[1]
        if conv.is_compiled(features):
            tokens = tokens.float()
            if can_norm(tokens, slope):
                return conv.compiled(tokens, line_factors(tokens, weight, bias, groups, eps), slope)
        elif autocasts_to_bfloat16() and can_norm_to_bfloat16(tokens, slope):
            features = from_tokens(normed_to_bfloat16(tokens, weight, bias, groups, eps, slope))
            return cast("Tensor", conv(features))
    return cast("Tensor", conv(instance_norm(features, weight, bias, eps, slope)))


class NormedConv3d(nn.Sequential):
    """Instance norm with leaky ReLU, and a convolution, see `normed_conv3d`."""

    norm: InstanceNorm
    conv: Conv3d

    def __init__(self, norm: InstanceNorm, conv: Conv3d) -> None:
        super().__init__()
        self.add_module("norm", norm)
        self.add_module("conv", conv)

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of the normalised features, (B, C, X, Y, Z)."""
        return normed_conv3d(input, self.conv, self.norm.weight, self.norm.bias, self.norm.eps, self.norm.slope)


class InstanceNorm(nn.InstanceNorm3d):
    """Instance norm and leaky ReLU, see `instance_norm`; `gains`: with weight and bias."""

    def __init__(self, channels: int, eps: float = EPS, gains: bool = True, slope: float = 1.0) -> None:
        super().__init__(channels, eps, affine=gains)
        self.slope = slope

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised features, (B, C, X, Y, Z)."""
        return instance_norm(features, self.weight, self.bias, self.eps, self.slope)


class GroupNorm(nn.GroupNorm):
    """Group norm and leaky ReLU with a `slope` for negative values: 1 for none, 0 for ReLU."""

    def __init__(self, groups: int, channels: int, eps: float = EPS, slope: float = 1.0) -> None:
        super().__init__(groups, channels, eps)
        self.slope = slope

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised features, (B, C, X, Y, Z)."""
        if _normed_here(input):
            return _normed(input, self.weight, self.bias, self.num_groups, self.eps, self.slope)
        normed = super().forward(input)
        return normed if self.slope == 1 else functional.leaky_relu(normed, self.slope, inplace=True)


class _Norm(torch.autograd.Function):
    """Norm of groups of channels and leaky ReLU of (B, X, Y, Z, C) float32, contiguous.

    torch's instance norm copies these features to another layout and back, or sums all voxels of a channel in float32
    one by one, which loses digits. Here several voxels side by side are one row of a matrix, whose columns have few
    numbers; the moments of the columns of a channel, and of the channels of a group, are combined afterwards.
    """

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float, slope: float
    ) -> Tensor:
        rows = _rows(tokens)
        repeats = rows.shape[-1] // tokens.shape[-1]
        moments = [torch.batch_norm_update_stats(sample, None, None, 0.0) for sample in rows]
        means = _by_channel([mean for mean, _ in moments], repeats)
        variances = _by_channel([variance for _, variance in moments], repeats)
        # The norm amplifies what rounding leaves of nearly constant features: so the rest of the mean is removed too.
        rounded = group_means(means.mean(1), groups)
        centred = rows - _repeated(rounded, repeats)
        rest = group_means(_by_channel(centred.sum(1).unbind(), repeats).sum(1) / tokens[0, ..., 0].numel(), groups)
        mean = rounded + rest
        variance = group_means(variances.mean(1) + (means - mean[:, None]).square().mean(1), groups)
        deviation = (variance + eps).rsqrt()
        scale = deviation if weight is None else deviation * weight
        shift = -rest * scale if bias is None else bias - rest * scale
        output = torch.addcmul(_repeated(shift, repeats), centred, _repeated(scale, repeats), out=centred)
        output = output.view_as(tokens)
        if slope != 1:
            functional.leaky_relu(output, slope, inplace=True)
        ctx.groups, ctx.slope = groups, slope
        ctx.save_for_backward(tokens, mean, deviation, scale, output if slope != 1 else None)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None, None]:
        tokens, mean, deviation, scale, output = ctx.saved_tensors
        gradient = gradient.contiguous()
        if output is not None:
            gradient = torch.ops.aten.leaky_relu_backward(gradient, output, ctx.slope, True)
        rows, gradients = _rows(tokens), _rows(gradient)
        repeats = rows.shape[-1] // tokens.shape[-1]
        sums = [
            torch.ops.aten.native_batch_norm_backward(
                gradients[b], rows[b], None, None, None, mean[b].repeat(repeats), deviation[b].repeat(repeats),
                True, 0.0, [False, True, True],
            )[1:]
            for b in range(len(rows))
        ]  # fmt: skip
        to_weight = _by_channel([each for each, _ in sums], repeats).sum(1)
        to_bias = _by_channel([each for _, each in sums], repeats).sum(1)
        count = tokens[0, ..., 0].numel()
        slope = -deviation * group_means(scale * to_weight, ctx.groups) / count
        shift = -group_means(scale * to_bias, ctx.groups) / count - slope * mean
        to_tokens = torch.addcmul(_repeated(shift, repeats), rows, _repeated(slope, repeats))
        to_tokens.addcmul_(gradients, _repeated(scale, repeats))
        needs = ctx.needs_input_grad
        return (
            to_tokens.view_as(tokens),
            to_weight.sum(0) if needs[1] else None,
            to_bias.sum(0) if needs[2] else None,
            None,
            None,
            None,
        )


def _rows(tokens: Tensor) -> Tensor:
    """Return (B, X, Y, Z, C) as (B, R, W): each row has the channels of one or more voxels."""
    samples, *sides, channels = tokens.shape
    rows, width = sides[0] * sides[1] * sides[2], channels
    while rows % 2 == 0 and (width < ROW or rows > ROWS):
        rows, width = rows // 2, width * 2
    return tokens.view(samples, rows, width)


def _by_channel(columns: Sequence[Tensor], repeats: int) -> Tensor:
    """Return one value per column of the rows of each sample, (W,) each, as (B, repeats, C)."""
    return torch.stack(list(columns)).view(len(columns), repeats, -1)


def _repeated(values: Tensor, repeats: int) -> Tensor:
    """Return values per channel, (B, C), as those of a row, (B, 1, repeats * C)."""
    return values.repeat(1, repeats)[:, None]
