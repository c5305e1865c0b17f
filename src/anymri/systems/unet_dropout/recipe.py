"""Objective and recipes of the baseline: nnU-Net's settings with modality dropout."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from anymri.data.preprocessing import Preprocessing
from anymri.modalities import MODALITIES
from anymri.systems.batch import Batch
from anymri.systems.losses import StepLoss, at_level, class_channels, cross_entropy_loss, soft_dice_loss
from anymri.systems.recipes.nano import FOR_A_LAPTOP, large_patches, small_patches
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import OURS
from anymri.systems.unet_dropout import CARD
from anymri.systems.unet_dropout.network import UNetDropout, UNetDropoutPrediction

# Weights of the resolutions, finest first.
LEVEL_WEIGHTS = tuple(weight / 7 for weight in (4, 2, 1))


def losses(system: UNetDropout, batch: Batch) -> StepLoss:
    """Return the losses of one step: Dice and cross-entropy at three resolutions."""
    prediction = system(batch.images, batch.available)
    assert isinstance(prediction, UNetDropoutPrediction)
    named: dict[str, Tensor] = {}
    terms = []
    for level, (logits, weight) in enumerate(
        zip((prediction.logits, *prediction.deep_supervision), LEVEL_WEIGHTS, strict=True)
    ):
        precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
        labels = at_level(batch.labels, level)
        dice = soft_dice_loss(precise.softmax(1), class_channels(labels, precise.shape[1]))
        named |= {f"level{level}_dice": dice, f"level{level}_ce": cross_entropy(precise, labels)}
        terms.append(weight * (dice + named[f"level{level}_ce"]))
    return StepLoss(torch.stack(terms).sum(), named)


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return soft Dice loss and cross-entropy.

    probabilities  (B, K, X, Y, Z) in 0..1
    labels         (B, X, Y, Z) int64, classes
    """
    target = class_channels(labels, probabilities.shape[1])
    return {"dice": soft_dice_loss(probabilities, target), "ce": cross_entropy_loss(probabilities, target)}


OBJECTIVES = {"train": losses}

PUBLISHED, NANO = CARD.presets["published"], CARD.presets["nano"]
# Each modality is dropped in half of the steps, so that all 15 subsets occur.
DROPOUT = dict.fromkeys(MODALITIES, 0.5)

RECIPES = {
    "full": Recipe(
        system="unet_dropout",
        about="Ours, after nnU-Net: 250,000 steps of two patches of 128^3, a third of them around tumour, with its "
        "optimiser, augmentation and weights of three resolutions. Each modality is dropped in half of the steps; to "
        'target one alone: --set "subsets={FLAIR: 0.35}". Not yet measured.',
        source="nnU-Net's defaults, some of them in sheet mam, Data and training",
        sources=dict.fromkeys(("network", "validation_share", "seed", "subsets", "validation_epochs"), "ours"),
        network=dict(PUBLISHED),
        preprocessing=Preprocessing(normalisation="zscore_background_zero"),
        validation_share=0.125,
        stages=[
            Stage(
                epochs=1000,
                steps_per_epoch=250,
                batch_size=2,
                crop=(128, 128, 128),
                foreground_oversampling=1 / 3,
                subsets=DROPOUT,
                augmentation="nnunet",
                optimiser=Optimiser(name="sgd", learning_rate=0.01, weight_decay=3e-5, momentum=0.99, clip_norm=12.0),
                schedule="poly",
                validation_epochs=50,
            )
        ],
    ),
    "nano": Recipe(
        system="unet_dropout",
        about=FOR_A_LAPTOP,
        source=OURS,
        network=dict(NANO),
        preprocessing=Preprocessing(normalisation="zscore_background_zero"),
        validation_share=0.05,
        stages=[
            small_patches(epochs=8, subsets=DROPOUT, optimiser=Optimiser(learning_rate=5e-3)),
            large_patches(
                64, epochs=3, steps_per_epoch=30, batch_size=2, subsets=DROPOUT, optimiser=Optimiser(learning_rate=3e-3)
            ),
        ],
    ),
}
