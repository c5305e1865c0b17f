"""DuSFE: after a level, the segmentation and the images in the making tell each other what matters.

The paper calls it SFECA. Source: sheet xlstm_hved, sections 3, 4 and 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from anymri.systems.families.hved.blocks import Decoder, decoder_levels


class Side(nn.Module):
    """What one of the two branches has of its own.

    channels  (B, C), place (B, 1, X, Y, Z): the summary of both branches, from which this one takes its gates
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv3d(channels, 1, 1)
        self.channel_gate = nn.Linear(channels, channels)
        self.place_gate = nn.Conv3d(1, 1, 3, padding=1)
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, features: Tensor, channels: Tensor, place: Tensor) -> Tensor:
        gate = self.channel_gate(channels).sigmoid()[:, :, None, None, None] + self.place_gate(place).sigmoid()
        return self.norm(features + features * gate)  # type: ignore[no-any-return]


class DuSFE(nn.Module):
    """Images and segmentation, both (B, C, X, Y, Z), to the same two, gated by channel and by voxel from both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = nn.Linear(2 * channels, channels)
        self.place = nn.Conv3d(2, 1, 1)
        self.image = Side(channels)
        self.segmentation = Side(channels)

    def forward(self, image: Tensor, segmentation: Tensor) -> tuple[Tensor, Tensor]:
        channels = self.channels(torch.cat([image.mean((2, 3, 4)), segmentation.mean((2, 3, 4))], dim=1))
        place = self.place(torch.cat([self.image.squeeze(image), self.segmentation.squeeze(segmentation)], dim=1))
        return self.image(image, channels, place), self.segmentation(segmentation, channels, place)


class CoupledDecoder(nn.Module):
    """The segmentation's decoder, run beside the decoder of each stream of images, with DuSFE after the first levels.

    streams    name of an image decoder -> how many images it reconstructs; the segmentation runs once for each, with the
               same weights, and gives as many maps, which the last convolution joins
    exchanges  levels with DuSFE, from the coarsest
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
        self.maps = nn.ModuleDict({name: nn.Conv3d(widths[-1], count, 1) for name, count in streams.items()})
        self.out = nn.Conv3d(sum(streams.values()), out_channels, 1)

    def forward(
        self, pyramid: Sequence[Tensor], image_decoders: nn.ModuleDict, reconstruct: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Scores, and the images of each stream if asked for, from a skip pyramid, finest first."""
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
