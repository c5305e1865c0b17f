"""Blocks of the convolutional variational encoder-decoders RA-HVED and XLSTM-HVED.

Instance norm here has neither gains nor running statistics. Biases in front of one have no effect; they are kept, so
that parameters are the published ones. Source: sheet ra_hved, section 3; sheet xlstm_hved, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, interpolate

NEGATIVE_SLOPE = 0.01
GATE_SIDE = 7
# Maps that a gate's depthwise convolution makes of each pooled one.
GATE_MULTIPLIER = 4

Join = Literal["attentive", "upsampled_first", "skip_first"]


def single_conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Instance norm, leaky ReLU, 3x3x3 convolution."""
    block = nn.Sequential()
    block.add_module("norm", nn.InstanceNorm3d(in_channels))
    block.add_module("activation", nn.LeakyReLU(NEGATIVE_SLOPE))
    block.add_module("conv", nn.Conv3d(in_channels, out_channels, 3, stride, padding=1))
    return block


def encoder_convs(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two of `single_conv`, the first of which keeps the channels or halves the result's."""
    middle = max(in_channels, out_channels // 2)
    return nn.Sequential(single_conv(in_channels, middle), single_conv(middle, out_channels))


def decoder_convs(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two of `single_conv`, the first of which reduces the channels."""
    return nn.Sequential(single_conv(in_channels, out_channels), single_conv(out_channels, out_channels))


def basic_conv(in_channels: int, out_channels: int, side: int, groups: int = 1) -> nn.Sequential:
    """Convolution without bias, instance norm, leaky ReLU."""
    block = nn.Sequential()
    block.add_module("conv", nn.Conv3d(in_channels, out_channels, side, padding=side // 2, groups=groups, bias=False))
    block.add_module("norm", nn.InstanceNorm3d(out_channels))
    block.add_module("activation", nn.LeakyReLU(NEGATIVE_SLOPE))
    return block


def upsample(features: Tensor, like: Tensor) -> Tensor:
    """Trilinear, to the size of `like`."""
    return interpolate(features, size=like.shape[2:], mode="trilinear", align_corners=False)


class Expansion(nn.Module):
    """A latent at half resolution, (B, z, X/2, Y/2, Z/2), to the skip features of its level, (B, C, X, Y, Z)."""

    def __init__(self, latent_channels: int, channels: int) -> None:
        super().__init__()
        self.widen = basic_conv(latent_channels, channels, 1)
        self.smooth = basic_conv(channels, channels, 3, groups=channels)

    def forward(self, latent: Tensor) -> Tensor:
        upsampled = interpolate(self.widen(latent), scale_factor=2, mode="trilinear", align_corners=False)
        return self.smooth(upsampled)  # type: ignore[no-any-return]


def channel_pool(features: Tensor) -> Tensor:
    """Maximum and mean over channels: (B, C, X, Y, Z) to (B, 2, X, Y, Z)."""
    return torch.cat([features.amax(1, keepdim=True), features.mean(1, keepdim=True)], dim=1)


class SpatialGate(nn.Module):
    """Pooled maps (B, P, X, Y, Z) to one factor in 0..1 a voxel, (B, 1, X, Y, Z).

    As published, a depthwise 7x7x7 convolution to 4P maps, then a 1x1x1 convolution of them, both with bias and nothing
    between. The two are one dense convolution P -> 1 of a quarter of the multiply-adds, and run as that one. It is
    made anew in each pass: a few thousand multiply-adds against a billion keep it true to its weights, and gradients
    reach those as published.
    """

    def __init__(self, pooled: int) -> None:
        super().__init__()
        maps = GATE_MULTIPLIER * pooled
        self.depthwise = nn.Conv3d(pooled, maps, GATE_SIDE, groups=pooled)
        self.pointwise = nn.Conv3d(maps, 1, 1)

    def forward(self, pooled: Tensor) -> Tensor:
        if pooled.device.type == "cpu":
            # Forward it takes half the time in this layout, backward a third.
            pooled = pooled.contiguous(memory_format=torch.channels_last_3d)
        return conv3d(pooled, *self.folded(), padding=GATE_SIDE // 2).sigmoid()

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight (1, P, 7, 7, 7) and bias (1,) of the dense convolution."""
        assert self.depthwise.bias is not None and self.pointwise.bias is not None
        share = self.pointwise.weight.view(-1, 1, 1, 1)
        # Each pooled map has its own run of GATE_MULTIPLIER filters.
        weight = (share * self.depthwise.weight[:, 0]).reshape(1, -1, GATE_MULTIPLIER, *[GATE_SIDE] * 3).sum(2)
        return weight, self.pointwise.bias + self.pointwise.weight.flatten() @ self.depthwise.bias


class AttentiveJoin(nn.Module):
    """Upsampled and skip features side by side, each amplified up to twofold where a gate finds the region of interest.

    The gate of the skip looks at both, that of the upsampled features at them alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skip_gate = SpatialGate(4)
        self.upsampled_gate = SpatialGate(2)

    def forward(self, upsampled: Tensor, skip: Tensor) -> Tensor:
        pooled = channel_pool(upsampled)
        skip_gate = self.skip_gate(torch.cat([pooled, channel_pool(skip)], dim=1))
        return torch.cat([upsampled * (1 + self.upsampled_gate(pooled)), skip * (1 + skip_gate)], dim=1)


class DecoderLevel(nn.Module):
    """Features from below, upsampled and joined with a skip, to the features of this level.

    join  `attentive` (see `AttentiveJoin`), or which of the two comes first
    """

    def __init__(self, below_channels: int, skip_channels: int, out_channels: int, join: Join) -> None:
        super().__init__()
        self.join = AttentiveJoin() if join == "attentive" else None
        self.skip_first = join == "skip_first"
        self.convs = decoder_convs(below_channels + skip_channels, out_channels)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        upsampled = upsample(below, skip)
        if self.join is not None:
            joined = self.join(upsampled, skip)
        else:
            joined = torch.cat([skip, upsampled] if self.skip_first else [upsampled, skip], dim=1)
        return self.convs(joined)  # type: ignore[no-any-return]


def decoder_levels(skips: Sequence[int], widths: Sequence[int], join: Join) -> nn.ModuleList:
    """From coarse to fine. skips: channels of a skip pyramid, finest first; widths: of the levels, one fewer."""
    below = (skips[-1], *widths)
    return nn.ModuleList(
        DecoderLevel(source, skip, width, join)
        for source, skip, width in zip(below, reversed(skips[:-1]), widths, strict=False)
    )


class Decoder(nn.Module):
    """A skip pyramid, finest first, to one image of `out_channels`; for the rest see `decoder_levels`."""

    def __init__(self, skips: Sequence[int], widths: Sequence[int], out_channels: int, join: Join) -> None:
        super().__init__()
        self.levels = decoder_levels(skips, widths, join)
        self.out = nn.Conv3d(widths[-1], out_channels, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        *skips, features = pyramid
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            features = level(features, skip)
        return self.out(features)  # type: ignore[no-any-return]


def initialise(network: nn.Module) -> None:
    """Convolutions as published: weights by Kaiming's normal rule, biases standard normal."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias)
