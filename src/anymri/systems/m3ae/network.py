"""M3AE: multimodal masked autoencoder with a learnt substitute for missing modalities. AAAI 2023.

One residual U-Net takes all modalities as channels. Where a modality or, in pre-training, a patch is missing, the same
voxels of a trainable image of a whole head replace it. Source: sheet m3ae.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anymri.errors import ConfigurationError
from anymri.layers.convolution import Conv3d
from anymri.layers.instance_norm import GroupNorm
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.batch import middle_corners
from anymri.systems.contract import Encoding, Prediction, System
from anymri.systems.m3ae.masking import draw_intensities, draw_visible

GROUPS = 8
# Number of residual blocks of each level of the encoder, finest first.
BLOCKS = (1, 2, 2, 4)


def pre(channels: int) -> nn.Sequential:
    """Return a pre-activation convolution: group norm, ReLU, 3x3x3 convolution."""
    block = nn.Sequential()
    block.add_module("norm", GroupNorm(gcd(GROUPS, channels), channels, slope=0.0))
    block.add_module("conv", Conv3d(channels, channels, 3, padding=1))
    return block


class Residual(nn.Module):
    """Residual block of two pre-activation convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(pre(channels), pre(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the shape of the input, (B, C, X, Y, Z)."""
        residual: Tensor = self.convs(features)
        return features + residual


class DecoderLevel(nn.Module):
    """Level of the decoder: upsamples features of twice the channels and adds a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = Conv3d(2 * channels, channels, 1)
        self.residual = Residual(channels)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        """Return features of the shape of `skip`, (B, C, X, Y, Z); `below` is (B, 2C, X/2, Y/2, Z/2)."""
        features: Tensor = self.residual(interpolate(self.narrow(below), scale_factor=2) + skip)
        return features


class UNet(nn.Module):
    """Residual U-Net: (B, M, X, Y, Z) to decoded features at all levels, finest first."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**depth for depth in range(len(BLOCKS))]
        self.encoder = nn.ModuleList(
            nn.Sequential(
                Conv3d(source, target, 3, stride=1 if depth == 0 else 2, padding=1),
                *(Residual(target) for _ in range(BLOCKS[depth])),
            )
            for depth, (source, target) in enumerate(zip([in_channels, *widths], widths, strict=False))
        )
        self.decoder = nn.ModuleList(DecoderLevel(channels) for channels in widths[:-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return decoded features, finest level first; the last are those of the encoder at the bottleneck."""
        skips = [images]
        for level in self.encoder:
            skips.append(level(skips[-1]))
        decoded = [skips.pop()]
        for level, skip in zip(reversed(self.decoder), reversed(skips), strict=False):
            decoded.insert(0, level(decoded[0], skip))
        return decoded


@dataclass
class M3AEEncoding(Encoding):
    """Encoding of M3AE: only the inputs, because the network fuses the modalities first.

    images      (B, M, X, Y, Z) as given
    substitute  (B, M, X, Y, Z): the crop of the substitute at the same position
    """

    images: Tensor
    substitute: Tensor


@dataclass(kw_only=True)
class M3AEPrediction(Prediction):
    """Prediction with the outputs that the training losses need beside the logits.

    deep_supervision  in training, logits from half and from a quarter of the resolution, at full resolution
    bottleneck        features (B, C, X/8, Y/8, Z/8)
    """

    deep_supervision: Sequence[Tensor]
    bottleneck: Tensor


class M3AE(System[M3AEEncoding]):
    """Network of M3AE: a residual U-Net over all modalities, with a trainable substitute for missing ones.

    width        channels at full resolution (published: 16)
    num_classes  classes, background included; there is one logit fewer, for the regions WT, TC, ET and perhaps RC
    grid         voxels of the substitute along x, y, z (published: those of BraTS); it is centred on the scan, and its
                 border is repeated outside
    substitute   `learnt`, or `zeros`: an ablation without the image
    placement    where inference crops the substitute: at the window's position in the scan (`scan`), as in training, or
                 at its position in the padded box around the brain, off by the box's origin (`box`, the reference)
    heads        `both`: both stages are trained; `segmentation` or `reconstruction`: the head in the authors'
                 checkpoints after fine-tuning or pre-training
    """

    output_kind: ClassVar[OutputKind] = "regions"
    uses_crop_position = True
    divisor = 2 ** (len(BLOCKS) - 1)
    minimum_side = divisor

    def __init__(
        self,
        width: int = 16,
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        grid: tuple[int, int, int] = (240, 240, 155),
        substitute: Literal["learnt", "zeros"] = "learnt",
        placement: Literal["scan", "box"] = "scan",
        heads: Literal["both", "segmentation", "reconstruction"] = "both",
    ) -> None:
        super().__init__(num_classes, modalities)
        self.grid = tuple(grid)
        self.placement = placement
        count = len(self.modalities)
        self.substitute = nn.Parameter(torch.randn(1, count, *grid)) if substitute == "learnt" else None
        self.unet = UNet(count, width)
        # Finest first; all but the first are for deep supervision in training.
        supervised = [width, 2 * width, 4 * width] if heads != "reconstruction" else []
        self.heads = nn.ModuleList(Conv3d(channels, self.out_channels, 1) for channels in supervised)
        self.image_head = Conv3d(width, count, 1) if heads != "segmentation" else None
        # Draws the patches that pre-training shows; parity tests replace it with the fixture's patches.
        self.draw_visible: Callable[[Tensor, Sequence[int]], Tensor] = draw_visible
        # Likewise the changes of intensities in fine-tuning.
        self.draw_intensities: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = draw_intensities

    def window_origin(self, origin: Tensor) -> Tensor:
        """Return the position that inference assumes for the first voxel of a volume; see `placement`."""
        return origin if self.placement == "scan" else -self._middle()

    def _middle(self) -> Tensor:
        return torch.tensor([side // 2 for side in self.grid], device="cpu")

    def _encode(self, images: Tensor, present: Tensor) -> M3AEEncoding:
        return self._encode_at(images, present, middle_corners(len(images), images.shape[2:]))

    def _encode_at(self, images: Tensor, present: Tensor, corners: Tensor) -> M3AEEncoding:
        return M3AEEncoding(present, images, self._substitute_at(corners, images))

    def _substitute_at(self, corners: Tensor, images: Tensor) -> Tensor:
        """Return the substitute for crops of the shape of `images` at `corners`, (B, 2, 3), mirrored as they are."""
        if self.substitute is None:
            return torch.zeros_like(images)
        cuts = []
        for first, last in corners.to(images.device) + self._middle().to(images.device):
            cut: Tensor = self.substitute
            for axis, side in enumerate(self.grid):
                steps = torch.arange(images.shape[axis + 2], device=cut.device)
                voxels = first[axis] + steps * torch.where(first[axis] <= last[axis], 1, -1)
                cut = cut.index_select(axis + 2, voxels.clamp(0, side - 1))
            cuts.append(cut)
        return torch.cat(cuts)

    def _decode(self, encoding: M3AEEncoding, available: Tensor, reconstruct: bool) -> M3AEPrediction:
        if not self.heads:
            raise ConfigurationError(
                "This M3AE is only pre-trained: it reconstructs images and cannot segment.",
                "Fine-tune it, or use the weights of a fine-tuned network.",
            )
        features = self.unet(self._filled(encoding, available[..., None, None, None]))
        logits, *deep_supervision = (head(level) for head, level in zip(self._used_heads(), features, strict=False))
        size = logits.shape[2:]
        upsampled = [interpolate(each, size, mode="trilinear", align_corners=True) for each in deep_supervision]
        # Fine-tuning overwrites what pre-training has learnt, so that images are not reconstructed with a segmentation.
        return M3AEPrediction(logits, self.output_kind, deep_supervision=upsampled, bottleneck=features[-1])

    def _used_heads(self) -> nn.ModuleList:
        return self.heads if self.training else self.heads[:1]

    def reconstruct(self, encoding: M3AEEncoding, visible: Tensor) -> Tensor:
        """Reconstruct all images, (B, M, X, Y, Z), from the voxels in `visible`, (B, M, X, Y, Z) bool."""
        assert self.image_head is not None
        reconstructed: Tensor = self.image_head(self.unet(self._filled(encoding, visible))[0])
        return reconstructed

    def _filled(self, encoding: M3AEEncoding, visible: Tensor) -> Tensor:
        """Return the images with the substitute where `visible` is false."""
        return torch.where(visible, encoding.images, encoding.substitute)
