"""Objectives and recipes of ShaSpec. Source: sheet shaspec, sections 6 and 7."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy

from anymri.data.preprocessing import Preprocessing
from anymri.systems.batch import Batch
from anymri.systems.losses import StepLoss, region_channels
from anymri.systems.protocol import ReferenceProtocol
from anymri.systems.recipes.corrections import DICE_OF_LABEL_MAPS, Correction, corrected, linear
from anymri.systems.recipes.nano import FOR_A_LAPTOP, large_patches, small_patches
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage
from anymri.systems.recipes.sources import LISTED_SHARE, OUR_DRAWS, OUR_SPLIT, OURS
from anymri.systems.recipes.validation import ValidationRules
from anymri.systems.shaspec.network import ShaSpec

SHARED_WEIGHT = 0.1
SPECIFIC_WEIGHT = 0.02


def losses(system: ShaSpec, batch: Batch) -> StepLoss:
    """Return the losses of one step as published; missing modalities take part as empty images."""
    with system.folded_weights():
        encoding = system.encode(batch.images, batch.available)
        logits = system.decode(encoding, batch.available).logits
        shared = system.shared_features(encoding, batch.available)
        domains = system.domain_logits(encoding, batch.available)
    return _named(logits, shared, domains, batch.labels, torch.ones_like(batch.available))


def available_losses(system: ShaSpec, batch: Batch) -> StepLoss:
    """Return the losses of one step; missing modalities take part in the segmentation alone."""
    with system.folded_weights():
        encoding = system.encode(batch.images, batch.available)
        logits = system.decode(encoding, batch.available).logits
    domains = system.domain_classifier(encoding.summaries)
    return _named(logits, encoding.shared, domains, batch.labels, batch.available)


def _named(logits: Tensor, shared: Tensor, domains: Tensor, labels: Tensor, included: Tensor) -> StepLoss:
    """Return the losses of a step.

    logits    (B, K, X, Y, Z)
    shared    shared features at the bottleneck, (B, M, C, X, Y, Z)
    domains   domain logits, (B, M, M)
    labels    (B, X, Y, Z) int64, classes
    included  (B, M) bool: modalities in the losses of `shared` and `domains`
    """
    target = region_channels(labels, logits.shape[1]).to(logits.dtype)
    bce = binary_cross_entropy_with_logits(logits, target, reduction="none")
    named = {
        "dice": region_dice_loss(logits.sigmoid(), target),
        "bce": _sum_over_regions(bce),
        "shared": ring_distance(shared, included),
        "spec": cross_entropy(domains[included], included.nonzero()[:, 1]),
    }
    total = named["dice"] + named["bce"] + SHARED_WEIGHT * named["shared"] + SPECIFIC_WEIGHT * named["spec"]
    return StepLoss(total, named)


def region_dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return the mean over regions and samples of 1 - Dice; an empty region costs 1 whatever the prediction.

    probabilities  (B, K, X, Y, Z) in 0..1
    target         (B, K, X, Y, Z), zeros and ones
    """
    axes = (2, 3, 4)
    overlap = (probabilities * target).sum(axes)
    return 1 - (2 * overlap / (probabilities.sum(axes) + target.sum(axes) + 1)).mean()


def ring_distance(shared: Tensor, included: Tensor) -> Tensor:
    """Return the mean absolute difference of shared features, summed over pairs of neighbouring modalities.

    shared    (B, M, C, X, Y, Z); the last modality is a neighbour of the first, as in the authors' order
    included  (B, M) bool: the distance of pairs that are not included counts as zero
    """
    distance = (shared - shared.roll(-1, dims=1)).abs().flatten(2).mean(2)
    return (distance * (included & included.roll(-1, dims=1))).sum(1).mean()


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return Dice loss and binary cross-entropy of the regions.

    probabilities  (B, K, X, Y, Z) in 0..1
    labels         (B, X, Y, Z) int64, classes
    """
    target = region_channels(labels, probabilities.shape[1])
    bce = binary_cross_entropy(probabilities, target, reduction="none")
    return {"dice": region_dice_loss(probabilities, target), "bce": _sum_over_regions(bce)}


def _sum_over_regions(values: Tensor) -> Tensor:
    """Return the mean over samples and voxels of (B, K, X, Y, Z), summed over regions."""
    return values.sum(1).mean()


OBJECTIVES = {"train": losses, "train_available": available_losses}

RATE = 1e-2
# Learning rate of a schedule over all 406,000 steps after the 245,000 steps of the first stage.
SECOND_RATE = RATE * (161 / 406) ** 0.9


def _sgd(learning_rate: float) -> Optimiser:
    return Optimiser(name="sgd", learning_rate=learning_rate, momentum=0.99)


# Settings that both stages of the published training share. The authors count steps: thousands of them are epochs here.
_STAGE: dict[str, Any] = {
    "steps_per_epoch": 1000,
    "crop": (160, 160, 80),
    "foreground_oversampling": 0.5,
    "foreground_sampling": "region_shaspec",
    "patch_margins": (15, 10, 0),
    "patch_scaling": 0.1,
    "augmentation": "shaspec_cubic",
    "schedule": "poly_by_step",
}
_NANO_PATCHES: dict[str, Any] = {
    "objective": "train_available",
    "crop": 64,
    "optimiser": Optimiser(learning_rate=5e-3),
}

REFERENCE = Recipe(
    system="shaspec",
    about="As IM-Fuse's port trains it on BraTS 2023: all modalities first, then random subsets. Cost: 406,000 "
    "steps of one patch, about 0.7 T multiply-adds per pass. The authors evaluate the last weights "
    "(checkpoints/last). Dice by subset is not in the sources at hand.",
    source="sheet shaspec, section 7, what it says of the port",
    sources={
        "network": "sheet shaspec, section 4",
        "validation_share": LISTED_SHARE,
        "window_overlap": "sheet shaspec, section 8",
        "window_blending": "sheet shaspec, section 8",
        "preprocessing.crop_to_brain": "sheet shaspec, section 8",
        "objective": "sheet shaspec, section 6",
        "train.subsets": "sheet shaspec, section 5",
        "augmentation": "sheet shaspec, section 7; ranges that it does not give: sheet mam, Data and training",
        "validation_epochs": "sheet shaspec, section 7; between the steps that it gives, every 35,000",
    },
    deviations=(OUR_SPLIT, OUR_DRAWS),
    network={"width": 64, "init": "reference"},
    preprocessing=Preprocessing(normalisation="zscore_capped", crop_to_brain=False),
    validation_share=0.125,
    window_overlap=1 / 3,
    window_blending="constant",
    window_steps="up",
    validation=ValidationRules(dice="probabilities", window_values="logits"),
    seed=999,
    stages=[
        Stage(
            name="warmup",
            epochs=245,
            subsets="all",
            optimiser=_sgd(RATE),
            validation_epochs=(15, *range(30, 245, 35)),
            **_STAGE,
        ),
        Stage(
            begins="best",
            epochs=161,
            subsets="by_size_or_all",
            optimiser=_sgd(SECOND_RATE),
            validation_epochs=(*range(5, 161, 35),),
            **_STAGE,
        ),
    ],
)

PROTOCOL = ReferenceProtocol(compared="scan", metrics=("dice_plus_one",), source="sheet shaspec, section 8")

RECIPES = {
    "corrected": corrected(
        REFERENCE,
        (
            Correction(
                "preprocessing.normalisation",
                "zscore_background_zero",
                "The authors cap intensities at the number of a bin in their histogram, which is an intensity only in "
                "scans of whole numbers from 0, as those of BraTS are.",
            ),
            Correction(
                "patch_margins", (0, 0, 0), "A brain may reach to the ends of its scan, which none does in BraTS."
            ),
            linear("shaspec"),
            DICE_OF_LABEL_MAPS,
            Correction(
                "validation.window_values", None, "Validation blends windows as evaluation does: by probabilities."
            ),
        ),
    ),
    "reference": REFERENCE,
    "nano": Recipe(
        system="shaspec",
        about=f"{FOR_A_LAPTOP} Missing ones are excluded from the auxiliary losses, which saves their encoders.",
        source=OURS,
        network={"width": 8},
        preprocessing=Preprocessing(normalisation="zscore_background_zero"),
        validation_share=0.05,
        stages=[
            # The bottleneck is 32 times coarser: with smaller patches it would have too few voxels for its norms.
            small_patches(1, name="warmup", subsets="all", **_NANO_PATCHES),
            small_patches(3, **_NANO_PATCHES),
            large_patches(
                96, 3, steps_per_epoch=15, objective="train_available", optimiser=Optimiser(learning_rate=2e-3)
            ),
        ],
    ),
}
