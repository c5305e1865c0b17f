"""SFusion inside a network of content and style. Liu et al., MICCAI 2023, arXiv 2208.12776.

Every modality has an encoder of style and one of content. At four scales an SFusion block fuses the content of the
available modalities; one decoder segments from that. In training, image decoders reconstruct all modalities from the fused
content and their styles. Source: sheet sfusion, after the port in IM-Fuse's repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

import torch
from torch import Tensor, nn

from anymri.errors import ConfigurationError
from anymri.layers.streams import encode_each
from anymri.modalities import MODALITIES
from anymri.systems.families.disentangling.blocks import (
    SCALES,
    ContentEncoder,
    ImageDecoder,
    SegmentationDecoder,
    StyleEncoder,
    image_levels,
    scale_widths,
)
from anymri.systems.families.disentangling.objective import Disentangling, DisentanglingEncoding
from anymri.systems.sfusion.fusion import SFusionBlock

NEGATIVE_SLOPE = 0.01
# Positions of tokens count on from one modality to the next, so their order is part of the network.
SEQUENCE = ("T1c", "T1", "T2", "FLAIR")
# A side of the crop shrinks by this much to the coarsest scale.
STRIDE = 2 ** (SCALES - 1)


def make_block(
    in_channels: int, out_channels: int, side: int = 3, stride: int = 1, dropout: float = 0.0
) -> nn.Sequential:
    """Convolution, dropout, instance norm, leaky ReLU."""
    block = nn.Sequential()
    block.add_module("conv", nn.Conv3d(in_channels, out_channels, side, stride, side // 2))
    if dropout:
        block.add_module("dropout", nn.Dropout(dropout))
    block.add_module("norm", nn.InstanceNorm3d(out_channels))
    block.add_module("activation", nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))
    return block


@dataclass
class SFusionEncoding(DisentanglingEncoding):
    """content  four scales, finest first: (B, M, C, X, Y, Z) each, zero where a modality is absent
    tokens   of these, (B, M, N, C) each
    """

    content: list[Tensor]
    tokens: list[Tensor]


class SFusion(Disentangling[SFusionEncoding]):
    """width           channels of the content at full resolution (published: 16)
    crop            side of the cube that the network takes, a multiple of 8 times `grid` (128): a token learns logits
                    for each of its voxels
    grid            tokens along a side of the cube (8)
    heads           of the transformers' attention (4), of which `width` is a multiple
    layers          of the transformers (8)
    style_width     channels of the first level of the style encoders (32)
    num_classes     channels of the segmentation, background included
    reconstruction  whether there are style encoders and image decoders; without, training only segments
    dropout         in the content encoders, in training
    token_dropout   in the transformers, in training
    styled_eps      added to variances that styles replace; 0 in the port, where a constant map divides by zero
    """

    # Instance norm needs more than one voxel at the coarsest scale.
    minimum_side = 2 * STRIDE

    def __init__(
        self,
        width: int = 16,
        crop: int = 128,
        grid: int = 8,
        heads: int = 4,
        layers: int = 8,
        style_width: int = 32,
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        reconstruction: bool = True,
        dropout: float = 0.3,
        token_dropout: float = 0.1,
        styled_eps: float = 1e-5,
    ) -> None:
        super().__init__(num_classes, modalities)
        unit = STRIDE * grid
        if crop % unit or crop < self.minimum_side:
            nearest = unit * max(ceil(self.minimum_side / unit), round(crop / unit))
            raise ConfigurationError(
                f"The network cannot be built for a crop of {crop} voxels with {grid} tokens along a side.",
                f"Choose a multiple of {unit}, such as {nearest}, or another grid.",
            )
        self.crop = crop
        self.sequence = [self.modalities.index(m) for m in SEQUENCE if m in self.modalities]
        count, widths = len(self.modalities), scale_widths(width)
        upsample = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)
        self.content_encoders = nn.ModuleDict(
            {name: ContentEncoder(make_block, width, [dropout] * SCALES) for name in self.modalities}
        )
        self.fusions = nn.ModuleList(
            SFusionBlock(channels, crop // 2**scale, grid, count, heads, layers, token_dropout)
            for scale, channels in enumerate(widths)
        )
        self.segmentation_decoder = SegmentationDecoder(make_block, width, num_classes, upsample)
        reconstructed = self.modalities if reconstruction else ()
        self.style_encoders = nn.ModuleDict({name: StyleEncoder(make_block, style_width) for name in reconstructed})
        self.image_decoders = nn.ModuleDict(
            {name: image_decoder(width, upsample, styled_eps) for name in reconstructed}
        )

    def _encode(self, images: Tensor, present: Tensor) -> SFusionEncoding:
        streams = {name: partial(self._encode_one, encoder) for name, encoder in self.content_encoders.items()}
        scales = encode_each(streams, images, present)
        return SFusionEncoding(present, images, scales[:SCALES], scales[SCALES:])

    def _encode_one(self, encoder: nn.Module, image: Tensor) -> list[Tensor]:
        """Content of one modality, (B, 1, X, Y, Z), and its tokens."""
        scales = encoder(image)
        tokens = [fusion.tokens(s) for fusion, s in zip(self.fusions, scales, strict=True)]  # type: ignore[operator]
        return [*scales, *tokens]

    def _fuse(self, encoding: SFusionEncoding, available: Tensor) -> list[Tensor]:
        """Samples with the same subset go through the blocks together."""
        subsets, which = torch.unique(available, dim=0, return_inverse=True)
        groups = [(which == number).nonzero()[:, 0] for number in range(len(subsets))]
        back = torch.cat(groups).argsort()
        pyramid = []
        for fusion, content, tokens in zip(self.fusions, encoding.content, encoding.tokens, strict=True):
            fused = []
            for flags, rows in zip(subsets.tolist(), groups, strict=True):
                own = slice(None) if len(groups) == 1 else rows
                chosen = [number for number in self.sequence if flags[number]]
                fused.append(fusion([content[own, n] for n in chosen], [tokens[own, n] for n in chosen]))
            pyramid.append(fused[0] if len(groups) == 1 else torch.cat(fused)[back])
        return pyramid


def image_decoder(width: int, upsample: nn.Module, eps: float) -> ImageDecoder:
    """The decoder of one image; as published, every convolution is normed, the last one too."""
    channels = scale_widths(width)[-1]
    activation = nn.LeakyReLU(NEGATIVE_SLOPE)

    def follow(in_channels: int, out_channels: int) -> Sequence[nn.Module]:
        return [make_block(in_channels, out_channels, side=5), nn.InstanceNorm3d(out_channels), activation]

    out = make_block(width, 1, side=7)
    return ImageDecoder(make_block, channels, activation, image_levels(channels, follow, upsample), out, eps)
