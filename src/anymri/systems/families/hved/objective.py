"""Objectives of RA-HVED and XLSTM-HVED, with and without a discriminator.

A training step decodes two subsets of one encoding: the complete one (all modalities that exist) and an incomplete one
(those drawn for the step). Source: sheet ra_hved, section 5; sheet xlstm_hved, section 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from anymri.layers.gaussians import EXPERT_EPS, Posterior
from anymri.systems.batch import Batch
from anymri.systems.contract import Prediction
from anymri.systems.families.hved.discriminator import PatchDiscriminator
from anymri.systems.families.hved.system import HVED, HVEDPrediction
from anymri.systems.losses import StepLoss, region_channels

RECONSTRUCTION_WEIGHT = 0.2
DIVERGENCE_WEIGHT = 0.2
ADVERSARIAL_WEIGHT = 0.1
DISCRIMINATOR_WEIGHT = 0.05
DICE_FLOOR = 1e-6


def pretraining_losses(system: HVED[Any], batch: Batch) -> StepLoss:
    """Return the losses of one step that trains the reconstruction alone, before any segmentation."""
    reconstruction, posteriors = system.reconstruct(system.encode(batch.images, batch.present), batch.available)
    named = {"reconstruction": reconstruction_loss(reconstruction, batch), "kld": prior_divergence(posteriors)}
    return StepLoss(named["reconstruction"] + DIVERGENCE_WEIGHT * named["kld"], named)


def losses(system: HVED[Any], batch: Batch) -> StepLoss:
    """Return the losses of one step without a discriminator."""
    encoding = system.encode(batch.images, batch.present)
    complete = system.decode(encoding, batch.present)
    return generator_losses(complete, system.decode(encoding, batch.available, reconstruct=True), batch)


def adversarial_losses(system: HVED[Any], batch: Batch, discriminator: nn.Module, encodings: int = 1) -> StepLoss:
    """Return the losses of one step with the discriminator, as published.

    encodings  1, or 2 for one per subset, each with a dropout mask of its own
    """
    encoding = system.encode(batch.images, batch.present)
    complete = system.decode(encoding, batch.present, reconstruct=True)
    assert complete.reconstruction is not None
    # Only the discriminator receives these images, and no gradient comes back: their graph can be freed.
    complete.reconstruction = complete.reconstruction.detach()
    if encodings == 2:
        encoding = system.encode(batch.images, batch.present)
    incomplete = system.decode(encoding, batch.available, reconstruct=True)
    return with_discriminator(generator_losses(complete, incomplete, batch), complete, incomplete, discriminator)


def make_discriminator(system: HVED[Any], width: int) -> PatchDiscriminator:
    """Return a new discriminator of regions and reconstructed images; see `discriminator_input`."""
    return PatchDiscriminator(system.out_channels + len(system.modalities), width)


def region_dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return 1 - the mean over regions of the Dice with squares in its denominator, a scalar.

    Sums are over batch and volume together.

    probabilities, target  (B, K, X, Y, Z) in 0..1
    """
    axes = (0, 2, 3, 4)
    overlap = (probabilities * target).sum(axes)
    size = probabilities.square().sum(axes) + target.square().sum(axes)
    return 1 - (2 * overlap / size.clamp(min=DICE_FLOOR)).mean()


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the region Dice loss of probabilities (B, K, X, Y, Z) against classes (B, X, Y, Z)."""
    return {"dice": region_dice_loss(probabilities, region_channels(labels, probabilities.shape[1]))}


def prior_divergence(posteriors: Sequence[Posterior]) -> Tensor:
    """Return the mean over scales of the KL divergence from the standard-normal prior, each a mean over elements."""
    divergences = [
        0.5 * ((p.variance + p.mean.square()) / (1 + EXPERT_EPS) - p.variance.log() - 1).mean() for p in posteriors
    ]
    return torch.stack(divergences).mean()


def reconstruction_loss(reconstruction: Tensor, batch: Batch) -> Tensor:
    """Return the mean squared error of (B, M, X, Y, Z) over all voxels of the modalities that exist."""
    return (reconstruction - batch.images)[batch.present].square().mean()


def region_of_interest(probabilities: Tensor) -> Tensor:
    """Return the probability of the innermost likely region, 0 where no region is likely, without gradient.

    Later regions, which are within the earlier ones, overwrite these where their probability is above 0.5.

    probabilities  (B, K, X, Y, Z) in 0..1
    returns        (B, 1, X, Y, Z) in 0..1
    """
    weight = torch.zeros_like(probabilities[:, :1])
    for region in probabilities.detach().chunk(probabilities.shape[1], dim=1):
        weight = torch.where(region > 0.5, region, weight)
    return weight


def discriminator_input(prediction: Prediction) -> Tensor:
    """Return probabilities and the reconstructed images amplified in the region of interest, (B, K + M, X, Y, Z)."""
    assert prediction.reconstruction is not None
    probabilities = prediction.probabilities()
    weighted = prediction.reconstruction * (1 + region_of_interest(probabilities))
    return torch.cat([probabilities, weighted], dim=1)


def generator_losses(complete: Prediction, incomplete: Prediction, batch: Batch) -> StepLoss:
    """Return the losses of the network without those of a discriminator.

    complete    prediction from all modalities that exist
    incomplete  prediction from those drawn for the step, with reconstructed images
    """
    assert isinstance(incomplete, HVEDPrediction) and incomplete.reconstruction is not None
    target = region_channels(batch.labels, complete.logits.shape[1])
    named = {
        "dice_complete": region_dice_loss(complete.probabilities(), target),
        "dice_incomplete": region_dice_loss(incomplete.probabilities(), target),
        "reconstruction": reconstruction_loss(incomplete.reconstruction, batch),
        "kld": prior_divergence(incomplete.posteriors),
    }
    total = (
        named["dice_complete"]
        + named["dice_incomplete"]
        + RECONSTRUCTION_WEIGHT * named["reconstruction"]
        + DIVERGENCE_WEIGHT * named["kld"]
    )
    return StepLoss(total, named)


def with_discriminator(
    loss: StepLoss, complete: Prediction, incomplete: Prediction, discriminator: nn.Module
) -> StepLoss:
    """Return the losses with the adversarial terms added, by least squares.

    `total` gains a term that moves the incomplete prediction towards what the discriminator takes for a complete one;
    it leaves no gradient in the discriminator. The loss of the discriminator leaves none in the network. Both losses
    use one forward pass of the network, so that its step does not change the input of the discriminator.

    loss                  result of `generator_losses`
    complete, incomplete  predictions with reconstructed images
    """
    fake, real = discriminator_input(incomplete), discriminator_input(complete)
    fixed = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    fixed_discriminator = partial(functional_call, discriminator, fixed)
    adversarial = (fixed_discriminator(fake) - 1).square().mean()
    discriminator_fake = discriminator(fake.detach()).square().mean()
    discriminator_real = (discriminator(real.detach()) - 1).square().mean()
    return StepLoss(
        loss.total + ADVERSARIAL_WEIGHT * adversarial,
        {
            **loss.terms,
            "adversarial": adversarial,
            "discriminator_fake": discriminator_fake,
            "discriminator_real": discriminator_real,
        },
        DISCRIMINATOR_WEIGHT * (discriminator_fake + discriminator_real),
    )


OBJECTIVES: dict[str, Callable[..., StepLoss]] = {
    "pretraining": pretraining_losses,
    "train": losses,
    "adversarial": adversarial_losses,
    "adversarial_two_encodings": partial(adversarial_losses, encodings=2),
}
DISCRIMINATORS = {"adversarial": make_discriminator, "adversarial_two_encodings": make_discriminator}
