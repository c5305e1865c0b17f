"""Objective and recipes of U-HVED. Source: sheet u_hved, sections Losses and Training."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from anymri.layers.gaussians import subset_divergences
from anymri.systems.batch import Batch
from anymri.systems.families.hved.objective import reconstruction_loss
from anymri.systems.losses import StepLoss, class_channels, cross_entropy_and_dice, rarity_weights
from anymri.systems.protocol import IM_FUSE_FAMILY
from anymri.systems.recipes.corrections import BLENDED_PROBABILITIES, IM_FUSE_BOX, WHOLE_BOX, Correction, corrected
from anymri.systems.recipes.nano import FOR_A_LAPTOP, large_patches, small_patches
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import LISTED_SHARE, OUR_DRAWS, OUR_SPLIT, OURS
from anymri.systems.recipes.validation import ValidationRules
from anymri.systems.u_hved.network import UHVED

DIVERGENCE_WEIGHT = 0.1
RECONSTRUCTION_WEIGHT = 0.1


def losses(system: UHVED, batch: Batch) -> StepLoss:
    """Return the losses of one step.

    All modalities that exist are encoded: reconstruction and divergences also use those that are missing in the subset
    drawn for the step, so that all encoders learn in every step.
    """
    encoding = system.encode(batch.images, batch.present)
    prediction = system.decode(encoding, batch.available, reconstruct=True)
    named = segmentation_losses(prediction.probabilities(), batch.labels)
    divergences = []
    for scale, gaussians in enumerate(encoding.gaussians, start=1):
        both, inter, prior = subset_divergences(gaussians, batch.present, batch.available)
        named |= {f"kl_inter{scale}": inter, f"kl_prior{scale}": prior}
        divergences.append(both)
    named["kld"] = torch.stack(divergences).mean()
    total = named["ce"] + named["dice"] + DIVERGENCE_WEIGHT * named["kld"]
    if prediction.reconstruction is not None:
        named["rec"] = reconstruction_loss(prediction.reconstruction, batch)
        total = total + RECONSTRUCTION_WEIGHT * named["rec"]
    return StepLoss(total, named)


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return cross-entropy (classes unweighted) and soft Dice loss of (B, K, X, Y, Z) against (B, X, Y, Z)."""
    cross_entropy, dice = cross_entropy_and_dice(probabilities, class_channels(labels, probabilities.shape[1]))
    return {"ce": cross_entropy, "dice": dice}


def validation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the losses that control the learning rate: those of `segmentation_losses`, with classes weighted."""
    target = class_channels(labels, probabilities.shape[1])
    cross_entropy, dice = cross_entropy_and_dice(probabilities, target, rarity_weights(target))
    return {"ce": cross_entropy, "dice": dice}


REFERENCE = Recipe(
    system="u_hved",
    about="As the PyTorch port trains it on BraTS 2023 (IM-Fuse repository, folder UHVED). Cost: 350,000 steps of "
    "112^3, about 0.22 T multiply-adds each. Dice on BraTS by subset: not published for this port.",
    source="sheet u_hved, Training (port)",
    sources={
        "network": "sheet u_hved, Architecture",
        "objective": "sheet u_hved, Losses (port)",
        "preprocessing": "sheet robust_mseg, Training (port)",
        "validation_share": LISTED_SHARE,
        "window_overlap": "sheet u_hved, Inference (port)",
        "window_blending": "sheet u_hved, Inference (port)",
        "augmentation": "sheet robust_mseg, Training (port)",
    },
    deviations=(OUR_SPLIT, OUR_DRAWS),
    network={"width": 8, "init": "port"},
    preprocessing=IM_FUSE_BOX,
    validation_share=0.125,
    window_blending="constant",
    window_values="logits",
    validation=ValidationRules(loss_of="logits"),
    seed=999,
    stages=[
        Stage(
            epochs=400,
            steps_per_epoch=875,
            crop=(112, 112, 112),
            augmentation="rotate_flip_intensity",
            optimiser=Optimiser(learning_rate=1e-3, weight_decay=1e-5, amsgrad=True),
            schedule="plateau",
            validation_epochs=(
                *(5, 10, 15, 20, 30, 35, 40, 45, 50, 55, 60, 65, 70, 75, 90, 100, 110, 125, 150, 175, 200, 225),
                *(250, 260, 270, 275, 280, 285, 290, 295, 300, *range(310, 401, 10)),
            ),
        )
    ],
)

PROTOCOL = replace(
    IM_FUSE_FAMILY,
    differences=(
        *IM_FUSE_FAMILY.differences,
        "Rows that the authors name FLAIR, T1 and T2 are made from T1, T2 and FLAIR; here from what their name says.",
    ),
)

RECIPES = {
    "corrected": corrected(
        REFERENCE,
        (
            *WHOLE_BOX,
            BLENDED_PROBABILITIES,
            Correction(
                "validation.loss_of",
                "probabilities",
                "The loss that lowers the learning rate is that of probabilities: the authors compute it of logits.",
            ),
        ),
    ),
    "reference": REFERENCE,
    "nano": Recipe(
        system="u_hved",
        about=f"{FOR_A_LAPTOP} Not the published training: no reconstruction, which halves the cost of a step. Small "
        "patches around each region of a tumour teach the regions; large ones teach healthy tissue.",
        source=OURS,
        network={"width": 8, "reconstruction": False},
        validation_share=0.05,
        stages=[small_patches(epochs=4), large_patches(64, epochs=3, steps_per_epoch=10, batch_size=2)],
    ),
    "one_case": Recipe(
        system="u_hved",
        about="Shows whether a network can learn your data at all: train on one case and evaluate on the same (see "
        "docs/one-case.md). A quarter of an hour on two cores, 8 GB of memory. As nano, but without augmentation, "
        "and patches contain most of a brain, because instance norm makes a healthy patch look bright.",
        source=OURS,
        network={"width": 8, "reconstruction": False},
        validation_share=0.0,
        stages=[
            small_patches(epochs=6, augmentation="none"),
            large_patches(
                128, epochs=16, steps_per_epoch=4, augmentation="none", optimiser=Optimiser(learning_rate=8e-3)
            ),
        ],
    ),
}
OBJECTIVES = {"train": losses}
