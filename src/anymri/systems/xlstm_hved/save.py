"""SAVE: a side path that looks at all modalities together and tells each one's encoder where to look.

Source: sheet xlstm_hved, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from anymri.systems.families.hved.blocks import channel_pool, encoder_convs

MOMENTUM = 0.1


def separable_conv(channels: int, momentum: float) -> nn.Sequential:
    """Depthwise 3x3x3 convolution without bias, 1x1x1 convolution with bias, batch norm, ReLU."""
    block = nn.Sequential()
    block.add_module("depthwise", nn.Conv3d(channels, channels, 3, padding=1, groups=channels, bias=False))
    block.add_module("pointwise", nn.Conv3d(channels, channels, 1))
    block.add_module("norm", nn.BatchNorm3d(channels, momentum=momentum))
    block.add_module("activation", nn.ReLU())
    return block


class AttentionMap(nn.Module):
    """Where to look: (B, C, X, Y, Z) to one factor in 0..1 a voxel, (B, 1, X, Y, Z).

    uses  how many modalities the map steers. The reference computes it anew for each, from the same input, so that
          running statistics of the batch norms move as often in a pass; here they move once, as far.
    """

    def __init__(self, channels: int, uses: int) -> None:
        super().__init__()
        momentum = 1 - (1 - MOMENTUM) ** uses
        self.convs = nn.Sequential(separable_conv(channels, momentum), separable_conv(channels, momentum))
        self.map = nn.Conv3d(2, 1, 1, bias=False)

    def forward(self, guide: Tensor) -> Tensor:
        features = (self.convs(guide) + guide).relu()
        return self.map(channel_pool(features)).sigmoid()  # type: ignore[no-any-return]


class Guide(nn.Module):
    """All modalities together, (B, M, X, Y, Z), to a pyramid of `channels`, finest first.

    An absent modality is expected as zeros: images are not normalised in here.
    """

    def __init__(self, modalities: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv3d(modalities, channels[0], 1)
        self.levels = nn.ModuleList(encoder_convs(source, target) for source, target in pairwise(channels))

    def forward(self, images: Tensor) -> list[Tensor]:
        pyramid = [self.stem(images)]
        for level in self.levels:
            pyramid.append(level(nn.functional.max_pool3d(pyramid[-1], 2)))
        return pyramid
