"""Products of Gaussians: fusion of one diagonal Gaussian per modality, for any subset.

The posterior of a subset S is the normalised product of its modalities' Gaussians N(mean_m, exp(log_variance_m)) and a
standard-normal prior. With precisions p_m = 1 / (exp(log_variance_m) + eps) and w_m = p_m * mean_m:

    P = 1 + sum_S p_m        M = sum_S w_m / P        V = 1 / P + eps

so all subsets are sums of the same M maps. Source: Dorent et al. 2019 (U-HVED); sheet u_hved. RA-HVED and XLSTM-HVED
add their eps to the variance of the prior as well and not to that of the posterior: `Gaussians.product_of_experts`;
sheet ra_hved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from anymri.layers.compiled import LANES, Kernel, array_type, call, flat, in_parallel, usable
from anymri.layers.convolution import fast, from_tokens
from anymri.layers.pieces import pieces
from anymri.layers.streams import subset_sum
from anymri.modalities import nonempty_subsets

LOG_VARIANCE_LIMIT = 50.0
SAMPLING_EPS = 1e-7
DIVERGENCE_EPS = 1e-5
EXPERT_EPS = 1e-8
# Added to the second variance of a divergence; the PyTorch port has 0.01 where the original has 1e-7.
VARIANCE_FLOOR = 0.01
# Elements per piece: 15 rows of this many stay in the second cache of a CPU, and occupy a GPU.
_CPU_PIECE = 8192
_GPU_PIECE = 2**21


@dataclass
class Posterior:
    """Diagonal Gaussian with mean and variance, both (B, C, X, Y, Z) float32."""

    mean: Tensor
    variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Return mean + standard deviation * noise, (B, C, X, Y, Z).

        noise  (B, C, X, Y, Z), standard normal
        """
        return self.mean + self.variance.sqrt() * noise


@dataclass
class Gaussians:
    """One Gaussian per modality; zeros where a modality is missing.

    Variances span 40 decades, so all arithmetic here is at least float32, under autocast too.

    moments  (B, M, 2 C, X, Y, Z): C means, then C log-variances
    """

    moments: Tensor

    @cached_property
    def mean(self) -> Tensor:
        """Means, (B, M, C, X, Y, Z)."""
        mean, _ = self.moments.chunk(2, dim=2)
        # Half of the channels, channels last, are a view that each operation reads slowly: copied once.
        return mean.to(self._dtype, copy=mean.stride(2) == 1)

    @cached_property
    def log_variance(self) -> Tensor:
        """Logarithms of variances, (B, M, C, X, Y, Z), in -50..50."""
        _, log_variance = self.moments.chunk(2, dim=2)
        return log_variance.to(self._dtype).clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(self.moments.dtype, torch.float32)

    def naturals(self, eps: float) -> tuple[Tensor, Tensor]:
        """Return precisions and precision-weighted means, both (B, M, C, X, Y, Z); `eps` is added to variances."""
        precision = (self.log_variance.exp() + eps).reciprocal_()
        return precision, precision * self.mean

    @cached_property
    def _sampling_naturals(self) -> tuple[Tensor, Tensor]:
        return self.naturals(SAMPLING_EPS)

    @cached_property
    def _expert_naturals(self) -> tuple[Tensor, Tensor]:
        return self.naturals(EXPERT_EPS)

    def product(self, available: Tensor) -> Posterior:
        """Return the posterior of the modalities in `available`, (B, M) bool, with the constants of U-HVED."""
        if _can_fuse(self.moments):
            return _fused(self.moments, available, SAMPLING_EPS, prior_precision=1.0, floor=SAMPLING_EPS)
        mean, total = _product(*self._sampling_naturals, available, prior_precision=1)
        return Posterior(mean, total.reciprocal() + SAMPLING_EPS)

    def product_of_experts(self, available: Tensor) -> Posterior:
        """Return the posterior of the modalities in `available`, (B, M) bool, with the constants of RA-HVED."""
        prior_precision = 1 / (1 + EXPERT_EPS)
        if _can_fuse(self.moments):
            return _fused(self.moments, available, EXPERT_EPS, prior_precision, floor=0.0)
        mean, total = _product(*self._expert_naturals, available, prior_precision)
        return Posterior(mean, total.reciprocal())


def _can_fuse(moments: Tensor) -> bool:
    """Return whether a compiled function, without gradients, computes products of (B, M, 2 C, X, Y, Z)."""
    channels, z = moments.shape[2] // 2, moments.shape[-1]
    divisible = (channels in (2, 4, 8) or channels % LANES == 0) and z * channels % LANES == 0
    if torch.is_grad_enabled() or not divisible or not fast(moments):
        return False
    channels_last = moments.movedim(2, -1).is_contiguous()
    return channels_last and usable(moments, _fuse(moments), dtypes=(torch.float32, torch.bfloat16))


def _fuse(moments: Tensor) -> Kernel:
    return Kernel("fuse", "gaussian_kernels", types=(array_type(moments.dtype),))


def _fused(moments: Tensor, available: Tensor, eps: float, prior_precision: float, floor: float) -> Posterior:
    """Return the product of the available modalities and a prior of mean 0; see `gaussian_kernels.fuse`."""
    tokens = moments.movedim(2, -1)
    x, y, z, channels = tokens.shape[2:]
    mean, variance = torch.empty(2, len(tokens), x, y, z, channels // 2)
    kernel, numbers = _fuse(moments), (LOG_VARIANCE_LIMIT, eps, prior_precision, floor)
    sizes = x * y, z, channels // 2
    for each in zip(tokens, available, mean, variance, strict=True):
        arrays = flat(*each)

        def work(_: int, first: int, last: int, arrays: Any = arrays) -> None:
            call(kernel, *arrays, *numbers, sizes, first, last)

        in_parallel(work, x * y)
    return Posterior(from_tokens(mean), from_tokens(variance))


def _product(
    precision: Tensor, weighted_mean: Tensor, available: Tensor, prior_precision: float
) -> tuple[Tensor, Tensor]:
    """Return mean and precision, (B, C, X, Y, Z), of the product of the available modalities and a prior of mean 0."""
    with torch.autocast(precision.device.type, enabled=False):
        total = prior_precision + subset_sum(precision, available)
        return subset_sum(weighted_mean, available) / total, total


def subset_divergences(gaussians: Gaussians, present: Tensor, available: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the KL divergences of the posteriors of all subsets from the available posterior and from the prior.

    present    (B, M) bool: subsets of these modalities count
    available  (B, M) bool: the set A of each sample
    returns    three scalars: inter + prior, to be minimised; and each alone, without gradient, to be logged. They are
               means over subsets S, samples, channels and voxels of D(q_A || q_S) and D(q_S || N(0, 1)),
               D(a || b) = 0.5 * (-1 + log V_b - log V_a + (V_a + (M_a - M_b)^2) / (V_b + 0.01))

    The forward pass also computes the gradient, in closed form: plain autograd would keep 30 divergences per scale,
    several times the memory of the network, and a second pass over the subsets would take twice as long.
    """
    precision, weighted_mean = gaussians.naturals(DIVERGENCE_EPS)
    subsets = torch.tensor(nonempty_subsets(present.shape[1]), device=present.device)
    possible = (subsets[None] <= present[:, None]).all(-1)
    subsets, possible, available = (flags.to(precision.dtype) for flags in (subsets, possible, available))
    share = possible / (possible.sum() * precision[0, 0].numel())
    flat = _flat(precision), _flat(weighted_mean)
    apply: Callable[..., tuple[Tensor, Tensor, Tensor]] = _SubsetDivergences.apply
    with torch.autocast(precision.device.type, enabled=False):
        return apply(*flat, subsets, share, available)


class _SubsetDivergences(torch.autograd.Function):
    """Autograd function of `subset_divergences` on natural parameters (B, M, E).

    subsets    (S, M) zeros and ones
    share      (B, S) weight in the mean of one element of a sample, per subset
    available  (B, M) zeros and ones

    Elements are independent, so they are processed in pieces whose S rows stay in the cache of the processor.
    """

    @staticmethod
    def forward(
        ctx: Any, precision: Tensor, weighted_mean: Tensor, subsets: Tensor, share: Tensor, available: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        inter = precision.new_zeros(())
        prior = precision.new_zeros(())
        differentiated = any(ctx.needs_input_grad)
        if differentiated:
            to_precision, to_weighted_mean = torch.empty_like(precision), torch.empty_like(precision)
            ctx.save_for_backward(to_precision, to_weighted_mean)
        for b, piece in pieces(precision, _CPU_PIECE if precision.device.type == "cpu" else _GPU_PIECE):
            target = _Moments(available[b : b + 1], precision[b, :, piece], weighted_mean[b, :, piece])
            others = _Moments(subsets, precision[b, :, piece], weighted_mean[b, :, piece])
            difference = target.mean - others.mean
            over_floor = (others.variance + VARIANCE_FLOOR).reciprocal_()
            ratio = difference.square().add_(target.variance).mul_(over_floor)
            log_variance = others.variance.log()
            inter += share[b] @ (ratio + log_variance).sub_(target.variance.log().add_(1)).sum(1) / 2
            surplus = torch.addcmul(others.variance, others.mean, others.mean).div_(1 + VARIANCE_FLOOR)
            prior += share[b] @ surplus.sub_(log_variance).sub_(1).sum(1) / 2
            if differentiated:
                weight = share[b : b + 1]
                slope = difference.mul_(over_floor)
                of_variance = (weight @ over_floor - weight.sum() / target.variance) / 2
                from_target = target.gradients(target.members.T, weight @ slope, of_variance)
                # The logarithms of the other variance in the two divergences cancel out.
                from_others = others.gradients(
                    others.members.T * weight,
                    (others.mean / (1 + VARIANCE_FLOOR)).sub_(slope),
                    ratio.mul_(over_floor).sub_(1 / (1 + VARIANCE_FLOOR)).mul_(-1 / 2),
                )
                torch.add(from_target[0], from_others[0], out=to_precision[b, :, piece])
                torch.add(from_target[1], from_others[1], out=to_weighted_mean[b, :, piece])
        ctx.mark_non_differentiable(inter, prior)
        return inter + prior, inter, prior

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        to_precision, to_weighted_mean = ctx.saved_tensors
        return grad_total * to_precision, grad_total * to_weighted_mean, None, None, None


class _Moments:
    """Mean and variance (S, E) of products of Gaussians, with the backward pass to the natural parameters.

    members  (S, M) zeros and ones: the modalities in each product
    """

    def __init__(self, members: Tensor, precision: Tensor, weighted_mean: Tensor) -> None:
        self.members = members
        self.scale = (1 + members @ precision).reciprocal_()
        self.mean = (members @ weighted_mean).mul_(self.scale)
        self.variance = self.scale + DIVERGENCE_EPS

    def gradients(self, members: Tensor, to_mean: Tensor, to_variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of precisions and weighted means, (M, E), from those of means and variances, (S, E).

        members                (M, S), perhaps with a weight of each product
        to_mean, to_variance   are overwritten
        """
        to_weighted_mean = to_mean.mul_(self.scale)
        to_total = to_variance.mul_(self.scale).mul_(self.scale).addcmul_(to_weighted_mean, self.mean)
        return -(members @ to_total), members @ to_weighted_mean


def _flat(maps: Tensor) -> Tensor:
    """Return maps (B, M, C, X, Y, Z) as (B, M, E), in the order that they have in memory."""
    return maps.movedim(2, -1).flatten(2) if maps.stride(2) == 1 else maps.flatten(2)
