"""Objective and recipes of MaM. Source: sheet mam, sections Loss, Data and training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from anymri.data.preprocessing import Preprocessing
from anymri.systems.batch import Batch
from anymri.systems.losses import StepLoss, at_level, region_channels
from anymri.systems.mam import CARD
from anymri.systems.mam.network import MAM, MAMPrediction
from anymri.systems.protocol import ReferenceProtocol, smoothed_dice
from anymri.systems.recipes.corrections import (
    BLENDED_PROBABILITIES,
    DICE_OF_LABEL_MAPS,
    FULL_PRECISION,
    WHOLE_VOLUMES,
    corrected,
    linear,
)
from anymri.systems.recipes.nano import FOR_A_LAPTOP, large_patches, small_patches
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import LISTED_SHARE, OUR_DRAWS, OUR_SPLIT, OURS
from anymri.systems.recipes.validation import ValidationRules

# Weights of the levels, finest first. The reference gives the fifth level the weight 0.
LEVEL_WEIGHTS = tuple(weight / 15 for weight in (8, 4, 2, 1))
DICE_EPS = 1e-5


def losses(system: MAM, batch: Batch) -> StepLoss:
    """Return the losses of one step: segmentation at four levels, and reconstruction of missing features.

    Modalities that exist and are missing from the step's subset are encoded without gradient, as targets of the
    reconstruction.
    """
    prediction = system.decode(system.encode(batch.images, batch.available), batch.available)
    assert isinstance(prediction, MAMPrediction)
    target = region_channels(batch.labels, system.out_channels)
    named: dict[str, Tensor] = {}
    terms = []
    for level, (logits, weight) in enumerate(
        zip((prediction.logits, *prediction.deep_supervision), LEVEL_WEIGHTS, strict=True)
    ):
        named |= {f"level{level}_{kind}": loss for kind, loss in level_losses(logits, at_level(target, level)).items()}
        terms.append(weight * (named[f"level{level}_ce"] + named[f"level{level}_dice"]))
    hidden = batch.present & ~batch.available
    if hidden.any() and system.transformer is not None:
        difference = prediction.coarsest - system.targets(batch.images, hidden)
        named["reconstructed"] = difference[hidden].square().mean()
        terms.append(named["reconstructed"])
    return StepLoss(torch.stack(terms).sum(), named)


def level_losses(logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return binary cross-entropy and negative Dice, means over samples and regions.

    logits  (B, K, X, Y, Z)
    target  (B, K, X, Y, Z), zeros and ones
    """
    named = {"ce": binary_cross_entropy_with_logits(logits, target.to(logits.dtype))}
    return {**named, "dice": _negative_dice(logits.sigmoid(), target)}


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return binary cross-entropy and negative Dice at full resolution.

    probabilities  (B, K, X, Y, Z) in 0..1
    labels         (B, X, Y, Z) int64, classes
    """
    target = region_channels(labels, probabilities.shape[1])
    return {"ce": binary_cross_entropy(probabilities, target), "dice": _negative_dice(probabilities, target)}


def _negative_dice(probabilities: Tensor, target: Tensor) -> Tensor:
    overlap = (probabilities * target).sum((2, 3, 4))
    size = probabilities.sum((2, 3, 4)) + target.sum((2, 3, 4))
    return -((2 * overlap + DICE_EPS) / (size + DICE_EPS)).mean()


OBJECTIVES = {"train": losses}

PUBLISHED, NANO = CARD.presets["published"], CARD.presets["nano"]
REFERENCE = Recipe(
    system="mam",
    about="As IM-Fuse's repository trains it on BraTS 2023. Cost: 75,000 steps of 128^3, up to 0.38 T "
    "multiply-adds per pass. Dice by subset: not published for this port.",
    source="sheet mam, Data and training",
    sources={
        "network": "sheet mam, Shapes and symbols",
        "objective": "sheet mam, Loss",
        "validation_share": LISTED_SHARE,
        "window_overlap": "sheet mam, Inference",
        "window_blending": "sheet mam, Inference",
        "seed": "ours",
    },
    deviations=(
        "The middle of a patch is any voxel of its region; the authors' is one of 10,000, drawn once per case. Patches "
        "show the same.",
        OUR_SPLIT,
        OUR_DRAWS,
    ),
    network=dict(PUBLISHED),
    preprocessing=Preprocessing(normalisation="zscore_background_zero", fill_holes=True),
    validation_share=0.125,
    window_blending="gaussian_nnunet",
    window_values="logits",
    window_steps="equal",
    validation=ValidationRules(dice="pooled", patches=125),
    precision="16-mixed",
    stages=[
        Stage(
            epochs=500,
            steps_per_epoch=150,
            crop=PUBLISHED["crop"],
            foreground_oversampling=1.0,
            foreground_sampling="region_nnunet",
            augmented_from=(205, 205, 205),
            augmentation="nnunet_cubic",
            # In the reference, encoders of modalities missing from the subset receive a gradient of zero.
            optimiser=Optimiser(
                name="sgd",
                learning_rate=0.01,
                weight_decay=3e-5,
                momentum=0.99,
                zero_gradient_updates=("encoders",),
                clip_norm=12.0,
            ),
            schedule="poly",
            validation_epochs=(
                *(21, 51, 71, 101, 121, 151, 201, 251, 301, 351, 371, 391),
                *(401, 421, 451, 461, 471, 481, 486, 491, 496, 500),
            ),
        )
    ],
)

PROTOCOL = ReferenceProtocol(
    compared="scan",
    metrics=("dice_overwritten",),
    source="sheet mam, Inference",
    differences=(
        "The authors compute windows and add their logits in half precision.",
        smoothed_dice("1e-8"),
    ),
)

RECIPES = {
    "corrected": corrected(
        REFERENCE,
        (
            BLENDED_PROBABILITIES,
            FULL_PRECISION,
            linear("nnunet"),
            DICE_OF_LABEL_MAPS,
            WHOLE_VOLUMES,
        ),
    ),
    "reference": REFERENCE,
    "nano": Recipe(
        system="mam",
        about=f"{FOR_A_LAPTOP} The network takes one crop only: first around each region of a tumour, then in "
        "healthy tissue too.",
        source=OURS,
        network=dict(NANO),
        preprocessing=Preprocessing(normalisation="zscore_background_zero"),
        validation_share=0.05,
        stages=[
            # Two patches at a time: torch's convolutions of a single small patch are several times slower on a CPU.
            small_patches(epochs=3, crop=NANO["crop"], optimiser=Optimiser(learning_rate=5e-3)),
            large_patches(
                NANO["crop"], epochs=3, steps_per_epoch=20, batch_size=2, optimiser=Optimiser(learning_rate=2e-3)
            ),
        ],
    ),
}
