"""Decoder of ShaSpec: fused bottlenecks and skips of all modalities to logits. Source: sheet shaspec, section 4."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import interpolate

from anymri.layers.convolution import Conv3d, ConvTranspose3d
from anymri.systems.shaspec.blocks import BasicBlock, Unit
from anymri.systems.shaspec.encoder import NECK, SKIPS, STEM_STRIDE


class DecoderLevel(nn.Module):
    """Level of the decoder: upsamples features of half the resolution and adds the skips of all modalities."""

    def __init__(self, in_channels: int, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.upsample = ConvTranspose3d(in_channels, channels, 2, bias=False)
        self.skip = Unit(skip_channels, channels, 1)
        self.block = BasicBlock(channels)

    def forward(self, below: Tensor, joined: Tensor) -> Tensor:
        """Return the features of this level, (B, C, X, Y, Z).

        below   (B, in, X/2, Y/2, Z/2)
        joined  (B, C, X, Y, Z): the sum over modalities of their `skip.conv.contribution`
        """
        features: Tensor = self.block(self.upsample(below).add_(self.skip.finish(joined)))
        return features


class Decoder(nn.Module):
    """Decoder of the fused bottlenecks and skips of all modalities to logits at full resolution."""

    def __init__(self, width: int, count: int, out_channels: int) -> None:
        super().__init__()
        channels = [width // 2, width, 2 * width, 4 * width]
        below = [*channels[1:], count * NECK * width]
        self.levels = nn.ModuleList(
            DecoderLevel(source, count * skip * width, target)
            for source, skip, target in zip(below, SKIPS, channels, strict=True)
        )
        self.out = Conv3d(channels[0], out_channels, 1, bias=False)

    def contributions(self, number: int, skips: Sequence[Tensor]) -> list[Tensor]:
        """Return what the skips of the `number`-th modality, finest first, add to the levels: (B, C, X, Y, Z) each."""
        levels = cast("Iterable[DecoderLevel]", self.levels)
        return [
            level.skip.conv.contribution(skip, number * skip.shape[1])
            for level, skip in zip(levels, skips, strict=True)
        ]

    def forward(self, features: Tensor, joined: Sequence[Tensor]) -> Tensor:
        """Return the logits (B, K, X, Y, Z).

        features  the fused bottlenecks of all modalities, concatenated: (B, M * C, X/32, Y/32, Z/16)
        joined    for each level, finest first, the sum of what the modalities' skips add to it
        """
        for level, skips in zip(reversed(self.levels), reversed(joined), strict=True):
            features = level(features, skips)
        scale = tuple(map(float, STEM_STRIDE))
        return interpolate(self.out(features), scale_factor=scale, mode="trilinear", align_corners=False)
