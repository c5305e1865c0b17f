"""Segmentation losses that several systems share. Source: protocol sheet, section 10; sheets u_hved and mmformer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import one_hot

from anymri.layers.pieces import pieces
from anymri.regions import REGIONS

DICE_EPS = 1e-7
# The authors clamp probabilities here, which also stops gradients below it.
PROBABILITY_FLOOR = 0.005
# Voxels per piece, whose classes stay in the second cache of a CPU.
_PIECE = 2**14


@dataclass(frozen=True)
class StepLoss:
    """Losses of one training step.

    total          scalar that the optimiser of the system minimises
    terms          name -> scalar: the summands of `total` before their weights, for the log
    discriminator  scalar that the optimiser of the discriminator minimises; None without a discriminator
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    discriminator: Tensor | None = None

    def named(self) -> dict[str, Tensor]:
        """Return all losses by name: `terms`, `total`, and `discriminator` where there is one."""
        last = {} if self.discriminator is None else {"discriminator": self.discriminator}
        return {**self.terms, "total": self.total, **last}


def class_channels(labels: Tensor, num_classes: int) -> Tensor:
    """Return classes (B, X, Y, Z) as zeros and ones, (B, K, X, Y, Z) float32."""
    return one_hot(labels, num_classes).movedim(-1, 1).float()


def region_channels(labels: Tensor, num_regions: int) -> Tensor:
    """Return the regions of classes (B, X, Y, Z) as zeros and ones, (B, K, X, Y, Z) float32.

    Regions are WT, TC, ET and RC, or the first K = `num_regions` of them.
    """
    tissues = [torch.tensor(sorted(REGIONS[name]), device=labels.device) for name in list(REGIONS)[:num_regions]]
    return torch.stack([torch.isin(labels, each) for each in tissues], dim=1).float()


def at_level(labels: Tensor, level: int) -> Tensor:
    """Return the labels (..., X, Y, Z) subsampled to 1/2^level of the resolution: the middle voxel of each cube."""
    step = 2**level
    return labels[..., step // 2 :: step, step // 2 :: step, step // 2 :: step]


def soft_dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return 1 - the mean soft Dice of all classes, background included; sums run over batch and volume together.

    probabilities, target  (B, K, X, Y, Z) in 0..1
    """
    axes = (0, 2, 3, 4)
    overlap = (probabilities * target).sum(axes)
    size = probabilities.sum(axes) + target.sum(axes)
    return 1 - (2 * overlap / (size + DICE_EPS)).mean()


def cross_entropy_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return the mean over samples and voxels of -log of the true class's probability, clamped to 0.005..1.

    probabilities, target  (B, K, X, Y, Z) in 0..1
    """
    return -(target * probabilities.clamp(PROBABILITY_FLOOR, 1).log()).sum(1).mean()


def rarity_weights(target: Tensor) -> Tensor:
    """Return the weight of each voxel, 1 - the share of its class in the sample's voxels, (B, X, Y, Z).

    target  (B, K, X, Y, Z), one-hot
    """
    return (target * (1 - target.mean((2, 3, 4), keepdim=True))).sum(1)


def cross_entropy_and_dice(
    probabilities: Tensor, target: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return two scalars, at least float32: the cross-entropy, and `soft_dice_loss`.

    The cross-entropy is the mean over samples and voxels of -log of the true class's probability, clamped to 0.005..1,
    times the weight. The sum is not divided by the weights.

    probabilities  (B, K, X, Y, Z) in 0..1
    target         (B, K, X, Y, Z), one-hot
    weights        (B, X, Y, Z), see `rarity_weights`; None for 1
    """
    probabilities = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    voxels = None if weights is None else weights.flatten(1)
    apply: Callable[..., tuple[Tensor, Tensor]] = _CrossEntropyAndDice.apply
    return apply(probabilities.flatten(2), target.flatten(2), voxels)


class _CrossEntropyAndDice(torch.autograd.Function):
    """Autograd function of `cross_entropy_and_dice` on (B, K, V), with its gradient in closed form.

    Plain autograd takes about 25 passes over the memory. Here voxels are processed in pieces that stay in the cache of
    the processor.
    """

    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, target: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        classes = probabilities.shape[1]
        cross_entropy = torch.zeros((), dtype=torch.float64, device=probabilities.device)
        overlap, size = cross_entropy.new_zeros(classes), cross_entropy.new_zeros(classes)
        for b, piece in pieces(probabilities, _PIECE if probabilities.device.type == "cpu" else probabilities.shape[2]):
            estimated, true = probabilities[b, :, piece], target[b, :, piece]
            both = estimated * true
            overlap += both.sum(1)
            size += (estimated + true).sum(1)
            logarithms = both.sum(0).clamp_(PROBABILITY_FLOOR, 1).log_()
            cross_entropy -= (logarithms if weights is None else logarithms * weights[b, piece]).sum()
        ctx.save_for_backward(probabilities, target, weights, overlap, size + DICE_EPS)
        losses = cross_entropy / probabilities[:, 0].numel(), 1 - (2 * overlap / (size + DICE_EPS)).mean()
        return losses[0].to(probabilities.dtype), losses[1].to(probabilities.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_cross_entropy: Tensor, to_dice: Tensor) -> tuple[Tensor, None, None]:
        probabilities, target, weights, overlap, size = ctx.saved_tensors
        slope = (-to_dice * 2 / size / len(size)).to(probabilities.dtype)[:, None]
        offset = (to_dice * 2 * overlap / size.square() / len(size)).to(probabilities.dtype)[:, None]
        share = -to_cross_entropy / probabilities[:, 0].numel()
        gradient = torch.empty_like(probabilities)
        for b, piece in pieces(probabilities, _PIECE if probabilities.device.type == "cpu" else probabilities.shape[2]):
            true = target[b, :, piece]
            of_true = (probabilities[b, :, piece] * true).sum(0)
            clamped = (of_true < PROBABILITY_FLOOR) | (of_true > 1)
            each = share / of_true if weights is None else share * weights[b, piece] / of_true
            torch.addcmul(offset, slope + each.masked_fill_(clamped, 0), true, out=gradient[b, :, piece])
        return gradient, None, None
