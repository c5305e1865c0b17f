"""Encoders and decoders of content and style, which Robust-Mseg and SFusion share.

Content is a pyramid of features with `width` channels at full resolution and twice as many at each halving; style is a
vector of 8 numbers. The two systems pad, normalise and activate convolutions differently, so each passes a function
that makes its blocks. Source: sheets robust_mseg and sfusion, Architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from anymri.layers.containers import outputs_of_levels
from anymri.layers.convolution import Conv3d

SCALES = 4
STYLE_SIZE = 8
RESIDUALS = 4


class MakeBlock(Protocol):
    """Function that makes a convolution with kernel side `side`, followed by dropout, norm and activation."""

    def __call__(
        self, in_channels: int, out_channels: int, side: int = 3, stride: int = 1, dropout: float = 0.0
    ) -> nn.Module: ...


class StyleEncoder(nn.Module):
    """Encoder of one modality's style: (B, 1, X, Y, Z) to a list of one tensor, (B, 8, 1, 1, 1)."""

    def __init__(self, make: MakeBlock, width: int) -> None:
        super().__init__()
        channels = [width, 2 * width, 4 * width, 4 * width, 4 * width]
        self.convs = nn.Sequential(make(1, width, side=7))
        for source, target in pairwise(channels):
            self.convs.append(make(source, target, side=4, stride=2))
        self.out = nn.Conv3d(channels[-1], STYLE_SIZE, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the style of images (B, 1, X, Y, Z): the mean of the last features over the volume, projected."""
        return [self.out(self.convs(image).mean((2, 3, 4), keepdim=True))]


class ContentLevel(nn.Module):
    """Level of a content encoder: a convolution, strided or not, and a residual block of two convolutions."""

    def __init__(self, make: MakeBlock, in_channels: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.first = make(in_channels, channels, stride=stride)
        self.residual = nn.Sequential(make(channels, channels, dropout=dropout), make(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, C, X', Y', Z') of features (B, in, X, Y, Z)."""
        strided: Tensor = self.first(features)
        residual: Tensor = self.residual(strided)
        return strided + residual


class ContentEncoder(nn.Module):
    """Encoder of one modality's content: (B, 1, X, Y, Z) to features at four scales, finest first.

    dropouts  dropout rate of each scale
    """

    def __init__(self, make: MakeBlock, width: int, dropouts: Sequence[float]) -> None:
        super().__init__()
        channels = [1, *scale_widths(width)]
        self.levels = nn.ModuleList(
            ContentLevel(make, source, target, 1 if depth == 0 else 2, dropout)
            for depth, (source, target, dropout) in enumerate(zip(channels, channels[1:], dropouts, strict=False))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the content of images (B, 1, X, Y, Z), finest scale first."""
        return outputs_of_levels(self.levels, image)


class DecoderLevel(nn.Module):
    """Level of the segmentation decoder: upsamples features of twice the channels and joins them with a skip."""

    def __init__(self, make: MakeBlock, channels: int, upsample: nn.Module) -> None:
        super().__init__()
        self.upsample = upsample
        self.widen = make(2 * channels, channels)
        self.join = make(2 * channels, channels)
        self.out = make(channels, channels, side=1)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Return features (B, C, X, Y, Z) of `below`, (B, 2C, X/2, Y/2, Z/2), and `skip`, (B, C, X, Y, Z)."""
        features = self.widen(self.upsample(below))
        joined: Tensor = self.out(self.join(torch.cat([features, skip], dim=1)))
        return joined


class SegmentationDecoder(nn.Module):
    """Decoder of fused content at four scales, finest first, to logits (B, K, X, Y, Z)."""

    def __init__(self, make: MakeBlock, width: int, out_channels: int, upsample: nn.Module) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            DecoderLevel(make, channels, upsample) for channels in reversed(scale_widths(width)[:-1])
        )
        self.out = Conv3d(width, out_channels, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return the logits of fused content, finest scale first."""
        *skips, features = pyramid
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            features = level(features, skip)
        logits: Tensor = self.out(features)
        return logits


def adaptive_instance_norm(features: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Return features (B, C, X, Y, Z) whose channels have mean `shift` and standard deviation `scale`.

    scale, shift  (B, C, 1, 1, 1)
    eps           added to the variance that is replaced
    """
    variance, mean = torch.var_mean(features, (2, 3, 4), keepdim=True)
    return torch.addcmul(shift, features - mean, scale * (variance + eps).rsqrt())


class StyledResidual(nn.Module):
    """Residual block of two convolutions, each followed by an adaptive instance norm."""

    def __init__(self, make: MakeBlock, channels: int, activation: nn.Module, eps: float) -> None:
        super().__init__()
        self.first, self.second = make(channels, channels), make(channels, channels)
        self.activation = activation
        self.eps = eps

    def forward(self, content: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return styled content (B, C, X, Y, Z); `scale` and `shift` are (B, C, 1, 1, 1)."""
        features = self.activation(adaptive_instance_norm(self.first(content), scale, shift, self.eps))
        return content + adaptive_instance_norm(self.second(features), scale, shift, self.eps)


class ImageDecoder(nn.Module):
    """Decoder of one modality's image, (B, 1, X, Y, Z), from the coarsest fused content and the modality's style.

    make      function that makes the convolutions of the residual blocks
    levels    modules that each double the resolution and halve the channels
    out       module from the channels of the last level to the image
    eps       added to the variances that styles replace
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
        """Return scale and shift of each channel of the residual blocks, (B, C) each, of a style (B, 8, 1, 1, 1)."""
        shared = self.shared(style.flatten(1))
        return self.scale(shared), self.shift(shared)

    def forward(self, content: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return images (B, 1, X, Y, Z) of content (B, C, X/8, Y/8, Z/8); `scale` and `shift` are (B, C)."""
        for residual in self.residuals:
            content = residual(content, scale[..., None, None, None], shift[..., None, None, None])
        image: Tensor = self.out(self.levels(content))
        return image


def image_levels(
    channels: int, make: Callable[[int, int], Sequence[nn.Module]], upsample: nn.Module
) -> list[nn.Module]:
    """Return the levels of an `ImageDecoder`; `make` gives the modules after upsampling, from C to C/2 channels."""
    halves = [channels // 2**level for level in range(SCALES)]
    return [nn.Sequential(upsample, *make(source, target)) for source, target in pairwise(halves)]


def scale_widths(width: int) -> list[int]:
    """Return the channels of all scales, finest first."""
    return [width * 2**scale for scale in range(SCALES)]
