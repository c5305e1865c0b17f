"""Objectives and recipes of RA-HVED. Source: sheet ra_hved, sections 5 and 6."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from anymri.layers.discriminator import PatchDiscriminator
from anymri.systems.base import Batch
from anymri.systems.hved_losses import generator_losses, with_discriminator
from anymri.systems.ra_hved.network import RAHVED
from anymri.systems.recipes import Optimiser, Recipe, Stage


def losses(system: RAHVED, batch: Batch) -> dict[str, Tensor]:
    """Named losses of one step without a discriminator (the authors' ablation of weight 0); `total` is minimised.

    One encoding serves both passes.
    """
    encoding = system.encode(batch.images, batch.present)
    complete = system.decode(encoding, batch.present)
    incomplete = system.decode(encoding, batch.available, reconstruct=True)
    return generator_losses(complete, incomplete, encoding.posteriors(batch.available), batch)


def adversarial_losses(system: RAHVED, batch: Batch, discriminator: nn.Module) -> dict[str, Tensor]:
    """As `losses`, with the discriminator as published; `discriminator` is what that one minimises."""
    encoding = system.encode(batch.images, batch.present)
    complete = system.decode(encoding, batch.present, reconstruct=True)
    assert complete.reconstruction is not None
    # Only the discriminator sees these images, and it sends nothing back: their graph may go.
    complete.reconstruction = complete.reconstruction.detach()
    incomplete = system.decode(encoding, batch.available, reconstruct=True)
    named = generator_losses(complete, incomplete, encoding.posteriors(batch.available), batch)
    return with_discriminator(named, complete, incomplete, discriminator)


def make_discriminator(system: RAHVED) -> PatchDiscriminator:
    """The discriminator of regions and rebuilt images, with fresh weights."""
    return PatchDiscriminator(system.num_scores + len(system.modalities))


RECIPES = {
    "published": Recipe(
        system="ra_hved",
        about="As the authors train it on BraTS 2018. Cost: 71,640 steps of 112^3, about 3.3 T multiply-adds each, 1.4 "
        "of them in the discriminator. Dice by subset: not available for this recipe. Deviations: both passes of a "
        "step share one encoding and so one dropout mask, all 14 incomplete subsets are drawn (stage option subsets: "
        "by_size_reference for the authors' 13), intensities are also scaled and changed per channel, windows are "
        "blended with Gaussian weights.",
        network={"width": 16},
        validation_share=0.125,
        window_overlap=0.75,
        seed=1,
        stages=[
            Stage(
                objective="adversarial",
                epochs=360,
                steps_per_epoch=199,
                crop=112,
                subsets="by_size",
                optimiser=Optimiser(learning_rate=1e-4, weight_decay=1e-5),
                schedule="poly",
                validation_epochs=20,
            )
        ],
    ),
    "nano": Recipe(
        system="ra_hved",
        about="For a laptop without a GPU: no discriminator, one decoder for all images. Cost: 200 steps of 12 G "
        "multiply-adds, 60 of 49 G. Dice: not yet measured.",
        network={"width": 8, "shared_reconstruction": True},
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
OBJECTIVES: dict[str, Callable[..., dict[str, Tensor]]] = {"train": losses, "adversarial": adversarial_losses}
DISCRIMINATORS = {"adversarial": make_discriminator}
