"""Encoders and decoders of content and style, from which Robust-Mseg and SFusion are built.

Content is a pyramid of features with `width` channels at full resolution and twice as many at each half; style is a few
numbers. How a convolution is padded, normed and activated is the system's: it gives a function that makes blocks.
Source: sheets robust_mseg and sfusion, Architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

SCALES = 4
STYLE_SIZE = 8
RESIDUALS = 4


class MakeBlock(Protocol):
    """Makes a convolution of `side` voxels with what follows it: dropout, norm, activation."""

    def __call__(
        self, in_channels: int, out_channels: int, side: int = 3, stride: int = 1, dropout: float = 0.0
    ) -> nn.Module: ...


class StyleEncoder(nn.Module):
    """One modality, (B, 1, X, Y, Z), to a list of its style alone, (B, S, 1, 1, 1)."""

    def __init__(self, make: MakeBlock, width: int) -> None:
        super().__init__()
        channels = [width, 2 * width, 4 * width, 4 * width, 4 * width]
        self.convs = nn.Sequential(make(1, width, side=7))
        for source, target in pairwise(channels):
            self.convs.append(make(source, target, side=4, stride=2))
        self.out = nn.Conv3d(channels[-1], STYLE_SIZE, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.out(self.convs(image).mean((2, 3, 4), keepdim=True))]


class ContentLevel(nn.Module):
    """`first` changes the channels, and the resolution if it has a stride; two blocks add to what it gives."""

    def __init__(self, make: MakeBlock, in_channels: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.first = make(in_channels, channels, stride=stride)
        self.residual = nn.Sequential(make(channels, channels, dropout=dropout), make(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        features = self.first(features)
        return features + self.residual(features)  # type: ignore[no-any-return]


class ContentEncoder(nn.Module):
    """One modality, (B, 1, X, Y, Z), to its content at four scales, finest first; dropouts: one a scale."""

    def __init__(self, make: MakeBlock, width: int, dropouts: Sequence[float]) -> None:
        super().__init__()
        channels = [1, *scale_widths(width)]
        self.levels = nn.ModuleList(
            ContentLevel(make, source, target, 1 if depth == 0 else 2, dropout)
            for depth, (source, target, dropout) in enumerate(zip(channels, channels[1:], dropouts, strict=False))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        scales = [image]
        for level in self.levels:
            scales.append(level(scales[-1]))
        return scales[1:]


class DecoderLevel(nn.Module):
    """Features of twice the channels and half the resolution, joined with a skip, to this level's."""

    def __init__(self, make: MakeBlock, channels: int, upsample: nn.Module) -> None:
        super().__init__()
        self.upsample = upsample
        self.widen = make(2 * channels, channels)
        self.join = make(2 * channels, channels)
        self.out = make(channels, channels, side=1)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        features = self.widen(self.upsample(below))
        return self.out(self.join(torch.cat([features, skip], dim=1)))  # type: ignore[no-any-return]


class SegmentationDecoder(nn.Module):
    """Fused content at four scales, finest first, to logits."""

    def __init__(self, make: MakeBlock, width: int, out_channels: int, upsample: nn.Module) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            DecoderLevel(make, channels, upsample) for channels in reversed(scale_widths(width)[:-1])
        )
        self.out = nn.Conv3d(width, out_channels, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        *skips, features = pyramid
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            features = level(features, skip)
        return self.out(features)  # type: ignore[no-any-return]


def adaptive_instance_norm(features: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Each channel of (B, C, X, Y, Z) to mean `shift` and standard deviation `scale`, (B, C, 1, 1, 1) each."""
    variance, mean = torch.var_mean(features, (2, 3, 4), keepdim=True)
    return torch.addcmul(shift, features - mean, scale * (variance + eps).rsqrt())


class StyledResidual(nn.Module):
    """Two convolutions, each brought to a style, on top of the content."""

    def __init__(self, make: MakeBlock, channels: int, activation: nn.Module, eps: float) -> None:
        super().__init__()
        self.first, self.second = make(channels, channels), make(channels, channels)
        self.activation = activation
        self.eps = eps

    def forward(self, content: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        features = self.activation(adaptive_instance_norm(self.first(content), scale, shift, self.eps))
        return content + adaptive_instance_norm(self.second(features), scale, shift, self.eps)


class ImageDecoder(nn.Module):
    """A modality's image, (B, 1, X, Y, Z), from the coarsest fused content and the modality's style.

    make      makes blocks of the residuals
    levels    from C to C/2 channels at twice the resolution, and so on
    out       from the last level's channels to the image
    eps       added to variances that styles replace
    """

    def __init__(
        self,
        make: MakeBlock,
        channels: int,
        activation: nn.Module,
        levels: Sequence[nn.Module],
        out: nn.Module,
        eps: float,
    ) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            nn.Linear(STYLE_SIZE, channels), activation, nn.Linear(channels, channels), activation
        )
        self.scale = nn.Linear(channels, channels)
        self.shift = nn.Linear(channels, channels)
        self.residuals = nn.ModuleList(StyledResidual(make, channels, activation, eps) for _ in range(RESIDUALS))
        self.levels = nn.Sequential(*levels)
        self.out = out

    def modulation(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """A style (B, S, 1, 1, 1) as scale and shift of each channel of the residuals, (B, C) each."""
        shared = self.shared(style.flatten(1))
        return self.scale(shared), self.shift(shared)

    def forward(self, content: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        for residual in self.residuals:
            content = residual(content, scale[..., None, None, None], shift[..., None, None, None])
        return self.out(self.levels(content))  # type: ignore[no-any-return]


def image_levels(
    channels: int, make: Callable[[int, int], Sequence[nn.Module]], upsample: nn.Module
) -> list[nn.Module]:
    """Levels of an `ImageDecoder`, each of which doubles the resolution; `make` gives what follows, from C to C/2."""
    halves = [channels // 2**level for level in range(SCALES)]
    return [nn.Sequential(upsample, *make(source, target)) for source, target in pairwise(halves)]


def scale_widths(width: int) -> list[int]:
    """Channels of all scales, finest first."""
    return [width * 2**scale for scale in range(SCALES)]
