"""Recipes of the U-Net: for real cohorts, for a laptop, and that of the starter weights."""

from __future__ import annotations

from typing import Any

from anymri.modalities import MODALITIES
from anymri.systems.recipes.nano import FOR_A_LAPTOP, large_patches, small_patches
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import OURS
from anymri.systems.recipes.synthetic import PREPROCESSING, on_synthetic_cases, synthetic_stage
from anymri.systems.unet_dropout import CARD
from anymri.systems.unet_dropout.losses import losses

OBJECTIVES = {"train": losses}

# Each modality is dropped in half of the steps, so that all 15 subsets occur.
DROPOUT = dict.fromkeys(MODALITIES, 0.5)
BRAIN_ALONE = PREPROCESSING.model_copy(update={"coarsening": 1})


def _on_synthetic_cases(about: str, **training: Any) -> Recipe:
    """Return a recipe for synthetic cases.

    training  epochs, steps per epoch and validations
    """
    stage = synthetic_stage(2e-3, copies=2, crop=(64, 72, 64), subsets="one_and_several", **training)
    return on_synthetic_cases("unet_dropout", about, dict(CARD.presets["small"]), [stage])


RECIPES = {
    "full": Recipe(
        system="unet_dropout",
        about="Ours, with nnU-Net's optimiser and augmentation: 250,000 steps of two patches of 128^3, a third of them "
        "around tumour. Each modality is dropped in half of the steps; to target one alone: "
        '--set "subsets={FLAIR: 0.35}". Not yet measured.',
        source="nnU-Net's defaults, some of them in sheet mam, Data and training",
        sources=dict.fromkeys(("network", "validation_share", "seed", "subsets", "validation_epochs"), "ours"),
        network=dict(CARD.presets["full"]),
        preprocessing=BRAIN_ALONE,
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
        network=dict(CARD.presets["nano"]),
        preprocessing=BRAIN_ALONE,
        validation_share=0.05,
        stages=[
            small_patches(epochs=16, subsets=DROPOUT, optimiser=Optimiser(learning_rate=5e-3)),
            large_patches(
                64, epochs=6, steps_per_epoch=60, batch_size=2, subsets=DROPOUT, optimiser=Optimiser(learning_rate=3e-3)
            ),
        ],
    ),
    "starter": _on_synthetic_cases(
        "That of the starter weights, for --data synthetic: brains that are made in training, at 2 mm. About an hour "
        "on one core that has instructions for bfloat16.",
        epochs=36,
        validation_epochs=12,
    ),
    "demo": _on_synthetic_cases(
        "That of `anymri demo`: the recipe starter, much shorter. About three minutes on two cores.",
        epochs=4,
        steps_per_epoch=80,
        validation_epochs=None,
    ),
}
