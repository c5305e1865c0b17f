"""Convolutional discriminator of patches, trained by least squares. Source: sheet ra_hved, section 5."""

from __future__ import annotations

from torch import Tensor, nn

from anymri.layers.convolution import Conv3d
from anymri.layers.instance_norm import InstanceNorm
from anymri.systems.families.hved.blocks import initialise

LEVELS = 4


class PatchDiscriminator(nn.Module):
    """Discriminator that maps (B, C, X, Y, Z) to about an eighth of the sides: near 1 where a patch looks real, else 0.

    width  channels of the first of four levels; each further level doubles them
    """

    def __init__(self, in_channels: int, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**depth for depth in range(LEVELS)]
        self.blocks = nn.Sequential()
        for depth, (source, target) in enumerate(zip([in_channels, *widths], widths, strict=False)):
            self.blocks.append(Conv3d(source, target, 4, stride=1 if depth == 0 else 2, padding=1))
            if depth > 0:
                self.blocks.append(InstanceNorm(target, gains=False))
            self.blocks.append(nn.LeakyReLU(0.2))
        self.last = Conv3d(widths[-1], 1, 4, padding=1, bias=False)
        initialise(self)

    def forward(self, features: Tensor) -> Tensor:
        """Return one value per patch, (B, 1, x, y, z), not limited to a range."""
        patches: Tensor = self.last(self.blocks(features))
        return patches
