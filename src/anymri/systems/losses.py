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


def weighted_cross_entropy_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return `cross_entropy_loss` with each class weighted by 1 - its share of the sample's voxels.

    The sum is not divided by the weights.

    probabilities, target  (B, K, X, Y, Z) in 0..1
    """
    weighted = target * (1 - target.mean((2, 3, 4), keepdim=True))
    return cross_entropy_loss(probabilities, weighted)
