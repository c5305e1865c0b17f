"""Objectives and recipes of XLSTM-HVED. Source: sheet xlstm_hved, section 7."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from anymri.data.preprocessing import Preprocessing
from anymri.layers.discriminator import PatchDiscriminator
from anymri.systems.base import Batch, Prediction
from anymri.systems.hved_losses import (
    DIVERGENCE_WEIGHT,
    generator_losses,
    prior_divergence,
    reconstruction_loss,
    with_discriminator,
)
from anymri.systems.recipes import Optimiser, Recipe, Stage
from anymri.systems.xlstm_hved.network import XLSTMHVED, XLSTMHVEDPrediction


def losses(system: XLSTMHVED, batch: Batch) -> dict[str, Tensor]:
    """Named losses of one step without a discriminator; `total` is minimised."""
    encoding = system.encode(batch.images, batch.present)
    complete = system.decode(encoding, batch.present)
    incomplete = system.decode(encoding, batch.available, reconstruct=True)
    return _generator_losses(complete, incomplete, batch)


def adversarial_losses(system: XLSTMHVED, batch: Batch, discriminator: nn.Module) -> dict[str, Tensor]:
    """As `losses`, with the discriminator as published; `discriminator` is what that one minimises."""
    encoding = system.encode(batch.images, batch.present)
    complete = system.decode(encoding, batch.present, reconstruct=True)
    assert complete.reconstruction is not None
    # Only the discriminator sees these images, and it sends nothing back: their graph may go.
    complete.reconstruction = complete.reconstruction.detach()
    incomplete = system.decode(encoding, batch.available, reconstruct=True)
    named = _generator_losses(complete, incomplete, batch)
    return with_discriminator(named, complete, incomplete, discriminator)


def _generator_losses(complete: Prediction, incomplete: Prediction, batch: Batch) -> dict[str, Tensor]:
    assert isinstance(incomplete, XLSTMHVEDPrediction)
    return generator_losses(complete, incomplete, incomplete.posteriors, batch)


def pretraining_losses(system: XLSTMHVED, batch: Batch) -> dict[str, Tensor]:
    """All images from those drawn for the step, before any segmentation is learnt."""
    encoding = system.encode(batch.images, batch.present)
    reconstruction, posteriors = system.rebuild(encoding, batch.available)
    named = {"reconstruction": reconstruction_loss(reconstruction, batch), "kld": prior_divergence(posteriors)}
    return {**named, "total": named["reconstruction"] + DIVERGENCE_WEIGHT * named["kld"]}


def make_discriminator(system: XLSTMHVED) -> PatchDiscriminator:
    """The discriminator of regions and rebuilt images, with fresh weights."""
    return PatchDiscriminator(system.num_scores + len(system.modalities))


RECIPES = {
    "published": Recipe(
        system="xlstm_hved",
        about="As the authors' main script trains it on BraTS 2024, without the paper's pre-training (stage option "
        "objective: pretraining). Cost: 3000 epochs of the training cases, taken as 80 % of 1350; the paper says 72 h "
        "on a V100. Dice by subset as published: sheet, section 10. Deviations: cubes of 128 instead of 128x192x128, "
        "all axes mirrored instead of two, intensities also scaled and changed per channel, all 14 incomplete subsets "
        "drawn (stage option subsets: by_size_reference for the authors' 13), absent modalities hidden from SAVE "
        "(switch reference_leak), float32 instead of float16, windows overlap in validation.",
        network={"width": 4, "init": "reference"},
        preprocessing=Preprocessing(normalisation="divide_255", crop_to_brain=False),
        validation_share=0.2,
        seed=1,
        stages=[
            Stage(
                objective="adversarial",
                epochs=3000,
                steps_per_epoch=1080,
                crop=128,
                subsets="by_size",
                optimiser=Optimiser(learning_rate=1e-4, weight_decay=1e-5),
                schedule="poly",
                validation_epochs=20,
            )
        ],
    ),
    "nano": Recipe(
        system="xlstm_hved",
        about="For a laptop without a GPU: no discriminator. Not yet measured.",
        network={"width": 4},
        validation_share=0.05,
        stages=[
            # Small patches around each part of a tumour teach the parts; larger ones, where healthy tissue is.
            Stage(
                name="parts",
                epochs=5,
                steps_per_epoch=40,
                batch_size=2,
                crop=32,
                tumour_centred=0.8,
                subsets="by_size",
                optimiser=Optimiser(learning_rate=5e-3),
                schedule="poly",
                validation_epochs=5,
            ),
            Stage(
                name="whole",
                epochs=3,
                steps_per_epoch=20,
                crop=64,
                tumour_centred=0.3,
                subsets="by_size",
                optimiser=Optimiser(learning_rate=2e-3),
                schedule="poly",
                validation_epochs=3,
            ),
        ],
    ),
}
OBJECTIVES: dict[str, Callable[..., dict[str, Tensor]]] = {
    "train": losses,
    "adversarial": adversarial_losses,
    "pretraining": pretraining_losses,
}
DISCRIMINATORS = {"adversarial": make_discriminator}
