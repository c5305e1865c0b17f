"""SFusion in a network that disentangles content and style. Liu et al., MICCAI 2023, arXiv 2208.12776.

Each modality has a style encoder and a content encoder. At four scales an SFusion block (`fusion.py`) fuses the content
of the available modalities; one decoder segments from it. In training, image decoders reconstruct all modalities from
the fused content and their styles. Source: sheet sfusion, after the port in IM-Fuse's repository.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import cast

import torch
from torch import Tensor, nn
from torch.compiler import is_exporting

from anymri.errors import ConfigurationError
from anymri.layers.convolution import Conv3d
from anymri.layers.instance_norm import InstanceNorm
from anymri.layers.streams import Outputs, stacked
from anymri.modalities import MODALITIES
from anymri.systems.crops import Crop, as_sides, in_words
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
# Positions of tokens continue from one modality to the next, so that their order is part of the network.
SEQUENCE = ("T1c", "T1", "T2", "FLAIR")
# Ratio of the sides of the crop and of the coarsest scale.
STRIDE = 2 ** (SCALES - 1)


def norm(channels: int) -> InstanceNorm:
    """Return an instance norm without gains, and leaky ReLU."""
    return InstanceNorm(channels, gains=False, slope=NEGATIVE_SLOPE)


def make_block(
    in_channels: int, out_channels: int, side: int = 3, stride: int = 1, dropout: float = 0.0
) -> nn.Sequential:
    """Return a convolution, dropout, instance norm and leaky ReLU; see `MakeBlock`."""
    block = nn.Sequential()
    block.add_module("conv", Conv3d(in_channels, out_channels, side, stride, side // 2))
    if dropout:
        block.add_module("dropout", nn.Dropout(dropout))
    block.add_module("norm", norm(out_channels))
    return block


@dataclass
class SFusionEncoding(DisentanglingEncoding):
    """Encoding of SFusion.

    content  four scales, finest first: (B, M, C, X, Y, Z) each, zero where a modality is missing
    tokens   tokens of the content, (B, M, N, C) each
    """

    content: list[Tensor]
    tokens: list[Tensor]


class SFusion(Disentangling[SFusionEncoding]):
    """Network of SFusion: content encoders, SFusion blocks, segmentation decoder; styles and images in training.

    width           channels of the content at full resolution (published: 16)
    crop            sides of the cube that the network takes, in voxels, multiples of 8 times `grid` (published: 128):
                    there are logits for each voxel of a token
    grid            tokens along a side of the cube (published: 8)
    heads           attention heads of the transformers (published: 4); `width` is a multiple of it
    layers          layers of the transformers (published: 8)
    style_width     channels of the first level of the style encoders (published: 32)
    num_classes     channels of the segmentation, background included
    reconstruction  whether there are style encoders and image decoders; without them, training only segments
    dropout         rate in the content encoders, in training
    token_dropout   rate in the transformers, in training
    styled_eps      added to variances that styles replace; 0 in the port, where a constant map divides by zero
    """

    # Instance norm needs more than one voxel at the coarsest scale.
    minimum_side = 2 * STRIDE

    def __init__(
        self,
        width: int = 16,
        crop: Crop = (128, 128, 128),
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
        self.crop = as_sides(crop)
        side = max(self.crop)
        if side % unit or side < self.minimum_side or len(set(self.crop)) > 1:
            nearest = unit * max(ceil(self.minimum_side / unit), round(side / unit))
            raise ConfigurationError(
                f"The network cannot be built for {in_words(self.crop)} with {grid} tokens along a side.",
                f"Choose a cube whose side is a multiple of {unit}, such as {nearest}, or another grid.",
            )
        self.sequence = [self.modalities.index(m) for m in SEQUENCE if m in self.modalities]
        count, widths = len(self.modalities), scale_widths(width)
        upsample = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)
        self.content_encoders = nn.ModuleDict(
            {name: ContentEncoder(make_block, width, [dropout] * SCALES) for name in self.modalities}
        )
        self.fusions = nn.ModuleList(
            SFusionBlock(channels, side // 2**scale, grid, count, heads, layers, token_dropout)
            for scale, channels in enumerate(widths)
        )
        self.segmentation_decoder = SegmentationDecoder(make_block, width, num_classes, upsample)
        reconstructed = self.modalities if reconstruction else ()
        self.style_encoders = nn.ModuleDict({name: StyleEncoder(make_block, style_width) for name in reconstructed})
        self.image_decoders = nn.ModuleDict(
            {name: image_decoder(width, upsample, styled_eps) for name in reconstructed}
        )

    def gather(self, images: Tensor, present: Tensor, outputs: Outputs) -> SFusionEncoding:
        """Return the encoding."""
        scales = stacked(outputs)
        return SFusionEncoding(present, images, scales[:SCALES], scales[SCALES:])

    def encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        """Return the content of one modality, (B, 1, X, Y, Z), at four scales, and its tokens at four scales."""
        scales = self.content_encoders[self.modalities[number]](image)
        fusions = cast("Iterable[SFusionBlock]", self.fusions)
        tokens = [fusion.tokens(content) for fusion, content in zip(fusions, scales, strict=True)]
        return [*scales, *tokens]

    def _fuse(self, encoding: SFusionEncoding, available: Tensor) -> list[Tensor]:
        if is_exporting():
            flags = available[:, self.sequence]
            return [
                fusion([content[:, n] for n in self.sequence], [tokens[:, n] for n in self.sequence], flags)
                for fusion, content, tokens in zip(self.fusions, encoding.content, encoding.tokens, strict=True)
            ]
        # Samples with the same subset are fused together.
        subsets, which = torch.unique(available, dim=0, return_inverse=True)
        groups = [(which == number).nonzero()[:, 0] for number in range(len(subsets))]
        back = torch.cat(groups).argsort()
        pyramid = []
        for fusion, content, tokens in zip(self.fusions, encoding.content, encoding.tokens, strict=True):
            fused = []
            for flags, rows in zip(subsets.tolist(), groups, strict=True):
                samples = slice(None) if len(groups) == 1 else rows
                chosen = [number for number in self.sequence if flags[number]]
                fused.append(fusion([content[samples, n] for n in chosen], [tokens[samples, n] for n in chosen]))
            pyramid.append(fused[0] if len(groups) == 1 else torch.cat(fused)[back])
        return pyramid


def image_decoder(width: int, upsample: nn.Module, eps: float) -> ImageDecoder:
    """Return the decoder of one image; as published, a norm follows every convolution, the last one too."""
    channels = scale_widths(width)[-1]
    activation = nn.LeakyReLU(NEGATIVE_SLOPE)

    def follow(in_channels: int, out_channels: int) -> Sequence[nn.Module]:
        return [make_block(in_channels, out_channels, side=5), norm(out_channels)]

    out = make_block(width, 1, side=7)
    return ImageDecoder(make_block, channels, activation, image_levels(channels, follow, upsample), out, eps)
