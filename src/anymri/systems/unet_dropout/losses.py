"""Losses of the U-Net: is there tumour, and, apart from that, which part of the tumour is it.

Both questions have losses of their own. Dice of nested regions alone rewards a network that calls every tumour voxel
enhancing, because that voxel counts for all three regions, and cross-entropy alone is lost in the background.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, max_pool3d

from anymri.systems.batch import Batch
from anymri.systems.losses import StepLoss, class_channels, region_channels, soft_dice_loss
from anymri.systems.unet_dropout.network import UNetDropout, UNetDropoutPrediction

TUMOUR_WEIGHT = 3.0  # of a tumour voxel in the cross-entropy of tumour against background
PART_WEIGHTS = (1.5, 1.0, 1.5)  # of NCR, ED and ET; further classes have 1
SMOOTHING = 20.0  # voxels that are added to both sides of the Dice of one sample
FEWEST_VOXELS = 20  # of a class in a sample whose Dice counts
COARSE = 4  # voxels per voxel of the coarse output


def losses(system: UNetDropout, batch: Batch) -> StepLoss:
    """Return the losses of one step, see `split_losses`."""
    prediction = system(batch.images, batch.available)
    assert isinstance(prediction, UNetDropoutPrediction) and prediction.coarse is not None
    return split_losses(prediction.class_logits.float(), prediction.coarse.float(), batch.labels)


def split_losses(logits: Tensor, coarse: Tensor, labels: Tensor) -> StepLoss:
    """Return the losses of logits (B, K, X, Y, Z), coarse logits (B, 1, X/4, Y/4, Z/4) and labels (B, X, Y, Z).

    tumour  cross-entropy of tumour against background
    whole   Dice of the whole tumour, per sample
    parts   cross-entropy of the tumour's classes inside the true tumour
    dice    mean Dice of the tumour's classes that have over 20 voxels in a sample
    coarse  cross-entropy and Dice of the whole tumour in cubes of 4^3 voxels
    """
    is_tumour = labels > 0
    target = is_tumour.float()
    logit = logits[:, 1:].logsumexp(1) - logits[:, 0]
    weight = 1 + (TUMOUR_WEIGHT - 1) * target
    tumour = binary_cross_entropy_with_logits(logit, target, weight, reduction="sum") / weight.sum()
    whole = _dice_loss(logit.sigmoid(), target).mean()

    weights = torch.ones(logits.shape[1] - 1, device=logits.device)
    weights[: len(PART_WEIGHTS)] = torch.tensor(PART_WEIGHTS, device=logits.device)[: len(weights)]
    inside = logits[:, 1:].movedim(1, -1)[is_tumour]
    parts = cross_entropy(inside, labels[is_tumour] - 1, weights) if len(inside) else logits.sum() * 0

    classes = class_channels(labels, logits.shape[1])[:, 1:]
    counted = classes.sum((2, 3, 4)) > FEWEST_VOXELS
    each = _dice_loss(logits.softmax(1)[:, 1:].flatten(0, 1), classes.flatten(0, 1)).view(counted.shape)
    dice = (each * counted).sum() / counted.sum().clamp(min=1)

    cubes = max_pool3d(target[:, None], COARSE)
    heavier = torch.tensor(TUMOUR_WEIGHT, device=logits.device)
    rough = binary_cross_entropy_with_logits(coarse, cubes, pos_weight=heavier)
    rough = rough + _dice_loss(coarse.sigmoid()[:, 0], cubes[:, 0]).mean()

    total = 3 * tumour + whole + 0.5 * parts + dice + 0.3 * rough
    return StepLoss(total, {"tumour": tumour, "whole": whole, "parts": parts, "dice": dice, "coarse": rough})


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the soft Dice loss of the regions.

    probabilities  (B, K, X, Y, Z) in 0..1
    labels         (B, X, Y, Z) int64, classes
    """
    return {"dice": soft_dice_loss(probabilities, region_channels(labels, probabilities.shape[1]))}


def _dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return 1 - soft Dice of each sample, (B,), for probabilities and target (B, X, Y, Z)."""
    overlap = (probabilities * target).sum((1, 2, 3))
    size = probabilities.sum((1, 2, 3)) + target.sum((1, 2, 3))
    return 1 - (2 * overlap + SMOOTHING) / (size + SMOOTHING)
