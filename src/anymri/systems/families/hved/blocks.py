"""Blocks of the convolutional variational encoder-decoders RA-HVED and XLSTM-HVED.

Instance norm has neither gains nor running statistics here. Biases before an instance norm have no effect; they are
kept, so that the parameters are the published ones. Source: sheet ra_hved, section 3; sheet xlstm_hved, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import conv3d

from anymri.layers.convolution import Conv3d, fast
from anymri.layers.instance_norm import InstanceNorm, NormedConv3d
from anymri.layers.packed_convolution import packed_conv3d

NEGATIVE_SLOPE = 0.01
GATE_SIDE = 7
# Voxels of a gate that are computed at once: with two gates, 16 numbers.
GATE_BLOCK = (2, 2, 2)
# Number of maps that the depthwise convolution of a gate makes of each pooled map.
GATE_MULTIPLIER = 4
# Name of the image decoder that reconstructs all modalities.
SHARED = "shared"

Join = Literal["attentive", "upsampled_first", "skip_first"]


def single_conv(in_channels: int, out_channels: int, stride: int = 1) -> NormedConv3d:
    """Return a block of instance norm, leaky ReLU and a 3x3x3 convolution."""
    norm = InstanceNorm(in_channels, gains=False, slope=NEGATIVE_SLOPE)
    return NormedConv3d(norm, Conv3d(in_channels, out_channels, 3, stride, padding=1))


def encoder_convs(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return two `single_conv` blocks; the first keeps the channels or has half of the output channels."""
    middle = max(in_channels, out_channels // 2)
    return nn.Sequential(single_conv(in_channels, middle), single_conv(middle, out_channels))


def decoder_convs(in_channels: int, out_channels: int) -> nn.Sequential:
    """Return two `single_conv` blocks, the first of which reduces the channels."""
    return nn.Sequential(single_conv(in_channels, out_channels), single_conv(out_channels, out_channels))


def basic_conv(in_channels: int, out_channels: int, side: int, groups: int = 1) -> nn.Sequential:
    """Return a block of a convolution without bias, instance norm and leaky ReLU."""
    block = nn.Sequential()
    block.add_module("conv", Conv3d(in_channels, out_channels, side, padding=side // 2, groups=groups, bias=False))
    block.add_module("norm", InstanceNorm(out_channels, gains=False, slope=NEGATIVE_SLOPE))
    return block


def upsample(features: Tensor, like: Tensor) -> Tensor:
    """Interpolate (B, C, X, Y, Z) trilinearly to the spatial size of `like`."""
    return functional.interpolate(features, size=like.shape[2:], mode="trilinear", align_corners=False)


class Expansion(nn.Module):
    """Block that turns a latent at half resolution into the skip features of its level.

    (B, z, X/2, Y/2, Z/2) to (B, C, X, Y, Z).
    """

    def __init__(self, latent_channels: int, channels: int) -> None:
        super().__init__()
        self.widen = basic_conv(latent_channels, channels, 1)
        self.smooth = basic_conv(channels, channels, 3, groups=channels)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the skip features, (B, C, X, Y, Z)."""
        wide = self.widen(latent)
        upsampled = functional.interpolate(wide, scale_factor=2, mode="trilinear", align_corners=False)
        features: Tensor = self.smooth(upsampled)
        return features


def channel_pool(features: Tensor) -> Tensor:
    """Return the maximum and the mean over channels: (B, C, X, Y, Z) to (B, 2, X, Y, Z)."""
    return torch.cat([features.amax(1, keepdim=True), features.mean(1, keepdim=True)], dim=1)


class SpatialGate(nn.Module):
    """Weights of a gate that turns pooled maps, (B, P, X, Y, Z), into one factor in 0..1 per voxel.

    As published, it is a depthwise 7x7x7 convolution to 4P maps and a 1x1x1 convolution of these, both with bias and
    without activation between them. The two equal one dense convolution P -> 1 with a quarter of the multiply-adds, and
    run as that one: `folded`. It is computed again in each pass: a few thousand multiply-adds against a billion keep it
    equal to its weights, and gradients reach these as published.
    """

    def __init__(self, pooled: int) -> None:
        super().__init__()
        maps = GATE_MULTIPLIER * pooled
        self.depthwise = nn.Conv3d(pooled, maps, GATE_SIDE, groups=pooled)
        self.pointwise = nn.Conv3d(maps, 1, 1)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight (1, P, 7, 7, 7) and bias (1,) of the dense convolution."""
        assert self.depthwise.bias is not None and self.pointwise.bias is not None
        share = self.pointwise.weight.view(-1, 1, 1, 1)
        # The filters of one pooled map are GATE_MULTIPLIER neighbours.
        weight = (share * self.depthwise.weight[:, 0]).reshape(1, -1, GATE_MULTIPLIER, *[GATE_SIDE] * 3).sum(2)
        return weight, self.pointwise.bias + self.pointwise.weight.flatten() @ self.depthwise.bias


class AttentiveJoin(nn.Module):
    """Concatenation of upsampled and skip features, each amplified up to twofold in the region of interest.

    The gate of the skip reads both, that of the upsampled features reads them alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skip_gate = SpatialGate(4)
        self.upsampled_gate = SpatialGate(2)

    def forward(self, upsampled: Tensor, skip: Tensor) -> Tensor:
        """Return (B, C1 + C2, X, Y, Z) of upsampled features (B, C1, X, Y, Z) and a skip (B, C2, X, Y, Z)."""
        pooled = channel_pool(upsampled)
        skip_gate, upsampled_gate = self.gates(torch.cat([pooled, channel_pool(skip)], dim=1)).chunk(2, dim=1)
        return torch.cat([upsampled * (1 + upsampled_gate), skip * (1 + skip_gate)], dim=1)

    def gates(self, pooled: Tensor) -> Tensor:
        """Return the factors of the skip and of the upsampled features, (B, 2, X, Y, Z) in 0..1.

        pooled  (B, 4, X, Y, Z): the pooled maps of the upsampled features and of the skip
        """
        of_skip, of_upsampled = self.skip_gate.folded(), self.upsampled_gate.folded()
        if not fast(pooled):
            padding = GATE_SIDE // 2
            gates = [conv3d(pooled, *of_skip, padding=padding), conv3d(pooled[:, :2], *of_upsampled, padding=padding)]
            return torch.cat(gates, dim=1).sigmoid()
        # One convolution for both: the second gate has no weights for the skip.
        weight = torch.cat([of_skip[0], functional.pad(of_upsampled[0], (0, 0, 0, 0, 0, 0, 0, 2))])
        return packed_conv3d(pooled, weight, torch.cat([of_skip[1], of_upsampled[1]]), GATE_BLOCK).sigmoid()


class DecoderLevel(nn.Module):
    """Decoder level that upsamples coarser features and joins them with a skip.

    join  `attentive` (see `AttentiveJoin`), or plain concatenation: `upsampled_first` or `skip_first`
    """

    def __init__(self, coarse_channels: int, skip_channels: int, out_channels: int, join: Join) -> None:
        super().__init__()
        self.join = AttentiveJoin() if join == "attentive" else None
        self.skip_first = join == "skip_first"
        self.convs = decoder_convs(coarse_channels + skip_channels, out_channels)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """Return the features of this level, (B, C, X, Y, Z), from coarser ones and a skip (B, S, X, Y, Z)."""
        upsampled = upsample(coarse, skip)
        if self.join is not None:
            joined = self.join(upsampled, skip)
        else:
            joined = torch.cat([skip, upsampled] if self.skip_first else [upsampled, skip], dim=1)
        features: Tensor = self.convs(joined)
        return features


def decoder_levels(skips: Sequence[int], widths: Sequence[int], join: Join) -> nn.ModuleList:
    """Return the levels of a decoder, coarsest first.

    skips   channels of the skip pyramid, finest first
    widths  channels of the levels, coarsest first; one fewer than skips
    """
    coarse = (skips[-1], *widths)
    return nn.ModuleList(
        DecoderLevel(source, skip, width, join)
        for source, skip, width in zip(coarse, reversed(skips[:-1]), widths, strict=False)
    )


class Decoder(nn.Module):
    """Decoder of a skip pyramid, finest first, to one image of `out_channels`; see `decoder_levels`."""

    def __init__(self, skips: Sequence[int], widths: Sequence[int], out_channels: int, join: Join) -> None:
        super().__init__()
        self.levels = decoder_levels(skips, widths, join)
        self.out = Conv3d(widths[-1], out_channels, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return (B, out_channels, X, Y, Z) from skips (B, C, X, Y, Z), finest first."""
        *skips, features = pyramid
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            features = level(features, skip)
        image: Tensor = self.out(features)
        return image


def image_channels(modalities: Sequence[str], shared: bool) -> dict[str, int]:
    """Return the number of images that each image decoder reconstructs, by the name of the decoder.

    shared  one decoder reconstructs all images; otherwise one decoder per modality
    """
    return {SHARED: len(modalities)} if shared else dict.fromkeys(modalities, 1)


def initialise(network: nn.Module) -> None:
    """Draw the parameters of all convolutions as published: weights by Kaiming's normal rule, biases from N(0, 1)."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias)
