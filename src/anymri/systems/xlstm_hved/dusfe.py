"""DuSFE: cross-attention between the segmentation decoder and the image decoders after a level.

The paper calls it SFECA. Source: sheet xlstm_hved, sections 3, 4 and 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from anymri.layers.batch_norm import BatchNorm
from anymri.layers.convolution import Conv3d
from anymri.systems.families.hved.blocks import Decoder, decoder_levels


class Branch(nn.Module):
    """Modules of one of the two branches of DuSFE: its part of the summary, its gates and its norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = Conv3d(channels, 1, 1)
        self.channel_gate = nn.Linear(channels, channels)
        self.place_gate = Conv3d(1, 1, 3, padding=1)
        self.norm = BatchNorm(channels)

    def forward(self, features: Tensor, channels: Tensor, place: Tensor) -> Tensor:
        """Return the gated features of this branch, (B, C, X, Y, Z).

        features         (B, C, X, Y, Z)
        channels, place  (B, C) and (B, 1, X, Y, Z): summary of both branches
        """
        gate = self.channel_gate(channels).sigmoid()[:, :, None, None, None] + self.place_gate(place).sigmoid()
        gated: Tensor = self.norm(features + features * gate)
        return gated


class DuSFE(nn.Module):
    """Block that gates image and segmentation features, both (B, C, X, Y, Z), per channel and per voxel from both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = nn.Linear(2 * channels, channels)
        self.place = Conv3d(2, 1, 1)
        self.image = Branch(channels)
        self.segmentation = Branch(channels)

    def forward(self, image: Tensor, segmentation: Tensor) -> tuple[Tensor, Tensor]:
        """Return both features gated, (B, C, X, Y, Z) each."""
        channels = self.channels(torch.cat([image.mean((2, 3, 4)), segmentation.mean((2, 3, 4))], dim=1))
        place = self.place(torch.cat([self.image.squeeze(image), self.segmentation.squeeze(segmentation)], dim=1))
        return self.image(image, channels, place), self.segmentation(segmentation, channels, place)


class CoupledDecoder(nn.Module):
    """Segmentation decoder that runs beside each image decoder, with DuSFE between the two after the first levels.

    streams    name of an image decoder -> number of images that it reconstructs. The segmentation decoder runs once per
               image decoder, with the same weights, and computes as many maps; the last convolution joins all maps
    exchanges  number of levels with DuSFE, from the coarsest
    """

    def __init__(
        self,
        channels: Sequence[int],
        widths: Sequence[int],
        streams: Mapping[str, int],
        out_channels: int,
        exchanges: int,
    ) -> None:
        super().__init__()
        self.levels = decoder_levels(channels, widths, "attentive")
        self.exchanges = nn.ModuleList(DuSFE(width) for width in widths[:exchanges])
        self.maps = nn.ModuleDict({name: Conv3d(widths[-1], count, 1) for name, count in streams.items()})
        self.out = Conv3d(sum(streams.values()), out_channels, 1)

    def forward(
        self, pyramid: Sequence[Tensor], image_decoders: nn.ModuleDict, reconstruct: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Return logits (B, K, X, Y, Z), and the images of each stream if requested, (B, n, X, Y, Z) each.

        pyramid  skips (B, C, X, Y, Z), finest first
        """
        maps, images = [], []
        for name, decoder in image_decoders.items():
            assert isinstance(decoder, Decoder)
            image, segmentation = self._run(pyramid, decoder.levels)
            maps.append(self.maps[name](segmentation))
            if reconstruct:
                images.append(decoder.out(image))
        return self.out(torch.cat(maps, dim=1)), images

    def _run(self, pyramid: Sequence[Tensor], image_levels: nn.ModuleList) -> tuple[Tensor, Tensor]:
        *skips, image = pyramid
        segmentation = image
        for depth, skip in enumerate(reversed(skips)):
            image, segmentation = image_levels[depth](image, skip), self.levels[depth](segmentation, skip)
            if depth < len(self.exchanges):
                image, segmentation = self.exchanges[depth](image, segmentation)
        return image, segmentation
