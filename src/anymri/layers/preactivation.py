"""Pre-activation U-Net of mmFormer and IM-Fuse: blocks, encoder and decoder.

A block is instance norm (without gain or running statistics), leaky ReLU and a convolution with bias. There are five
levels: `width` channels at full resolution, and twice as many at each halving of the resolution. Source: sheet
mmformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anymri.layers.containers import ModuleList, outputs_of_levels
from anymri.layers.convolution import Conv3d
from anymri.layers.instance_norm import instance_norm
from anymri.layers.reflecting_convolution import ReflectingConv3d

LEVELS = 5
# Ratio of a side of the crop to that of the coarsest level.
STRIDE = 2 ** (LEVELS - 1)
NEGATIVE_SLOPE = 0.2


def level_widths(width: int) -> list[int]:
    """Return the number of channels of all levels, finest first."""
    return [width * 2**level for level in range(LEVELS)]


def activate(features: Tensor) -> Tensor:
    """Apply instance norm, per channel, and leaky ReLU to (B, C, X, Y, Z)."""
    return instance_norm(features, slope=NEGATIVE_SLOPE)


def upsample(features: Tensor) -> Tensor:
    """Return (B, C, X, Y, Z) at twice the resolution, trilinear; the corner voxels keep their values."""
    return interpolate(features, scale_factor=2, mode="trilinear", align_corners=True)


class Block(nn.Module):
    """Instance norm, leaky ReLU and a convolution with bias: (B, in, X, Y, Z) to (B, out, X', Y', Z').

    side  side of the kernel in voxels
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        side: int = 3,
        stride: int = 1,
        padding_mode: Literal["reflect", "zeros"] = "reflect",
    ) -> None:
        super().__init__()
        self.conv: Conv3d
        if side == 3 and padding_mode == "reflect":
            self.conv = ReflectingConv3d(in_channels, out_channels, stride)
        else:
            self.conv = Conv3d(in_channels, out_channels, side, stride, side // 2, padding_mode=padding_mode)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, out, X', Y', Z')."""
        output: Tensor = self.conv(activate(features))
        return output


class EncoderLevel(nn.Module):
    """Encoder level: `first` changes the number of channels and the resolution, a residual of two blocks follows."""

    def __init__(self, first: nn.Module, channels: int) -> None:
        super().__init__()
        self.first = first
        self.residual = nn.Sequential(Block(channels, channels), Block(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return the features of this level, (B, C, X, Y, Z)."""
        features = self.first(features)
        output: Tensor = features + self.residual(features)
        return output


class Encoder(nn.Module):
    """Encoder of one modality, (B, 1, X, Y, Z), to the features of all levels, finest first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        stem = ReflectingConv3d(1, width)
        self.levels = ModuleList([EncoderLevel(stem, width)])
        for channels in level_widths(width)[1:]:
            self.levels.append(EncoderLevel(Block(channels // 2, channels, stride=2), channels))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of all levels, finest first, each (B, C, X, Y, Z)."""
        return outputs_of_levels(self.levels, image)


class DecoderLevel(nn.Module):
    """Decoder level: upsamples features of twice the channels and joins them with a skip where there is one."""

    def __init__(self, channels: int, has_skip: bool) -> None:
        super().__init__()
        self.widen = Block(2 * channels, channels)
        self.join = Block(2 * channels if has_skip else channels, channels)
        self.out = Block(channels, channels, 1)

    def forward(self, below: Tensor, skip: Tensor | None) -> Tensor:
        """Return the features of this level, (B, C, X, Y, Z).

        below  (B, 2C, X/2, Y/2, Z/2) of the next coarser level
        skip   (B, C, X, Y, Z), or None for a level without skip
        """
        features = self.widen(upsample(below))
        if skip is not None:
            features = torch.cat([skip, features], dim=1)
        output: Tensor = self.out(self.join(features))
        return output


class Decoder(nn.Module):
    """Decoder of a pyramid of features, finest first, to logits.

    has_first_skip  whether the pyramid begins at full resolution, or one level below
    has_heads       whether the decoder can return logits of all levels, for deep supervision
    """

    def __init__(self, width: int, out_channels: int, has_first_skip: bool = True, has_heads: bool = False) -> None:
        super().__init__()
        finest, *coarser = level_widths(width)
        self.levels = ModuleList(
            DecoderLevel(channels, has_skip=depth > 0 or has_first_skip)
            for depth, channels in enumerate((finest, *coarser[:-1]))
        )
        self.out = Conv3d(finest, out_channels, 1)
        self.heads = ModuleList(Conv3d(channels, out_channels, 1) for channels in coarser if has_heads)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return logits at full resolution, (B, K, X, Y, Z)."""
        logits: Tensor = self.out(self.features(pyramid)[0])
        return logits

    def all_logits(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits of all levels, finest first, each (B, K, X, Y, Z) at the resolution of its level."""
        return [head(level) for head, level in zip([self.out, *self.heads], self.features(pyramid), strict=True)]

    def features(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Return the decoded features of all levels, finest first, each (B, C, X, Y, Z)."""
        skips = [None] * (LEVELS - len(pyramid)) + list(pyramid)
        decoded = [pyramid[-1]]
        for level, skip in zip(reversed(self.levels), reversed(skips[:-1]), strict=True):
            decoded.insert(0, level(decoded[0], skip))
        return decoded
