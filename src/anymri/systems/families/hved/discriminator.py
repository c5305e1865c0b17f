"""A convolutional discriminator of patches, trained by least squares. Source: sheet ra_hved, section 5."""

from __future__ import annotations

from torch import Tensor, nn

from anymri.systems.families.hved.blocks import initialise

LEVELS = 4


class PatchDiscriminator(nn.Module):
    """(B, C, X, Y, Z) to a map of about an eighth of the sides: near 1 where a patch looks real, near 0 where not.

    width  channels of the first of four levels, each of which doubles them
    """

    def __init__(self, in_channels: int, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**depth for depth in range(LEVELS)]
        self.blocks = nn.Sequential()
        for depth, (source, target) in enumerate(zip([in_channels, *widths], widths, strict=False)):
            self.blocks.append(nn.Conv3d(source, target, 4, stride=1 if depth == 0 else 2, padding=1))
            if depth > 0:
                self.blocks.append(nn.InstanceNorm3d(target))
            self.blocks.append(nn.LeakyReLU(0.2))
        self.last = nn.Conv3d(widths[-1], 1, 4, padding=1, bias=False)
        initialise(self)

    def forward(self, features: Tensor) -> Tensor:
        return self.last(self.blocks(features))  # type: ignore[no-any-return]
