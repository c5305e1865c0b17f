"""U-Net over all modalities, which receives the presence of each modality in every block.

It fuses the modalities in its first convolution, so that subsets cannot share an encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from anymri.errors import ConfigurationError
from anymri.layers.convolution import Conv3d, ConvTranspose3d
from anymri.layers.instance_norm import GroupNorm
from anymri.modalities import MODALITIES
from anymri.regions import REGIONS, OutputKind
from anymri.systems.contract import Encoding, Prediction, System

# Intensities beyond these are clipped: standard deviations from the mean of the brain.
LOWEST, HIGHEST = -5.0, 7.0
GROUPS = 8
# Side of the cubes of voxels that the first level takes as channels.
PACKED = 2


@dataclass
class UNetDropoutEncoding(Encoding):
    """Encoding of the baseline: only the images, because the network fuses the modalities first.

    images  (B, M, X, Y, Z) as given
    """

    images: Tensor


@dataclass(kw_only=True)
class UNetDropoutPrediction(Prediction):
    """Prediction with what the losses need.

    class_logits  logits of the exclusive classes, background first, (B, classes, X, Y, Z)
    coarse        in training, logits of the whole tumour at the second level, (B, 1, X/4, Y/4, Z/4); otherwise None
    """

    class_logits: Tensor
    coarse: Tensor | None


class UNetDropout(System[UNetDropoutEncoding]):
    """U-Net over all modalities; missing ones are zero, and their absence is an input of every block.

    It learns exclusive classes, and predicts regions: the probability of a region is the sum over its classes. So a
    voxel that is surely tumour, but not surely which part, is tumour.

    The levels work on cubes of 2^3 voxels, then 4^3, 8^3 and so on: most of the cost of a U-Net is at the full
    resolution, which has no level here.

    width        channels of the first level, doubled at each further one; a multiple of 8
    num_classes  classes, background included
    blocks       convolutions of each level of the encoder, finest first; the decoder has one less, but at least one
    """

    output_kind: ClassVar[OutputKind] = "regions"

    def __init__(
        self,
        width: int = 32,
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        blocks: Sequence[int] = (2, 2, 3, 3),
    ) -> None:
        super().__init__(num_classes, modalities)
        if len(blocks) < 2 or min(blocks) < 1:
            raise ConfigurationError(
                f"The network cannot be built with blocks={list(blocks)}.",
                "Give one or more convolutions for each of two or more levels, as in blocks=[1,2,3].",
            )
        if width % GROUPS:
            raise ConfigurationError(
                f"The network cannot be built with width={width}.", f"Give a multiple of {GROUPS}, as in width=32."
            )
        self.divisor = PACKED * 2 ** (len(blocks) - 1)
        # Group norm needs more than one voxel at the coarsest level.
        self.minimum_side = 2 * self.divisor
        names = len(self.modalities)
        widths = [width * 2**level for level in range(len(blocks))]
        self.stem = Block(names * PACKED**3, width, names)
        self.encoder = nn.ModuleList(
            Level(channels, count - (level == 0), names)
            for level, (channels, count) in enumerate(zip(widths, blocks, strict=True))
        )
        self.down = nn.ModuleList(Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(ConvTranspose3d(coarse, fine, 2) for fine, coarse in pairwise(widths))
        self.decoder = nn.ModuleList(
            Level(channels, max(1, count - 1), names) for channels, count in zip(widths[:-1], blocks, strict=False)
        )
        self.head = Conv3d(width, num_classes * PACKED**3, 1)
        self.coarse_head = Conv3d(widths[1], 1, 1)

    def _encode(self, images: Tensor, present: Tensor) -> UNetDropoutEncoding:
        return UNetDropoutEncoding(present, images)

    def _decode(self, encoding: UNetDropoutEncoding, available: Tensor, reconstruct: bool) -> UNetDropoutPrediction:
        images = encoding.images
        # Not a product, which would keep the NaN of a missing modality.
        existing = torch.where(available[..., None, None, None], images, torch.zeros_like(images))
        presence = available.to(images.dtype)
        features = self.stem(space_to_depth(existing.clamp(LOWEST, HIGHEST)), presence)
        skips = []
        for level, encoder in enumerate(self.encoder):
            features = encoder(self.down[level - 1](features) if level else features, presence)
            skips.append(features)
        skips.pop()
        coarse = self.coarse_head(features) if len(skips) == 1 and self.training else None
        for level in reversed(range(len(skips))):
            features = self.decoder[level](self.up[level](features) + skips.pop(), presence)
            if level == 1 and self.training:
                coarse = self.coarse_head(features)
        classes = depth_to_space(self.head(features))
        return UNetDropoutPrediction(region_logits(classes), self.output_kind, class_logits=classes, coarse=coarse)


def region_logits(logits: Tensor) -> Tensor:
    """Return the logits of the regions, (B, K - 1, X, Y, Z), for those of K exclusive classes, (B, K, X, Y, Z)."""
    classes = range(logits.shape[1])
    regions = []
    for region in list(REGIONS)[: len(classes) - 1]:
        inside = [each for each in classes if each in REGIONS[region]]
        outside = [each for each in classes if each not in REGIONS[region]]
        regions.append(logits[:, inside].logsumexp(1) - logits[:, outside].logsumexp(1))
    return torch.stack(regions, dim=1)


class Level(nn.Module):
    """Residual blocks of one resolution.

    channels    channels of input and output
    count       number of blocks; none returns the input
    modalities  number of modalities
    """

    def __init__(self, channels: int, count: int, modalities: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels, channels, modalities) for _ in range(count))

    def forward(self, features: Tensor, presence: Tensor) -> Tensor:
        """Return features (B, C, X, Y, Z) after the blocks; `presence` is (B, M), 1 where a modality is available."""
        for block in self.blocks:
            features = features + block(features, presence)
        return features


class Block(nn.Module):
    """Convolution, group norm, a bias that depends on which modalities are available, and SiLU."""

    def __init__(self, inputs: int, outputs: int, modalities: int) -> None:
        super().__init__()
        self.convolution = Conv3d(inputs, outputs, 3, padding=1, bias=False)
        # A larger epsilon than usual, or gradients of a patch outside the brain, which is constant, would overflow.
        self.norm = GroupNorm(GROUPS, outputs, eps=1e-3)
        self.presence = nn.Linear(modalities, outputs, bias=False)
        nn.init.kaiming_normal_(self.convolution.weight, nonlinearity="relu")
        nn.init.zeros_(self.presence.weight)

    def forward(self, features: Tensor, presence: Tensor) -> Tensor:
        """Return the output (B, C', X, Y, Z) for features (B, C, X, Y, Z) and presence (B, M)."""
        bias = self.presence(presence)[..., None, None, None]
        return nn.functional.silu(self.norm(self.convolution(features)) + bias)


def space_to_depth(images: Tensor) -> Tensor:
    """Return cubes of 2^3 voxels as channels: (B, C, X, Y, Z) to (B, 8 C, X/2, Y/2, Z/2)."""
    b, c, x, y, z = images.shape
    cubes = images.reshape(b, c, x // PACKED, PACKED, y // PACKED, PACKED, z // PACKED, PACKED)
    return cubes.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * PACKED**3, x // PACKED, y // PACKED, z // PACKED)


def depth_to_space(features: Tensor) -> Tensor:
    """Return channels as cubes of 2^3 voxels, the inverse of `space_to_depth`."""
    b, c, x, y, z = features.shape
    cubes = features.reshape(b, c // PACKED**3, PACKED, PACKED, PACKED, x, y, z)
    return cubes.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // PACKED**3, x * PACKED, y * PACKED, z * PACKED)
