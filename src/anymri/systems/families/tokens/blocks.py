"""Modules that mmFormer and IM-Fuse share: the stream of one modality, and the convolution that fuses modalities.

A token is a voxel of the coarsest level; tokens are ordered with the last axis fastest. Source: sheet mmformer, Token
path.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import torch
from torch import Tensor, nn

from anymri.errors import ConfigurationError
from anymri.layers.convolution import Conv3d, conv3d
from anymri.layers.preactivation import LEVELS, STRIDE, Block, Encoder, activate, level_widths
from anymri.layers.streams import subset_sum
from anymri.layers.tokens import Transformer
from anymri.systems.crops import Sides, in_words, plain

# The references' order of the modalities in a sequence of tokens. Weights cannot make up for another order (neither in
# mmFormer, see `aligned_tokens`, nor in the scan of IM-Fuse), so it is part of the networks.
SEQUENCE = ("FLAIR", "T1c", "T1", "T2")


class TokenStream(nn.Module):
    """Encoder of one modality and the transformer of its tokens; the learnt positions fix the crop.

    width        channels of the first encoder level
    token_width  T, channels of a token
    mlp_width    channels of the transformer's hidden layer
    heads        attention heads
    crop         sides of the crop in voxels
    dropout      of the transformer, in training
    """

    def __init__(self, width: int, token_width: int, mlp_width: int, heads: int, crop: Sides, dropout: float) -> None:
        super().__init__()
        self.encoder = Encoder(width)
        self.embed = Conv3d(level_widths(width)[-1], token_width, 1)
        self.position = positions(crop, token_width)
        self.transformer = Transformer(token_width, mlp_width, heads, dropout)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of all levels, finest first, each (B, C, X, Y, Z), and last the tokens (B, N, T).

        image  (B, 1, X, Y, Z)
        """
        scales = self.encoder(image)
        tokens = self.embed(scales[-1]).flatten(2).mT
        return [*scales, self.transformer(tokens + self.position)]


class Fusion(nn.Module):
    """Convolutional fusion of the modalities' features, stacked by channels, (B, M * C, X, Y, Z) to (B, C, X, Y, Z).

    The first convolution is linear and follows a norm per channel, so each modality adds a term to it that does not
    depend on the others: `contribution`. A missing modality, zero as published, adds nothing. `fuse` adds the terms of
    one subset, which is why encodings can be shared by all subsets.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = Block(in_channels, channels, 1)
        self.mix = nn.Sequential(Block(channels, channels, padding_mode="zeros"), Block(channels, channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Return the fused features, (B, C, X, Y, Z).

        features  (B, M * C, X, Y, Z)
        """
        fused: Tensor = self.mix(self.reduce(features))
        return fused

    def contribution(self, features: Tensor, number: int) -> Tensor:
        """Return what one modality adds to the output of the first convolution, (B, C, X, Y, Z), without bias.

        features  (B, C, X, Y, Z) of the modality
        number    index of the modality
        """
        channels = features.shape[1]
        weight = self.reduce.conv.weight[:, number * channels : (number + 1) * channels]
        return conv3d(activate(features), weight)

    def fuse(self, contributions: Tensor, available: Tensor) -> Tensor:
        """Return the fused features of one subset, (B, C, X, Y, Z): the same as `forward` of its features.

        contributions  (B, M, C, X, Y, Z) from `contribution`
        available      (B, M) bool
        """
        assert self.reduce.conv.bias is not None
        reduced = subset_sum(contributions, available)
        fused: Tensor = self.mix(reduced + self.reduce.conv.bias[:, None, None, None])
        return fused


def fuse_skips(fusions: Iterable[Fusion], contributions: Iterable[Tensor], available: Tensor) -> list[Tensor]:
    """Return the fused skips of one subset, one (B, C, X, Y, Z) per level.

    contributions  per level: what each modality adds to the fusion, (B, M, C, X, Y, Z)
    available      (B, M) bool
    """
    return [fusion.fuse(each, available) for fusion, each in zip(fusions, contributions, strict=True)]


def positions(crop: Sides, width: int) -> nn.Parameter:
    """Return the learnt positions of the tokens of one crop, (1, N, T), initialised to zero.

    crop   sides of the crop in voxels: multiples of 16, at least 32; otherwise `ConfigurationError` is raised
    width  T, channels of a token
    """
    x, y, z = (max(2, round(side / STRIDE)) * STRIDE for side in crop)
    if crop != (x, y, z):
        raise ConfigurationError(
            f"The network cannot be built for {in_words(crop)}: it halves the crop {LEVELS - 1} times and needs at "
            "least 2 voxels per side at the coarsest level.",
            f"Choose multiples of {STRIDE}, such as {plain((x, y, z))}.",
        )
    return nn.Parameter(torch.zeros(1, prod(crop) // STRIDE**3, width))


def as_volume(tokens: Tensor, crop: Sides) -> Tensor:
    """Return tokens (B, N, C), one per voxel of some level, as features (B, C, x, y, z).

    crop  sides of the crop at full resolution, in voxels
    """
    stride = round((prod(crop) / tokens.shape[1]) ** (1 / 3))
    return tokens.mT.reshape(len(tokens), -1, *(side // stride for side in crop))
