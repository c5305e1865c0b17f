"""What RA-HVED and XLSTM-HVED share beside layers: objectives, a discriminator, and the stages of the nano recipes.

One pass has all modalities that exist, the other those drawn for the step; one encoding serves both. Source: sheet
ra_hved, section 5; sheet xlstm_hved, section 7.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from anymri.layers.gaussians import EXPERT_EPS, Posterior
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.batch import Batch
from anymri.systems.contract import E, Prediction, System
from anymri.systems.families.hved.discriminator import PatchDiscriminator
from anymri.systems.losses import StepLoss, region_channels
from anymri.systems.recipes.nano import large_patches, small_patches
from anymri.systems.recipes.schema import Optimiser

RECONSTRUCTION_WEIGHT = 0.2
DIVERGENCE_WEIGHT = 0.2
ADVERSARIAL_WEIGHT = 0.1
DISCRIMINATOR_WEIGHT = 0.05
DICE_FLOOR = 1e-6


@dataclass
class HVEDPrediction(Prediction):
    """posteriors  what the subset's features were drawn from, finest scale first, for the loss."""

    posteriors: Sequence[Posterior] = ()


class HVED(System[E]):
    """A system that draws its features from posteriors and can reconstruct the images from them."""

    output_kind: ClassVar[OutputKind] = "regions"
    divisor = 16
    # Instance norm needs more than one voxel in the coarsest latent.
    minimum_side = 32

    def __init__(self, num_classes: int, modalities: Sequence[str] = MODALITIES) -> None:
        super().__init__(num_classes, modalities)
        # How training draws its standard-normal noise, finest scale first; a parity test puts fixed noise here.
        self.draw_noise: Callable[[Tensor], Tensor] = torch.randn_like

    @property
    def reconstructs(self) -> bool:
        return True

    def latent(self, posterior: Posterior) -> Tensor:
        """Drawn from the posterior in training, its mean in evaluation."""
        return posterior.sample(self.draw_noise(posterior.mean)) if self.training else posterior.mean

    @abstractmethod
    def reconstruct(self, encoding: E, available: Tensor) -> tuple[Tensor, list[Posterior]]:
        """All images, (B, M, X, Y, Z), without the segmentation beside them, and what they were drawn from."""


def pretraining_losses(system: HVED[Any], batch: Batch) -> StepLoss:
    """All images from those drawn for the step, before any segmentation is learnt."""
    reconstruction, posteriors = system.reconstruct(system.encode(batch.images, batch.present), batch.available)
    named = {"reconstruction": reconstruction_loss(reconstruction, batch), "kld": prior_divergence(posteriors)}
    return StepLoss(named["reconstruction"] + DIVERGENCE_WEIGHT * named["kld"], named)


def losses(system: HVED[Any], batch: Batch) -> StepLoss:
    """Losses of one step without a discriminator."""
    encoding = system.encode(batch.images, batch.present)
    complete = system.decode(encoding, batch.present)
    return generator_losses(complete, system.decode(encoding, batch.available, reconstruct=True), batch)


def adversarial_losses(system: HVED[Any], batch: Batch, discriminator: nn.Module) -> StepLoss:
    """As `losses`, with the discriminator as published; `discriminator` is what that one minimises."""
    encoding = system.encode(batch.images, batch.present)
    complete = system.decode(encoding, batch.present, reconstruct=True)
    assert complete.reconstruction is not None
    # Only the discriminator sees these images, and it sends nothing back: their graph may go.
    complete.reconstruction = complete.reconstruction.detach()
    incomplete = system.decode(encoding, batch.available, reconstruct=True)
    return with_discriminator(generator_losses(complete, incomplete, batch), complete, incomplete, discriminator)


def make_discriminator(system: HVED[Any], width: int) -> PatchDiscriminator:
    """The discriminator of regions and reconstructed images, with fresh weights."""
    return PatchDiscriminator(system.out_channels + len(system.modalities), width)


def region_dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """1 - mean over regions of the Dice with squares below, sums over batch and volume together.

    probabilities, target  (B, K, X, Y, Z)
    """
    axes = (0, 2, 3, 4)
    overlap = (probabilities * target).sum(axes)
    size = probabilities.square().sum(axes) + target.square().sum(axes)
    return 1 - (2 * overlap / size.clamp(min=DICE_FLOOR)).mean()


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Region Dice of (B, K, X, Y, Z) against classes (B, X, Y, Z)."""
    return {"dice": region_dice_loss(probabilities, region_channels(labels, probabilities.shape[1]))}


def prior_divergence(posteriors: Sequence[Posterior]) -> Tensor:
    """Mean over scales of the divergence from the standard-normal prior, each a mean over all elements."""
    divergences = [
        0.5 * ((p.variance + p.mean.square()) / (1 + EXPERT_EPS) - p.variance.log() - 1).mean() for p in posteriors
    ]
    return torch.stack(divergences).mean()


def reconstruction_loss(reconstruction: Tensor, batch: Batch) -> Tensor:
    """Mean squared error over the modalities that exist and all voxels."""
    return (reconstruction - batch.images)[batch.present].square().mean()


def region_of_interest(probabilities: Tensor) -> Tensor:
    """Where a region is likely, its probability: (B, K, X, Y, Z) to (B, 1, X, Y, Z), 0 outside, without gradient.

    Later regions, which lie within the earlier, overwrite them where they are above 0.5.
    """
    weight = torch.zeros_like(probabilities[:, :1])
    for region in probabilities.detach().chunk(probabilities.shape[1], dim=1):
        weight = torch.where(region > 0.5, region, weight)
    return weight


def discriminator_input(prediction: Prediction) -> Tensor:
    """Probabilities, and the reconstructed images amplified in the region of interest: (B, K + M, X, Y, Z)."""
    assert prediction.reconstruction is not None
    probabilities = prediction.probabilities()
    weighted = prediction.reconstruction * (1 + region_of_interest(probabilities))
    return torch.cat([probabilities, weighted], dim=1)


def generator_losses(complete: Prediction, incomplete: Prediction, batch: Batch) -> StepLoss:
    """Named losses of the network without a discriminator; `total` is minimised.

    complete    the answer from all modalities that exist
    incomplete  the answer from those drawn for the step, with the images reconstructed
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
    """Adds the adversarial terms to `generator_losses`, by least squares; both predictions hold the images reconstructed.

    `total` gains a term that draws the incomplete answer towards what the discriminator takes for a complete one; it
    leaves no gradient in the discriminator. `discriminator` is what the latter minimises, and leaves none in the
    network. Both come from one forward pass: the network's step does not change what its answers were.
    """
    fake, real = discriminator_input(incomplete), discriminator_input(complete)
    fixed = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    judge = partial(functional_call, discriminator, fixed)
    adversarial = (judge(fake) - 1).square().mean()
    judged_fake = discriminator(fake.detach()).square().mean()
    judged_real = (discriminator(real.detach()) - 1).square().mean()
    return StepLoss(
        loss.total + ADVERSARIAL_WEIGHT * adversarial,
        {
            **loss.terms,
            "adversarial": adversarial,
            "discriminator_fake": judged_fake,
            "discriminator_real": judged_real,
        },
        DISCRIMINATOR_WEIGHT * (judged_fake + judged_real),
    )


OBJECTIVES: dict[str, Callable[..., StepLoss]] = {
    "pretraining": pretraining_losses,
    "train": losses,
    "adversarial": adversarial_losses,
}
DISCRIMINATORS = {"adversarial": make_discriminator}

_GAME: dict[str, Any] = {"objective": "adversarial", "discriminator_width": 8, "subsets": "by_size"}
# Small enough for two cores: the images first, then all of it against a discriminator.
NANO_STAGES = [
    small_patches(
        1, name="images", objective="pretraining", subsets="by_size", optimiser=Optimiser(learning_rate=5e-3)
    ),
    small_patches(4, optimiser=Optimiser(learning_rate=1e-2), **_GAME),
    large_patches(64, 3, steps_per_epoch=10, batch_size=2, **_GAME),
]
