"""SAVE: attention maps, computed from all modalities together, for the encoder of each modality.

Source: sheet xlstm_hved, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from anymri.layers.batch_norm import BatchNorm
from anymri.layers.convolution import Conv3d
from anymri.layers.pooling import max_pool3d
from anymri.systems.families.hved.blocks import channel_pool, encoder_convs

MOMENTUM = 0.1


def separable_conv(channels: int, momentum: float) -> nn.Sequential:
    """Return a block of depthwise 3x3x3 convolution without bias, 1x1x1 convolution with bias, batch norm and ReLU."""
    block = nn.Sequential()
    block.add_module("depthwise", Conv3d(channels, channels, 3, padding=1, groups=channels, bias=False))
    block.add_module("pointwise", Conv3d(channels, channels, 1))
    block.add_module("norm", BatchNorm(channels, momentum=momentum))
    block.add_module("activation", nn.ReLU())
    return block


class AttentionMap(nn.Module):
    """Attention map: (B, C, X, Y, Z) to one factor in 0..1 per voxel, (B, 1, X, Y, Z).

    uses  number of modalities that use the map. The reference computes it again for each of them from the same input,
          which updates the running statistics of the batch norms as often per pass; here one update has the same effect
    """

    def __init__(self, channels: int, uses: int) -> None:
        super().__init__()
        momentum = 1 - (1 - MOMENTUM) ** uses
        self.convs = nn.Sequential(separable_conv(channels, momentum), separable_conv(channels, momentum))
        self.map = Conv3d(2, 1, 1, bias=False)

    def forward(self, guide: Tensor) -> Tensor:
        """Return the factors, (B, 1, X, Y, Z) in 0..1."""
        features = (self.convs(guide) + guide).relu()
        logits: Tensor = self.map(channel_pool(features))
        return logits.sigmoid()


class Guide(nn.Module):
    """Encoder of all modalities together, (B, M, X, Y, Z), to a pyramid of `channels`, finest first."""

    def __init__(self, modalities: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.stem = Conv3d(modalities, channels[0], 1)
        self.levels = nn.ModuleList(encoder_convs(source, target) for source, target in pairwise(channels))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return features (B, C, X, Y, Z) per level, finest first, from images with zeros for missing modalities."""
        pyramid = [self.stem(images)]
        for level in self.levels:
            pyramid.append(level(max_pool3d(pyramid[-1])))
        return pyramid
