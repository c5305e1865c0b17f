"""Objectives and recipes of M3AE. Source: sheet m3ae, sections 5 and 6."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from anymri.data.preprocessing import Preprocessing
from anymri.systems.batch import Batch
from anymri.systems.losses import StepLoss, region_channels
from anymri.systems.m3ae import CARD
from anymri.systems.m3ae.network import M3AE, M3AEPrediction
from anymri.systems.protocol import ReferenceProtocol
from anymri.systems.recipes.corrections import (
    BLENDED_PROBABILITIES,
    DICE_OF_LABEL_MAPS,
    FULL_PRECISION,
    Correction,
    corrected,
)
from anymri.systems.recipes.nano import FOR_A_LAPTOP, large_patches, small_patches
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import LISTED_SHARE, OUR_DRAWS, OUR_SPLIT, OURS
from anymri.systems.recipes.validation import ValidationRules

DICE_WEIGHT, CROSS_ENTROPY_WEIGHT = 0.7, 0.3
SMOOTHING = 1.0
SUBSTITUTE_WEIGHT = 0.005
DISTILLATION_WEIGHT = 0.1
LEVELS = ("full", "half", "quarter")


def pretraining_losses(system: M3AE, batch: Batch) -> StepLoss:
    """Return the losses of pre-training: all images that exist, reconstructed from a few patches of the subset."""
    encoding = system.encode(batch.images, batch.present, batch.corners)
    visible = system.draw_visible(batch.available, batch.images.shape[2:])
    difference = (system.reconstruct(encoding, visible) - batch.images)[batch.present]
    named = {"reconstruction": difference.square().mean()}
    total = named["reconstruction"]
    if system.substitute is not None:
        deviation = system.substitute - system.substitute.mean((2, 3, 4), keepdim=True)
        # A norm, not its square, as published.
        named["substitute"] = torch.linalg.vector_norm(deviation)
        total = total + SUBSTITUTE_WEIGHT * named["substitute"]
    return StepLoss(total, named)


def losses(system: M3AE, batch: Batch) -> StepLoss:
    """Return the losses of fine-tuning; copies of a patch are compared in the coarsest logits, as in the code."""
    prediction = _predict(system, batch)
    return _named(prediction, batch, prediction.deep_supervision[-1])


def varied_losses(system: M3AE, batch: Batch) -> StepLoss:
    """Return the losses of fine-tuning after intensities have changed, of scans and substitute alike, as published.

    Each z slice of each modality is scaled by U(0.9, 1.1) and shifted by U(-0.1, 0.1), in all copies of a patch alike.
    """
    encoding = system.encode(batch.images, batch.present, batch.corners)
    scale, shift = system.draw_intensities(batch.images, batch.patch)
    varied = replace(encoding, images=encoding.images * scale + shift, substitute=encoding.substitute * scale + shift)
    prediction = system.decode(varied, batch.available)
    assert isinstance(prediction, M3AEPrediction)
    return _named(prediction, batch, prediction.deep_supervision[-1])


def bottleneck_losses(system: M3AE, batch: Batch) -> StepLoss:
    """Return the losses of fine-tuning; copies of a patch are compared in the bottleneck, as in the paper."""
    prediction = _predict(system, batch)
    return _named(prediction, batch, prediction.bottleneck)


def _predict(system: M3AE, batch: Batch) -> M3AEPrediction:
    encoding = system.encode(batch.images, batch.present, batch.corners)
    prediction = system.decode(encoding, batch.available)
    assert isinstance(prediction, M3AEPrediction)
    return prediction


def _named(prediction: M3AEPrediction, batch: Batch, distilled: Tensor) -> StepLoss:
    """Return segmentation losses at three resolutions, and the distance of `distilled` between copies of a patch."""
    named: dict[str, Tensor] = {}
    for level, logits in zip(LEVELS, (prediction.logits, *prediction.deep_supervision), strict=True):
        precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
        both = segmentation_losses(precise.sigmoid(), batch.labels)
        named |= {f"{level}_{kind}": loss for kind, loss in both.items()}
    total = torch.stack(list(named.values())).sum()
    # All pairs of samples of the same patch. The reference has two copies of one patch.
    pairs = (batch.patch[:, None] == batch.patch).triu(1).nonzero()
    if len(pairs):
        one, other = distilled[pairs].unbind(1)
        named["distillation"] = (one - other).square().mean()
        total = total + DISTILLATION_WEIGHT * named["distillation"]
    return StepLoss(total, named)


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the weighted Dice loss and binary cross-entropy, means over regions.

    probabilities  (B, K, X, Y, Z) in 0..1
    labels         (B, X, Y, Z) int64, classes
    """
    target = region_channels(labels, probabilities.shape[1]).to(probabilities.dtype)
    # From probabilities, as published, with the logarithm clamped at -100; autocast does not allow that.
    with torch.autocast(probabilities.device.type, enabled=False):
        cross_entropy = binary_cross_entropy(probabilities, target)
    dice = dice_losses(probabilities, target).mean()
    return {"dice": DICE_WEIGHT * dice, "ce": CROSS_ENTROPY_WEIGHT * cross_entropy}


def dice_losses(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return 1 - Dice of each region, (K,), with squares in the denominator and sums over batch and volume.

    probabilities  (B, K, X, Y, Z) in 0..1
    target         (B, K, X, Y, Z), zeros and ones
    """
    axes = (0, 2, 3, 4)
    overlap = (probabilities * target).sum(axes)
    size = probabilities.square().sum(axes) + target.square().sum(axes)
    return 1 - (2 * overlap + SMOOTHING) / (size + SMOOTHING)


OBJECTIVES: dict[str, Callable[..., StepLoss]] = {
    "pretraining": pretraining_losses,
    "train": losses,
    "train_varied": varied_losses,
    "train_bottleneck": bottleneck_losses,
}

PUBLISHED, NANO = CARD.presets["published"], CARD.presets["nano"]
SUBSTITUTE = "substitute"
# Settings that both stages of the published training share.
_STAGE: dict[str, Any] = {
    "crop": 128,
    "patch_sampling": "uniform_around",
    "subsets": "by_size_or_all",
    "schedule": "cosine",
}
_NANO_FINE_TUNING: dict[str, Any] = {"copies": 2, "frozen": (SUBSTITUTE,), "subsets": "by_size_or_all"}

REFERENCE = Recipe(
    system="m3ae",
    about="As IM-Fuse's repository trains it on BraTS 2023: pre-training, then fine-tuning with the substitute "
    "frozen. Cost: 262,200 steps of two patches of 128^3, then 262,500 of one patch twice; 148 G multiply-adds "
    "per patch and pass. Dice by subset: sheet, section 9.",
    source="sheet m3ae, section 6, on the port",
    sources={
        "network": "sheet m3ae, section 2",
        "validation_share": LISTED_SHARE,
        "window_overlap": "sheet m3ae, section 7",
        "window_blending": "sheet m3ae, section 7",
        "objective": "sheet m3ae, section 5",
        "crop": "sheet m3ae, section 2",
        "pretraining.subsets": "sheet m3ae, section 4, Patch mask",
        "pretraining.steps_per_epoch": "875 cases in batches of two, without the last",
    },
    deviations=(OUR_SPLIT, OUR_DRAWS),
    network={**PUBLISHED, "placement": "box"},
    preprocessing=Preprocessing(normalisation="percentiles", slice_before=True),
    validation_share=0.125,
    window_blending="constant",
    window_values="logits",
    validation=ValidationRules(dice="regions", half_precision=True),
    seed=999,
    stages=[
        Stage(
            name="pretraining",
            objective="pretraining",
            epochs=600,
            steps_per_epoch=437,
            batch_size=2,
            augmentation="none",
            optimiser=Optimiser(learning_rate=3e-4, module_rates={SUBSTITUTE: 5e-3}),
            validation_epochs=None,
            **_STAGE,
        ),
        Stage(
            epochs=300,
            steps_per_epoch=875,
            copies=2,
            frozen=(SUBSTITUTE,),
            objective="train_varied",
            augmentation="flip",
            optimiser=Optimiser(learning_rate=3e-4, weight_decay=1e-4),
            validation_epochs=(*range(25, 251, 25), 260, 270, *range(275, 301, 5)),
            **_STAGE,
        ),
    ],
)

PROTOCOL = ReferenceProtocol(
    compared="box",
    metrics=("dice_regions",),
    source="sheet m3ae, section 7",
    differences=("The authors store scans and compute windows in half precision.",),
)

RECIPES = {
    "corrected": corrected(
        REFERENCE,
        (
            BLENDED_PROBABILITIES,
            DICE_OF_LABEL_MAPS,
            Correction("validation.half_precision", False, FULL_PRECISION.reason),
            Correction(
                "network.placement",
                "scan",
                "Inference crops the substitute where training does: the authors' code shifts it by the origin of "
                "the box.",
            ),
        ),
    ),
    "reference": REFERENCE,
    "nano": Recipe(
        system="m3ae",
        about=f"{FOR_A_LAPTOP} A quarter of the multiply-adds, and a substitute that fits those phantoms.",
        source=OURS,
        network=dict(NANO),
        preprocessing=Preprocessing(normalisation="percentiles"),
        validation_share=0.05,
        stages=[
            small_patches(
                epochs=1,
                name="pretraining",
                objective="pretraining",
                subsets="by_size_or_all",
                augmentation="none",
                optimiser=Optimiser(learning_rate=1e-3, module_rates={SUBSTITUTE: 5e-2}),
            ),
            small_patches(epochs=6, optimiser=Optimiser(learning_rate=2e-3), **_NANO_FINE_TUNING),
            large_patches(
                64, epochs=3, steps_per_epoch=25, optimiser=Optimiser(learning_rate=1e-3), **_NANO_FINE_TUNING
            ),
        ],
    ),
}
