"""Norm of groups of channels and leaky ReLU by the compiled functions of `norm_kernels`: two passes over the memory.

Where they are not usable (see `compiled`), `instance_norm` computes the same with torch, in about eight passes.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from anymri.layers.compiled import LANES, Kernel, array_type, call, flat, in_parallel, usable

GRADIENT_SUMS = Kernel("gradient_sums", "norm_kernels")
DIFFERENTIATE = Kernel("differentiate", "norm_kernels")

# Features with fewer numbers are normed by torch, because they stay in the caches and there is little to gain; to
# bfloat16, also smaller ones, because torch copies them twice.
LARGE, LARGE_HALF = 2**20, 2**16
# Numbers per row, at least where the voxels can be divided so, and rows from which a first mean is computed.
_ROW, _SAMPLED = 128, 64


def can_norm(tokens: Tensor, slope: float) -> bool:
    """Return whether (B, X, Y, Z, C), contiguous, is to be processed by the compiled functions."""
    if tokens.numel() < LARGE or slope > 1 or _width(tokens) % LANES:
        return False
    return usable(tokens, _moments(tokens), _normalise(tokens.dtype, tokens.dtype), GRADIENT_SUMS, DIFFERENTIATE)


def can_norm_to_bfloat16(tokens: Tensor, slope: float) -> bool:
    """Return whether (B, X, Y, Z, C), contiguous, is to be processed by `normed_to_bfloat16`; not for gradients."""
    if tokens.numel() < LARGE_HALF or slope > 1 or _width(tokens) % LANES:
        return False
    half = torch.bfloat16
    return usable(tokens, _moments(tokens), _normalise(tokens.dtype, half), dtypes=(torch.float32, half))


def normed_to_bfloat16(
    tokens: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float, slope: float
) -> Tensor:
    """Return the norm of groups of channels and leaky ReLU of (B, X, Y, Z, C), contiguous, rounded once."""
    return _normalised(tokens, _Factors.of(tokens, weight, bias, groups, eps), slope, torch.bfloat16)[0]


def _moments(tokens: Tensor) -> Kernel:
    return Kernel("moments", "norm_kernels", types=(array_type(tokens.dtype),))


def _normalise(source: torch.dtype, target: torch.dtype) -> Kernel:
    return Kernel("normalise", "norm_kernels", types=(array_type(source), array_type(target)))


def line_factors(tokens: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float) -> Tensor:
    """Return the norm of (B, X, Y, Z, C) as (B, 3, Z * C), see `compiled_convolution.convolved`."""
    norm = _Factors.of(tokens, weight, bias, groups, eps)
    return _repeated([norm.middle, norm.scale, norm.shift], tokens.shape[3] * tokens.shape[4])


class _Factors(NamedTuple):
    """A norm as numbers per sample and channel, (B, C): (x - middle) * scale + shift.

    Moments are those of the difference to a first mean, `middle`, which a few rows give, so that they keep their
    digits. Sums are float64 beyond 64 rows.
    """

    middle: Tensor
    mean: Tensor
    deviation: Tensor
    scale: Tensor
    shift: Tensor

    @classmethod
    def of(cls, tokens: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float) -> Self:
        """Return the norm of groups of channels; `deviation` is one over the standard deviation."""
        width, channels = _width(tokens), tokens.shape[-1]
        rows = tokens.view(len(tokens), -1, width)
        middle = rows[:, :: max(1, rows.shape[1] // _SAMPLED)].float().mean(1).view(len(rows), -1, channels).mean(1)
        first, second = _sums(_moments(rows), rows, _repeated([middle], width), width, channels)
        count = rows[0].numel() // channels
        # Of a group, the mean and the variance of all its channels, whose first means differ.
        means = middle.double() + first / count
        mean = group_means(means, groups)
        variance = group_means((second - first.square() / count) / count + (means - mean).square(), groups)
        deviation = (variance.clamp(min=0) + eps).rsqrt()
        scale = deviation if weight is None else deviation * weight
        shift = (middle - mean) * scale
        return cls(middle, mean, deviation, scale, shift if bias is None else shift + bias)


class CompiledNorm(torch.autograd.Function):
    """Norm of groups of channels and leaky ReLU of (B, X, Y, Z, C) float32, contiguous."""

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float, slope: float
    ) -> Tensor:
        norm = _Factors.of(tokens, weight, bias, groups, eps)
        output, factors = _normalised(tokens, norm, slope, tokens.dtype)
        ctx.groups, ctx.slope = groups, slope
        ctx.save_for_backward(tokens, factors, norm.middle, norm.mean, norm.deviation, norm.scale)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None, None]:
        tokens, factors, middle, mean, deviation, scale = ctx.saved_tensors
        width, channels = factors.shape[-1], tokens.shape[-1]
        rows, gradients = (each.contiguous().view(len(tokens), -1, width) for each in (tokens, gradient))
        to_bias, product = _sums(GRADIENT_SUMS, rows, factors, width, channels, gradients, ctx.slope)
        to_weight = deviation * (product - (mean - middle) * to_bias)
        count = rows[0].numel() // channels
        factor = -deviation * group_means(scale * to_weight, ctx.groups) / count
        offset = -group_means(scale * to_bias, ctx.groups) / count + factor * (middle - mean)
        every = torch.cat([factors, _repeated([factor, offset], width)], dim=1)
        output = torch.empty_like(tokens)
        for each, its_gradient, target, given in zip(rows, gradients, output, every, strict=True):
            _write(DIFFERENTIATE, (each, its_gradient, target, given), ctx.slope, len(each))
        needs = ctx.needs_input_grad
        return (
            output,
            to_weight.sum(0).float() if needs[1] else None,
            to_bias.sum(0).float() if needs[2] else None,
            None,
            None,
            None,
        )


def _normalised(tokens: Tensor, norm: _Factors, slope: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the normalised features in `dtype`, and the factors (B, 3, W)."""
    width, output = _width(tokens), torch.empty_like(tokens, dtype=dtype)
    rows = tokens.view(len(tokens), -1, width)
    factors = _repeated([norm.middle, norm.scale, norm.shift], width)
    for each, target, given in zip(rows, output, factors, strict=True):
        _write(_normalise(tokens.dtype, dtype), (each, target, given), slope, len(each))
    return output, factors


def _write(kernel: Kernel, tensors: tuple[Tensor, ...], slope: float, rows: int) -> None:
    """Call a kernel that writes to one of `tensors`, whose last one are the factors (., W), for all rows."""
    arrays, width = flat(*tensors), tensors[-1].shape[-1]

    def work(_: int, first: int, last: int) -> None:
        call(kernel, *arrays, slope, width, first, last)

    in_parallel(work, rows)


def _sums(
    kernel: Kernel, rows: Tensor, factors: Tensor, width: int, channels: int, *further: Any
) -> tuple[Tensor, Tensor]:
    """Return the two sums per sample and channel of a kernel, (B, C) float64.

    further  gradients and slope, for the kernel of gradients
    """
    parts = torch.zeros(len(rows), min(torch.get_num_threads(), rows.shape[1]), 2 * width, dtype=torch.float64)
    for sample, (each, given, sums) in enumerate(zip(rows, factors, parts, strict=True)):
        arrays = flat(each, *(further[0][sample : sample + 1] if further else ()), given)

        def work(part: int, first: int, last: int, arrays: Any = arrays, sums: Tensor = sums) -> None:
            call(kernel, *arrays, *further[1:], width, first, last, sums[part].numpy())

        in_parallel(work, len(each))
    first, second = parts.sum(1).view(len(rows), 2, -1, channels).sum(2).unbind(1)
    return first, second


def _width(tokens: Tensor) -> int:
    """Return the numbers per row: whole voxels, at least 128 numbers and a multiple of 16 if the count allows it."""
    *sides, width = tokens.shape[1:]
    count = sides[0] * sides[1] * sides[2]
    while count % 2 == 0 and (width % LANES or width < _ROW):
        count, width = count // 2, width * 2
    return int(width)


def group_means(values: Tensor, groups: int) -> Tensor:
    """Return values per channel, (B, C), with their mean over each group of neighbouring channels."""
    if groups == values.shape[1]:
        return values
    return values.view(len(values), groups, -1).mean(2).repeat_interleave(values.shape[1] // groups, dim=1)


def _repeated(values: list[Tensor], width: int) -> Tensor:
    """Return values per channel, (B, C) each, as rows of float32, (B, values, W)."""
    stacked = torch.stack([each.float() for each in values], dim=1)
    return stacked.repeat(1, 1, width // stacked.shape[-1])
