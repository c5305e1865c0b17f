"""Base class and objective of the systems that disentangle content and style: Robust-Mseg and SFusion.

Segmentation needs the content alone. Images are reconstructed from the fused content and the style of each modality, in
training and on request. Source: sheet robust_mseg, Forward and Losses; sheet sfusion, Losses.
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
from anymri.systems.contract import Encoding, Prediction
from anymri.systems.families.disentangling.blocks import ImageDecoder, SegmentationDecoder
from anymri.systems.losses import StepLoss, class_channels, cross_entropy_and_dice, rarity_weights
from anymri.systems.streams import StreamSystem

RECONSTRUCTION_WEIGHT = 0.1
DIVERGENCE_WEIGHT = 0.1
# Limit of the absolute logarithm of a variance.
LOG_LIMIT = 50


@dataclass
class DisentanglingEncoding(Encoding):
    """Encoding that keeps the images, because reconstruction takes the styles from them.

    images  (B, M, X, Y, Z) as given
    """

    images: Tensor


@dataclass(kw_only=True)
class DisentanglingPrediction(Prediction):
    """Prediction with the fused content that images are reconstructed from.

    content  fused content at the coarsest scale, (B, C, X/8, Y/8, Z/8)
    """

    content: Tensor


@dataclass
class Reconstructed:
    """Reconstructed images, with the styles that they were made with.

    images  (B, M, X, Y, Z)
    styles  (B, M, S), zero where a modality is missing
    scales  (B, M, C): scales that the image decoders compute from the styles
    shifts  (B, M, C): shifts that they compute from the styles
    """

    images: Tensor
    styles: Tensor
    scales: Tensor
    shifts: Tensor


D = TypeVar("D", bound=DisentanglingEncoding)


class Disentangling(StreamSystem[D]):
    """System that segments from fused content, and reconstructs the images from fused content and styles."""

    output_kind: ClassVar[OutputKind] = "classes"
    divisor = 8

    segmentation_decoder: SegmentationDecoder
    content_encoders: nn.ModuleDict
    style_encoders: nn.ModuleDict
    image_decoders: nn.ModuleDict

    @abstractmethod
    def _fuse(self, encoding: D, available: Tensor) -> list[Tensor]:
        """Return the fused content of the modalities in `available`, (B, M) bool, at four scales, finest first."""

    @property
    def reconstructs(self) -> bool:
        """Whether the network was built with style encoders and image decoders."""
        return bool(self.image_decoders)

    def _decode(self, encoding: D, available: Tensor, reconstruct: bool) -> DisentanglingPrediction:
        pyramid = self._fuse(encoding, available)
        prediction = DisentanglingPrediction(self.segmentation_decoder(pyramid), self.output_kind, content=pyramid[-1])
        if reconstruct and self.reconstructs:
            prediction.reconstruction = self.reconstruct(pyramid[-1], encoding.images, available).images
        return prediction

    def reconstruct(self, content: Tensor, images: Tensor, present: Tensor) -> Reconstructed:
        """Reconstruct all images from fused content and the styles of the images.

        content  fused content at the coarsest scale, (B, C, X/8, Y/8, Z/8)
        images   (B, M, X, Y, Z)
        present  (B, M) bool: modalities whose style is encoded; the style of the others is zero
        """
        (styles,) = encode_each(self.style_encoders, images, present)
        reconstructed = []
        for decoder, style in zip(self.image_decoders.values(), styles.unbind(1), strict=True):
            assert isinstance(decoder, ImageDecoder)
            scale, shift = decoder.modulation(style)
            reconstructed.append((decoder(content, scale, shift)[:, 0], scale, shift))
        stacked, scales, shifts = (torch.stack(each, dim=1) for each in zip(*reconstructed, strict=True))
        return Reconstructed(stacked, styles.flatten(2), scales, shifts)


def losses(system: Disentangling[Any], batch: Batch, divergence: Callable[[Tensor], Tensor]) -> StepLoss:
    """Return the losses of one step: segmentation, reconstruction and divergence of the styles from a Gaussian prior.

    The content is encoded from the subset drawn for the step, the style from all modalities that exist; all of them are
    reconstructed.

    divergence  function that reduces the terms of one modality's channels, (B, C), to a scalar
    """
    prediction: DisentanglingPrediction = system(batch.images, batch.available)
    named = segmentation_losses(prediction.probabilities(), batch.labels)
    total = named["ce"] + named["dice"]
    if not system.reconstructs:
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
    """Return weighted cross-entropy and soft Dice loss.

    probabilities  (B, K, X, Y, Z) in 0..1
    labels         (B, X, Y, Z) int64, classes
    """
    target = class_channels(labels, probabilities.shape[1])
    cross_entropy, dice = cross_entropy_and_dice(probabilities, target, rarity_weights(target))
    return {"ce": cross_entropy, "dice": dice}


def prior_divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Return the KL divergence of Gaussians from N(0, 1), element-wise; `deviation` may be zero or negative."""
    # The limits are beyond half precision.
    mean, deviation = (each.to(torch.promote_types(each.dtype, torch.float32)) for each in (mean, deviation))
    variance = deviation.square().clamp(exp(-LOG_LIMIT), exp(LOG_LIMIT))
    return 0.5 * (mean.square() + variance - 1 - variance.log())


# The port averages the divergence over channels; the original sums it, which weights it by the number of channels.
OBJECTIVES: dict[str, Callable[..., StepLoss]] = {
    "train": partial(losses, divergence=torch.mean),
    "train_summed_divergence": partial(losses, divergence=lambda terms: terms.sum(1).mean()),
}
