"""Segmentation losses that several systems share. Source: protocol sheet, section 10; sheets u_hved and mmformer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from anymri.regions import REGIONS

DICE_EPS = 1e-7
# The authors clamp probabilities here, which also stops gradients below it.
PROBABILITY_FLOOR = 0.005


@dataclass(frozen=True)
class StepLoss:
    """The losses of one training step.

    total          scalar that the optimiser of the system minimises
    terms          name -> scalar: the parts of `total` before their weights, for the log
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
    """(B, X, Y, Z) classes as (B, K, X, Y, Z) zeros and ones, float32."""
    return one_hot(labels, num_classes).movedim(-1, 1).float()


def region_channels(labels: Tensor, num_regions: int) -> Tensor:
    """(B, X, Y, Z) classes as (B, K, X, Y, Z) zeros and ones, float32: WT, TC, ET and RC, or the first K of them."""
    tissues = [torch.tensor(sorted(REGIONS[name]), device=labels.device) for name in list(REGIONS)[:num_regions]]
    return torch.stack([torch.isin(labels, each) for each in tissues], dim=1).float()


def at_level(labels: Tensor, level: int) -> Tensor:
    """The voxels of (..., X, Y, Z) that stand for those of a level at 1/2^level of the resolution."""
    step = 2**level
    return labels[..., step // 2 :: step, step // 2 :: step, step // 2 :: step]


def soft_dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """1 - mean over classes (background included) of the soft Dice, sums over batch and volume together.

    probabilities, target  (B, K, X, Y, Z)
    """
    axes = (0, 2, 3, 4)
    overlap = (probabilities * target).sum(axes)
    size = probabilities.sum(axes) + target.sum(axes)
    return 1 - (2 * overlap / (size + DICE_EPS)).mean()


def cross_entropy_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Mean over samples and voxels of -log of the true class's probability, clamped to 0.005..1.

    probabilities, target  (B, K, X, Y, Z)
    """
    return -(target * probabilities.clamp(PROBABILITY_FLOOR, 1).log()).sum(1).mean()


def weighted_cross_entropy_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """As `cross_entropy_loss`, each class weighted by 1 - its share of the sample's voxels; not divided by the weights.

    probabilities, target  (B, K, X, Y, Z)
    """
    weighted = target * (1 - target.mean((2, 3, 4), keepdim=True))
    return cross_entropy_loss(probabilities, weighted)
