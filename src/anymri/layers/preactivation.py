"""Pre-activation U-Net of mmFormer and IM-Fuse: encoder, fusion of modalities, decoder.

A block is instance norm (no gains, no running statistics), leaky ReLU, convolution with bias. Features have `width`
channels at full resolution and twice as many at each half: five levels. Source: sheet mmformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, instance_norm, interpolate, leaky_relu

LEVELS = 5
# A side of the crop shrinks by this much to the coarsest level.
STRIDE = 2 ** (LEVELS - 1)
NEGATIVE_SLOPE = 0.2


def activate(features: Tensor) -> Tensor:
    """Instance norm, each channel alone, and leaky ReLU: (B, C, X, Y, Z) to the same shape."""
    return leaky_relu(instance_norm(features), NEGATIVE_SLOPE, inplace=True)


class Block(nn.Module):
    """Instance norm, leaky ReLU, convolution of `side` voxels with bias: (B, in, X, Y, Z) to (B, out, X', Y', Z')."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        side: int = 3,
        stride: int = 1,
        padding_mode: Literal["reflect", "zeros"] = "reflect",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, side, stride, side // 2, padding_mode=padding_mode)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(activate(features))  # type: ignore[no-any-return]


def upsample(features: Tensor) -> Tensor:
    """Trilinear, to twice the sides; the outermost voxels stay where they are."""
    return interpolate(features, scale_factor=2, mode="trilinear", align_corners=True)


class EncoderLevel(nn.Module):
    """`first` changes the channels, and the resolution if it has a stride; two blocks add to what it gives."""

    def __init__(self, first: nn.Module, channels: int) -> None:
        super().__init__()
        self.first = first
        self.residual = nn.Sequential(Block(channels, channels), Block(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        features = self.first(features)
        return features + self.residual(features)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """One modality, (B, 1, X, Y, Z), to its features at all levels, finest first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        stem = nn.Conv3d(1, width, 3, padding=1, padding_mode="reflect")
        self.levels = nn.ModuleList([EncoderLevel(stem, width)])
        for channels in level_widths(width)[1:]:
            self.levels.append(EncoderLevel(Block(channels // 2, channels, stride=2), channels))

    def forward(self, image: Tensor) -> list[Tensor]:
        scales = [image]
        for level in self.levels:
            scales.append(level(scales[-1]))
        return scales[1:]


class Fusion(nn.Module):
    """Features of all modalities side by side, (B, in, X, Y, Z), to (B, C, X, Y, Z).

    The first convolution is linear behind a norm of each channel alone, so what a modality adds to it does not depend
    on the others: `part`. An absent modality, zeros as published, adds nothing.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.reduce = Block(in_channels, channels, 1)
        self.mix = nn.Sequential(Block(channels, channels, padding_mode="zeros"), Block(channels, channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.mix(self.reduce(features))  # type: ignore[no-any-return]

    def part(self, features: Tensor, number: int) -> Tensor:
        """What the `number`-th of the modalities, (B, C, X, Y, Z), adds to the first convolution, without its bias."""
        channels = features.shape[1]
        weight = self.reduce.conv.weight[:, number * channels : (number + 1) * channels]
        return conv3d(activate(features), weight)

    def join(self, parts: Tensor, available: Tensor) -> Tensor:
        """`forward` from the parts (B, M, C, X, Y, Z) of the modalities in `available`, (B, M) bool."""
        assert self.reduce.conv.bias is not None
        reduced = torch.einsum("bm,bmcxyz->bcxyz", available.to(parts.dtype), parts)
        return self.mix(reduced + self.reduce.conv.bias[:, None, None, None])  # type: ignore[no-any-return]


class DecoderLevel(nn.Module):
    """Features of twice the channels and half the resolution to this level's, joined with a skip where there is one."""

    def __init__(self, channels: int, has_skip: bool) -> None:
        super().__init__()
        self.widen = Block(2 * channels, channels)
        self.join = Block(2 * channels if has_skip else channels, channels)
        self.out = Block(channels, channels, 1)

    def forward(self, below: Tensor, skip: Tensor | None) -> Tensor:
        features = self.widen(upsample(below))
        if skip is not None:
            features = torch.cat([skip, features], dim=1)
        return self.out(self.join(features))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """A skip pyramid, finest first, to logits.

    has_first_skip  whether the pyramid reaches up to full resolution, or begins one level below
    has_heads       whether deep_supervision levels can be asked for logits too
    """

    def __init__(self, width: int, out_channels: int, has_first_skip: bool = True, has_heads: bool = False) -> None:
        super().__init__()
        finest, *deep_supervision = level_widths(width)
        self.levels = nn.ModuleList(
            DecoderLevel(channels, has_skip=depth > 0 or has_first_skip)
            for depth, channels in enumerate((finest, *deep_supervision[:-1]))
        )
        self.out = nn.Conv3d(finest, out_channels, 1)
        self.heads = nn.ModuleList(nn.Conv3d(channels, out_channels, 1) for channels in deep_supervision if has_heads)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        return self.out(self.features(pyramid)[0])  # type: ignore[no-any-return]

    def all_scores(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Scores of all levels, finest first, each in its own resolution."""
        return [head(level) for head, level in zip([self.out, *self.heads], self.features(pyramid), strict=True)]

    def features(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """Decoded features of all levels, finest first."""
        skips = [None] * (LEVELS - len(pyramid)) + list(pyramid)
        decoded = [pyramid[-1]]
        for level, skip in zip(reversed(self.levels), reversed(skips[:-1]), strict=True):
            decoded.insert(0, level(decoded[0], skip))
        return decoded


def level_widths(width: int) -> list[int]:
    """Channels of all levels, finest first."""
    return [width * 2**level for level in range(LEVELS)]
