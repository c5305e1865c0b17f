"""What Robust-Mseg and SFusion share beside layers: a system of content and style, and its objective.

Segmentation needs the content alone. Images are reconstructed from the fused content and each modality's style, in training
and where asked for. Source: sheet robust_mseg, Forward and Losses; sheet sfusion, Losses.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import exp
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from anymri.layers.streams import encode_each
from anymri.regions import OutputKind
from anymri.systems.batch import Batch
from anymri.systems.contract import Encoding, Prediction, System
from anymri.systems.families.disentangling.blocks import ImageDecoder, SegmentationDecoder
from anymri.systems.losses import StepLoss, class_channels, soft_dice_loss, weighted_cross_entropy_loss

RECONSTRUCTION_WEIGHT = 0.1
DIVERGENCE_WEIGHT = 0.1
# The logarithm of a variance is kept within this.
LOG_LIMIT = 50


@dataclass
class DisentanglingEncoding(Encoding):
    """images  (B, M, X, Y, Z) as given: styles are taken from them where images are to be reconstructed."""

    images: Tensor


@dataclass
class DisentanglingPrediction(Prediction):
    """content  fused, at the coarsest scale, (B, C, X/8, Y/8, Z/8)."""

    content: Tensor | None = None


@dataclass
class Reconstructed:
    """images  (B, M, X, Y, Z)
    styles  (B, M, S), zero where a modality is absent
    scales  (B, M, C), shifts (B, M, C): what image decoders made of the styles
    """

    images: Tensor
    styles: Tensor
    scales: Tensor
    shifts: Tensor


D = TypeVar("D", bound=DisentanglingEncoding)


class Disentangling(System[D]):
    """A system that segments from fused content, and can reconstruct the images from it and from styles."""

    output_kind: ClassVar[OutputKind] = "classes"
    divisor = 8

    segmentation_decoder: SegmentationDecoder
    content_encoders: nn.ModuleDict
    style_encoders: nn.ModuleDict
    image_decoders: nn.ModuleDict

    @abstractmethod
    def _fuse(self, encoding: D, available: Tensor) -> list[Tensor]:
        """The content of the modalities in `available`, (B, M) bool, at four scales, finest first."""

    @property
    def reconstructs(self) -> bool:
        return bool(self.image_decoders)

    def _decode(self, encoding: D, available: Tensor, reconstruct: bool) -> DisentanglingPrediction:
        pyramid = self._fuse(encoding, available)
        prediction = DisentanglingPrediction(self.segmentation_decoder(pyramid), self.output_kind, content=pyramid[-1])
        if reconstruct and self.reconstructs:
            prediction.reconstruction = self.reconstruct(pyramid[-1], encoding.images, available).images
        return prediction

    def reconstruct(self, content: Tensor, images: Tensor, present: Tensor) -> Reconstructed:
        """All images from fused content at the coarsest scale.

        images   (B, M, X, Y, Z), present (B, M) bool: from where styles are taken. An absent modality has none, so it
                 is reconstructed in the style that its decoder makes of zeros
        """
        (styles,) = encode_each(self.style_encoders, images, present)
        reconstructed = []
        for decoder, style in zip(self.image_decoders.values(), styles.unbind(1), strict=True):
            assert isinstance(decoder, ImageDecoder)
            scale, shift = decoder.modulation(style)
            reconstructed.append((decoder(content, scale, shift)[:, 0], scale, shift))
        made, scales, shifts = (torch.stack(each, dim=1) for each in zip(*reconstructed, strict=True))
        return Reconstructed(made, styles.flatten(2), scales, shifts)


def losses(system: Disentangling[Any], batch: Batch, divergence: Callable[[Tensor], Tensor]) -> StepLoss:
    """Losses of one step.

    Content is encoded of the subset drawn for the step, style of all modalities that exist: all of them are reconstructed.

    divergence  how terms of a modality's channels, (B, C), become one number
    """
    prediction = system(batch.images, batch.available)
    named = segmentation_losses(prediction.probabilities(), batch.labels)
    total = named["ce"] + named["dice"]
    if not system.image_decoders:
        return StepLoss(total, named)
    reconstructed = system.reconstruct(prediction.content, batch.images, batch.present)
    pairs = []
    for number, modality in enumerate(system.modalities):
        exists = batch.present[:, number]
        if exists.any():
            images, targets = reconstructed.images[exists, number], batch.images[exists, number]
            terms = prior_divergence(reconstructed.scales[exists, number], reconstructed.shifts[exists, number])
            pairs.append(((images - targets).abs().mean(), divergence(terms)))
            named |= dict(zip((f"rec_{modality.lower()}", f"kl_{modality.lower()}"), pairs[-1], strict=True))
    named["rec"], named["kl"] = (torch.stack(each).sum() for each in zip(*pairs, strict=True))
    total = total + RECONSTRUCTION_WEIGHT * named["rec"] + DIVERGENCE_WEIGHT * named["kl"]
    return StepLoss(total, named)


def segmentation_losses(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Weighted cross-entropy and soft Dice of (B, K, X, Y, Z) against classes (B, X, Y, Z)."""
    target = class_channels(labels, probabilities.shape[1])
    return {"ce": weighted_cross_entropy_loss(probabilities, target), "dice": soft_dice_loss(probabilities, target)}


def prior_divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Of a Gaussian from the standard-normal one, element by element; a deviation may be negative, even zero."""
    # The limits are beyond half precision.
    mean, deviation = (each.to(torch.promote_types(each.dtype, torch.float32)) for each in (mean, deviation))
    variance = deviation.square().clamp(exp(-LOG_LIMIT), exp(LOG_LIMIT))
    return 0.5 * (mean.square() + variance - 1 - variance.log())


# As the port has it, and as in the original, where it weighs as many times more as there are channels.
OBJECTIVES: dict[str, Callable[..., StepLoss]] = {
    "train": partial(losses, divergence=torch.mean),
    "train_summed_divergence": partial(losses, divergence=lambda terms: terms.sum(1).mean()),
}
