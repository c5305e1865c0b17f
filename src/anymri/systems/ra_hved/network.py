"""RA-HVED: region-of-interest attentive hetero-modal variational encoder-decoder. Jeong et al., ACCV 2022.

One U-Net encoder a modality gives a Gaussian at each of four scales, at half the scale's resolution; the product of
the available modalities' Gaussians, expanded again, is the skip pyramid of two kinds of decoders: the segmentation,
with gates around the region of interest on every skip, and the four images. Source: sheet ra_hved, sections 2 to 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from anymri.layers.gaussians import Gaussians
from anymri.layers.hved import Decoder, Expansion, Join, encoder_convs, initialise, single_conv
from anymri.layers.streams import encode_each
from anymri.modalities import MODALITIES
from anymri.regions import ScoreKind
from anymri.systems.base import Encoding, System
from anymri.systems.hved import HVEDPrediction

SCALES = 4
SHARED = "shared"


class Encoder(nn.Module):
    """One modality, (B, 1, X, Y, Z), to means and log-variances, one after the other in the channels, at four scales.

    With reduction, a scale of C channels gives C/2 at half its resolution; without, all of its own.
    """

    def __init__(self, width: int, reduction: bool, dropout: float) -> None:
        super().__init__()
        channels = [width * 2**scale for scale in range(SCALES)]
        self.stem = nn.Conv3d(1, width, 1)
        self.dropout = nn.Dropout3d(dropout)
        self.levels = nn.ModuleList(
            encoder_convs(source, target) for source, target in zip([width, *channels], channels, strict=False)
        )
        self.reductions = nn.ModuleList(
            single_conv(c, c // 2, stride=2) if reduction else nn.Identity() for c in channels
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.dropout(self.stem(image))
        scales = []
        for depth, (level, reduction) in enumerate(zip(self.levels, self.reductions, strict=True)):
            features = level(features if depth == 0 else nn.functional.max_pool3d(features, 2))
            scales.append(reduction(features))
        return scales


@dataclass
class RAHVEDEncoding(Encoding):
    """gaussians  four scales, finest first: one Gaussian a modality."""

    gaussians: list[Gaussians]


class RAHVED(System[RAHVEDEncoding]):
    """width                   channels of the first encoder level, a multiple of 4 (published: 16)
    num_classes             classes, background included; the scores are one region fewer: WT, TC, ET and perhaps RC
    shared_reconstruction   one decoder rebuilds all images, instead of one each
    reduction               Gaussians of a quarter of a level's channels at half its resolution; without (plain MVAE),
                            half of the channels at full resolution, which are the skips as they are
    attention               gates on the skips of the segmentation; without, plain concatenation
    dropout                 share of the stem's channels left out in training
    """

    scores: ClassVar[ScoreKind] = "regions"
    divisor = 16
    # Instance norm needs more than one voxel at the coarsest scale, which reduction halves once more.
    minimum_side = 32

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
        images = {SHARED: len(self.modalities)} if shared_reconstruction else dict.fromkeys(self.modalities, 1)
        self.encoders = nn.ModuleDict({name: Encoder(width, reduction, dropout) for name in self.modalities})
        self.expansions = nn.ModuleList(Expansion(c // 4, c) if reduction else nn.Identity() for c in channels)
        join: Join = "attentive" if attention else "upsampled_first"
        self.segmentation_decoder = Decoder(skips, widths, self.num_scores, join)
        self.image_decoders = nn.ModuleDict(
            {name: Decoder(skips, widths, count, "skip_first") for name, count in images.items()}
        )
        # How training draws its standard-normal noise, finest scale first; a parity test puts fixed noise here.
        self.draw_noise: Callable[[Tensor], Tensor] = torch.randn_like
        initialise(self)

    def _encode(self, images: Tensor, present: Tensor) -> RAHVEDEncoding:
        scales = encode_each(self.encoders, images, present)
        return RAHVEDEncoding(present, [Gaussians(*scale.chunk(2, dim=2)) for scale in scales])

    def _decode(self, encoding: RAHVEDEncoding, available: Tensor, reconstruct: bool) -> HVEDPrediction:
        posteriors = [gaussians.product_of_experts(available) for gaussians in encoding.gaussians]
        latents = [p.sample(self.draw_noise(p.mean)) if self.training else p.mean for p in posteriors]
        pyramid = [expansion(latent) for expansion, latent in zip(self.expansions, latents, strict=True)]
        images = [decoder(pyramid) for decoder in self.image_decoders.values()] if reconstruct else []
        reconstruction = torch.cat(images, dim=1) if images else None
        return HVEDPrediction(self.segmentation_decoder(pyramid), self.scores, reconstruction, posteriors)
