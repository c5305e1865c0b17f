"""Encoder of ShaSpec, which has five of them: a residual network of 50 layers with context at the bottleneck.

Source: sheet shaspec, section 4.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from anymri.systems.shaspec.blocks import EXPANSION, Bottleneck, Unit

# The stem keeps the resolution along z: the authors' crops have half as many slices as columns.
STEM_STRIDE = (2, 2, 1)
# Of the four stages after the stem: number of blocks, channels inside a block relative to the stem's, stride.
STAGES = ((3, 1, 1), (4, 2, 2), (6, 4, 2), (3, 5, 2))
# Channels of the skips, stem first, relative to the stem's.
SKIPS = (1, *(EXPANSION * factor for _, factor, _ in STAGES[:-1]))
# Ratio of the sides after the stem and at the bottleneck.
COARSEST = 2 * prod(stride for _, _, stride in STAGES)
NECK = 4
DILATIONS = (2, 4, 8)


class Context(nn.Module):
    """Concatenation of convolutions at several dilations, reduced to the input channels: (B, C, X, Y, Z) to the same.

    The authors have a fifth branch, the mean over the volume. It is constant in space, so that the norm after `join`
    removes it exactly; its weights in `join` affect the standardisation of the kernel alone.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([Unit(channels, channels, 1)])
        self.branches.extend(Unit(channels, channels, 3, dilation=dilation) for dilation in DILATIONS)
        self.join = Unit((len(self.branches) + 1) * channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features with context, of the shape of the input."""
        branches = torch.cat([branch(features) for branch in self.branches], dim=1)
        return self.join.finish(self.join.conv.contribution(branches))


class Encoder(nn.Module):
    """Residual network of 50 layers for images of one modality, (B, 1, X, Y, Z)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = Unit(1, width, 7, STEM_STRIDE)
        self.pool = nn.MaxPool3d(3, stride=2, padding=1)
        self.stages = nn.ModuleList()
        in_channels = width
        for blocks, factor, stride in STAGES:
            stage = nn.Sequential()
            for number in range(blocks):
                first = number == 0
                stage.append(Bottleneck(in_channels, factor * width, stride if first else 1, projects=first))
                in_channels = EXPANSION * factor * width
            self.stages.append(stage)
        self.reduce = Unit(in_channels, NECK * width, 1)
        self.context = Context(NECK * width)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the skips, finest first, and last the features at the bottleneck, before `context`."""
        scales = [self.stem(image)]
        features = self.pool(scales[0])
        for stage in self.stages:
            features = stage(features)
            scales.append(features)
        return [*scales[:-1], self.reduce(scales[-1])]
