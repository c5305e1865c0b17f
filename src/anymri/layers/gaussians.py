"""Products of Gaussians: fusion of one diagonal Gaussian a modality, for any subset.

The posterior of a subset S is the normalised product of its modalities' Gaussians N(mean_m, exp(log_variance_m)) and a
standard-normal prior. With precisions p_m = 1 / (exp(log_variance_m) + eps) and w_m = p_m * mean_m:

    P = 1 + sum_S p_m        M = sum_S w_m / P        V = 1 / P + eps

so all subsets are sums of the same M maps. Source: Dorent et al. 2019 (U-HVED); sheet u_hved.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from anymri.modalities import nonempty_subsets

LOG_VARIANCE_LIMIT = 50.0
SAMPLING_EPS = 1e-7
DIVERGENCE_EPS = 1e-5
# Added to the second variance of a divergence; the authors' PyTorch port has 0.01 where the original has 1e-7.
VARIANCE_FLOOR = 0.01


@dataclass
class Posterior:
    """A diagonal Gaussian: mean and variance, both (B, C, X, Y, Z) float32."""

    mean: Tensor
    variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """mean + standard deviation * noise."""
        return self.mean + self.variance.sqrt() * noise


@dataclass
class Gaussians:
    """One Gaussian a modality: `mean` and `log_variance` (B, M, C, X, Y, Z), zero where a modality is absent.

    Variances span 40 decades, so all arithmetic here is float32, under autocast too.
    """

    mean: Tensor
    log_variance: Tensor

    def __post_init__(self) -> None:
        self.mean = self.mean.float()
        self.log_variance = self.log_variance.float().clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)

    def naturals(self, eps: float) -> tuple[Tensor, Tensor]:
        """Precisions and precision-weighted means, both (B, M, C, X, Y, Z)."""
        precision = 1 / (self.log_variance.exp() + eps)
        return precision, precision * self.mean

    @cached_property
    def _sampling_naturals(self) -> tuple[Tensor, Tensor]:
        return self.naturals(SAMPLING_EPS)

    def product(self, available: Tensor) -> Posterior:
        """The posterior of the modalities in `available`, (B, M) bool."""
        precision, weighted_mean = self._sampling_naturals
        with torch.autocast(precision.device.type, enabled=False):
            chosen = available.to(precision.dtype)
            total = 1 + torch.einsum("bm,bmcxyz->bcxyz", chosen, precision)
            mean = torch.einsum("bm,bmcxyz->bcxyz", chosen, weighted_mean) / total
        return Posterior(mean, 1 / total + SAMPLING_EPS)


def subset_divergences(gaussians: Gaussians, present: Tensor, available: Tensor) -> tuple[Tensor, Tensor]:
    """How far the posteriors of all subsets lie from that of the available one, and from the prior.

    present    (B, M) bool: subsets reach over these; a subset with an absent modality is left out
    available  (B, M) bool: the set A of each sample
    returns    two scalars, means over subsets S, samples, channels and voxels of D(q_A || q_S) and D(q_S || N(0, 1)),
               D(a || b) = 0.5 * (-1 + log V_b - log V_a + (V_a + (M_a - M_b)^2) / (V_b + 0.01))

    Only precisions and weighted means are kept for the backward pass, which goes through the subsets again: the memory
    of plain autograd (30 divergences a scale) would be several times that of the network.
    """
    precision, weighted_mean = gaussians.naturals(DIVERGENCE_EPS)
    subsets = torch.tensor(nonempty_subsets(present.shape[1]), device=present.device)
    possible = (subsets[None] <= present[:, None]).all(-1)
    inter, prior = _SubsetDivergences.apply(precision, weighted_mean, subsets, possible, available)
    return inter, prior


class _SubsetDivergences(torch.autograd.Function):
    """`subset_divergences` of natural parameters, with the gradient in closed form."""

    @staticmethod
    def forward(
        ctx: Any, precision: Tensor, weighted_mean: Tensor, subsets: Tensor, possible: Tensor, available: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(precision, weighted_mean, subsets, possible, available)
        share = _share(possible, precision)
        own = _Moments(precision, weighted_mean, available)
        inter = precision.new_zeros(())
        prior = precision.new_zeros(())
        for subset, weight in zip(subsets, share.unbind(1), strict=True):
            other = _Moments(precision, weighted_mean, subset.expand(len(precision), -1))
            ratio = (own.variance + (own.mean - other.mean).square()) / (other.variance + VARIANCE_FLOOR)
            log_variance = other.variance.log()
            inter += ((ratio - 1 + log_variance - own.variance.log()).flatten(1).sum(1) @ weight) / 2
            surplus = (other.variance + other.mean.square()) / (1 + VARIANCE_FLOOR)
            prior += ((surplus - 1 - log_variance).flatten(1).sum(1) @ weight) / 2
        return inter, prior

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        precision, weighted_mean, subsets, possible, available = ctx.saved_tensors
        grad_inter, grad_prior = grads
        share = _share(possible, precision)
        own = _Moments(precision, weighted_mean, available)
        grad_precision = torch.zeros_like(precision)
        grad_weighted_mean = torch.zeros_like(precision)
        own_grad_mean = torch.zeros_like(own.mean)
        own_grad_variance = torch.zeros_like(own.mean)
        for subset, weight in zip(subsets, share.unbind(1), strict=True):
            members = subset.expand(len(precision), -1)
            other = _Moments(precision, weighted_mean, members)
            scale = weight.view(-1, 1, 1, 1, 1)
            difference = own.mean - other.mean
            floor = other.variance + VARIANCE_FLOOR
            slope = grad_inter * scale * difference / floor
            own_grad_mean += slope
            own_grad_variance += grad_inter * scale / 2 * (1 / floor - 1 / own.variance)
            inter_variance = 1 / other.variance - (own.variance + difference.square()) / floor.square()
            prior_variance = 1 / (1 + VARIANCE_FLOOR) - 1 / other.variance
            grad_variance = scale / 2 * (grad_inter * inter_variance + grad_prior * prior_variance)
            grad_mean = grad_prior * scale * other.mean / (1 + VARIANCE_FLOOR) - slope
            other.backward(grad_mean, grad_variance, members, grad_precision, grad_weighted_mean)
        own.backward(own_grad_mean, own_grad_variance, available, grad_precision, grad_weighted_mean)
        return grad_precision, grad_weighted_mean, None, None, None


class _Moments:
    """Mean and variance of a product of Gaussians, and how gradients go back to its natural parameters."""

    def __init__(self, precision: Tensor, weighted_mean: Tensor, members: Tensor) -> None:
        chosen = members.to(precision.dtype)
        self.scale = 1 / (1 + torch.einsum("bm,bmcxyz->bcxyz", chosen, precision))
        self.mean = torch.einsum("bm,bmcxyz->bcxyz", chosen, weighted_mean) * self.scale
        self.variance = self.scale + DIVERGENCE_EPS

    def backward(
        self, grad_mean: Tensor, grad_variance: Tensor, members: Tensor, grad_precision: Tensor, grad_weighted: Tensor
    ) -> None:
        """Adds to the gradients of precisions and weighted means, (B, M, C, X, Y, Z), for the members."""
        to_weighted = grad_mean * self.scale
        to_precision = -(to_weighted * self.mean + grad_variance * self.scale.square())
        for modality, chosen in enumerate(members.unbind(1)):
            if chosen.any():
                keep = chosen.view(-1, 1, 1, 1, 1)
                grad_weighted[:, modality] += to_weighted * keep
                grad_precision[:, modality] += to_precision * keep


def _share(possible: Tensor, like: Tensor) -> Tensor:
    """(B, S): what one element of a map contributes to the mean over possible subsets, samples and elements."""
    elements = like[0, 0].numel()
    weights: Tensor = possible.to(like.dtype) / (possible.sum() * elements)
    return weights
