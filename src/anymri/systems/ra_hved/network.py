"""RA-HVED: region-of-interest attentive hetero-modal variational encoder-decoder. Jeong et al., ACCV 2022.

One U-Net encoder per modality computes a Gaussian at each of four scales, at half the resolution of the scale. The
product of the available modalities' Gaussians, expanded again, is the skip pyramid of two kinds of decoders: the
segmentation decoder, with gates around the region of interest on every skip, and those of the four images.
Source: sheet ra_hved, sections 2 to 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anymri.layers.convolution import Conv3d
from anymri.layers.gaussians import Gaussians, Posterior
from anymri.layers.pooling import max_pool3d
from anymri.layers.streams import Outputs, stacked
from anymri.modalities import MODALITIES
from anymri.systems.families.hved.blocks import (
    Decoder,
    Expansion,
    Join,
    encoder_convs,
    image_channels,
    initialise,
    single_conv,
)
from anymri.systems.families.hved.system import HVED, GaussiansEncoding, HVEDPrediction

SCALES = 4


class Encoder(nn.Module):
    """Encoder of one modality, (B, 1, X, Y, Z), to means and log-variances at four scales.

    Both are concatenated along the channels. With reduction, a scale of C channels gives C/2 at half its resolution;
    without, C at its resolution.
    """

    def __init__(self, width: int, reduction: bool, dropout: float) -> None:
        super().__init__()
        channels = [width * 2**scale for scale in range(SCALES)]
        self.stem = Conv3d(1, width, 1)
        self.dropout = nn.Dropout3d(dropout)
        self.levels = nn.ModuleList(
            encoder_convs(source, target) for source, target in zip([width, *channels], channels, strict=False)
        )
        self.reductions = nn.ModuleList(
            single_conv(c, c // 2, stride=2) if reduction else nn.Identity() for c in channels
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return means and log-variances of each scale, finest first, from an image (B, 1, X, Y, Z)."""
        features = self.dropout(self.stem(image))
        scales = []
        for depth, (level, reduction) in enumerate(zip(self.levels, self.reductions, strict=True)):
            features = level(features if depth == 0 else max_pool3d(features))
            scales.append(reduction(features))
        return scales


class RAHVED(HVED[GaussiansEncoding]):
    """RA-HVED network.

    width                   channels of the first encoder level, a multiple of 4 (published: 16)
    num_classes             classes with background; the logits have one region fewer: WT, TC, ET and perhaps RC
    shared_reconstruction   one decoder reconstructs all images, instead of one decoder per image
    reduction               Gaussians have a quarter of the channels of their level, at half its resolution; without
                            (plain MVAE), half of the channels at full resolution, which are the skips unchanged
    attention               gates on the skips of the segmentation; without, plain concatenation
    dropout                 share of the channels of the stem that training sets to zero
    """

    def __init__(
        self,
        width: int = 16,
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        shared_reconstruction: bool = False,
        reduction: bool = True,
        attention: bool = True,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(num_classes, modalities)
        channels = [width * 2**scale for scale in range(SCALES)]
        skips = channels if reduction else [c // 2 for c in channels]
        widths = channels[-2::-1]
        images = image_channels(self.modalities, shared_reconstruction)
        self.encoders = nn.ModuleDict({name: Encoder(width, reduction, dropout) for name in self.modalities})
        self.expansions = nn.ModuleList(Expansion(c // 4, c) if reduction else nn.Identity() for c in channels)
        join: Join = "attentive" if attention else "upsampled_first"
        self.segmentation_decoder = Decoder(skips, widths, self.out_channels, join)
        self.image_decoders = nn.ModuleDict(
            {name: Decoder(skips, widths, count, "skip_first") for name, count in images.items()}
        )
        initialise(self)

    def encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        """Return means and log-variances of one modality, finest scale first."""
        scales: list[Tensor] = self.encoders[self.modalities[number]](image)
        return scales

    def gather(self, images: Tensor, present: Tensor, outputs: Outputs) -> GaussiansEncoding:
        """Return the Gaussians of all modalities."""
        return GaussiansEncoding(present, [Gaussians(scale) for scale in stacked(outputs)])

    def _decode(self, encoding: GaussiansEncoding, available: Tensor, reconstruct: bool) -> HVEDPrediction:
        posteriors, pyramid = self._fuse(encoding, available)
        reconstruction = self._images(pyramid) if reconstruct else None
        return HVEDPrediction(self.segmentation_decoder(pyramid), self.output_kind, reconstruction, posteriors)

    def reconstruct(self, encoding: GaussiansEncoding, available: Tensor) -> tuple[Tensor, list[Posterior]]:
        """Return all images, (B, M, X, Y, Z), and the posteriors that they were drawn from; see `HVED.reconstruct`."""
        posteriors, pyramid = self._fuse(encoding, available)
        return self._images(pyramid), posteriors

    def _fuse(self, encoding: GaussiansEncoding, available: Tensor) -> tuple[list[Posterior], list[Tensor]]:
        """Return the product of the available modalities' Gaussians and the skip pyramid, both finest scale first."""
        posteriors = [gaussians.product_of_experts(available) for gaussians in encoding.gaussians]
        latents = map(self.latent, posteriors)
        return posteriors, [expansion(latent) for expansion, latent in zip(self.expansions, latents, strict=True)]

    def _images(self, pyramid: list[Tensor]) -> Tensor:
        return torch.cat([decoder(pyramid) for decoder in self.image_decoders.values()], dim=1)
