"""M3AE: multimodal masked autoencoder with a learnt substitute for what is missing. AAAI 2023.

One residual U-Net sees all modalities at once. Where a modality or, in pre-training, a patch is missing, it sees the
same place of a trainable image of a whole head instead. Source: sheet m3ae.
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
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.batch import middle_corners
from anymri.systems.contract import Encoding, Prediction, System
from anymri.systems.m3ae.masking import draw_visible

GROUPS = 8
# Residual blocks of each level on the way down, finest first.
BLOCKS = (1, 2, 2, 4)


def pre(channels: int) -> nn.Sequential:
    """Group norm, ReLU, 3x3x3 convolution."""
    block = nn.Sequential()
    block.add_module("norm", nn.GroupNorm(gcd(GROUPS, channels), channels))
    block.add_module("activation", nn.ReLU())
    block.add_module("conv", nn.Conv3d(channels, channels, 3, padding=1))
    return block


class Residual(nn.Module):
    """Two of `pre` add to what comes in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(pre(channels), pre(channels))

    def forward(self, features: Tensor) -> Tensor:
        return features + self.convs(features)  # type: ignore[no-any-return]


class DecoderLevel(nn.Module):
    """Features of twice the channels and half the resolution, and a skip, to features like the skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = nn.Conv3d(2 * channels, channels, 1)
        self.residual = Residual(channels)

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return self.residual(interpolate(self.narrow(below), scale_factor=2) + skip)  # type: ignore[no-any-return]


class UNet(nn.Module):
    """(B, M, X, Y, Z) to decoded features at all levels, finest first; the coarsest are the encoder's own."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**depth for depth in range(len(BLOCKS))]
        self.encoder = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(source, target, 3, stride=1 if depth == 0 else 2, padding=1),
                *(Residual(target) for _ in range(BLOCKS[depth])),
            )
            for depth, (source, target) in enumerate(zip([in_channels, *widths], widths, strict=False))
        )
        self.decoder = nn.ModuleList(DecoderLevel(channels) for channels in widths[:-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        skips = [images]
        for level in self.encoder:
            skips.append(level(skips[-1]))
        decoded = [skips.pop()]
        for level, skip in zip(reversed(self.decoder), reversed(skips), strict=False):
            decoded.insert(0, level(decoded[0], skip))
        return decoded


@dataclass
class M3AEEncoding(Encoding):
    """Fusion comes first: nothing is computed before the subset is known.

    images      (B, M, X, Y, Z) as given
    substitute  (B, M, X, Y, Z): the same place of the substitute
    """

    images: Tensor
    substitute: Tensor


@dataclass
class M3AEPrediction(Prediction):
    """In training, what the losses need beside the logits.

    deep_supervision     logits from half and from a quarter of the resolution, at full resolution
    bottleneck  (B, C, X/8, Y/8, Z/8)
    """

    deep_supervision: Sequence[Tensor] = ()
    bottleneck: Tensor | None = None


class M3AE(System[M3AEEncoding]):
    """width       channels at full resolution (published: 16)
    num_classes  classes, background included; the logits are one region fewer: WT, TC, ET and perhaps RC
    grid         voxels of the substitute (published: those of BraTS); it lies on the middle of a scan of any size, and
                 its border continues outside
    substitute   `learnt`, or `zeros`: an ablation without the image
    placement    where inference cuts the substitute: at the window's place in the scan (`scan`), as training does, or
                 at its place in the padded box around the brain, off by the box's origin (`box`, the reference)
    heads        `both`: trained in two stages from start to end; `segmentation` or `reconstruction`: what the authors'
                 checkpoints hold after fine-tuning or pre-training
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
        # Finest first; the deep_supervision ones are for training.
        scored = [width, 2 * width, 4 * width] if heads != "reconstruction" else []
        self.heads = nn.ModuleList(nn.Conv3d(channels, self.out_channels, 1) for channels in scored)
        self.image_head = nn.Conv3d(width, count, 1) if heads != "segmentation" else None
        # How pre-training draws the patches that it shows; a parity test puts fixed ones here.
        self.draw_visible: Callable[[Tensor, Sequence[int]], Tensor] = draw_visible

    def window_origin(self, origin: Tensor) -> Tensor:
        return origin if self.placement == "scan" else -self._middle()

    def _middle(self) -> Tensor:
        return torch.tensor([side // 2 for side in self.grid])

    def _encode(self, images: Tensor, present: Tensor) -> M3AEEncoding:
        return self._encode_at(images, present, middle_corners(len(images), images.shape[2:]))

    def _encode_at(self, images: Tensor, present: Tensor, corners: Tensor) -> M3AEEncoding:
        return M3AEEncoding(present, images, self._substitute_at(corners, images))

    def _substitute_at(self, corners: Tensor, images: Tensor) -> Tensor:
        """The substitute for crops like `images` that lie at `corners`, mirrored as they are."""
        if self.substitute is None:
            return torch.zeros_like(images)
        cuts = []
        for first, last in (corners.cpu() + self._middle()).tolist():
            cut: Tensor = self.substitute
            for axis, (start, end, side) in enumerate(zip(first, last, self.grid, strict=True), start=2):
                step = 1 if start <= end else -1
                voxels = torch.arange(start, end + step, step, device=cut.device).clamp(0, side - 1)
                cut = cut.index_select(axis, voxels)
            cuts.append(cut)
        return torch.cat(cuts)

    def _decode(self, encoding: M3AEEncoding, available: Tensor, reconstruct: bool) -> M3AEPrediction:
        if not self.heads:
            raise ConfigurationError(
                "This M3AE was pre-trained alone: it reconstructs images and has not learnt to segment.",
                "Train it further, or take weights of a fine-tuned network.",
            )
        features = self.unet(self._filled(encoding, available[..., None, None, None]))
        logits, *deep_supervision = (head(level) for head, level in zip(self._used_heads(), features, strict=False))
        size = logits.shape[2:]
        upsampled = [interpolate(each, size, mode="trilinear", align_corners=True) for each in deep_supervision]
        # Fine-tuning overwrites what pre-training has learnt of images: none are reconstructed beside a segmentation.
        return M3AEPrediction(logits, self.output_kind, deep_supervision=upsampled, bottleneck=features[-1])

    def _used_heads(self) -> nn.ModuleList:
        return self.heads if self.training else self.heads[:1]

    def reconstruct(self, encoding: M3AEEncoding, visible: Tensor) -> Tensor:
        """All images, (B, M, X, Y, Z), from the voxels that are `visible`, of the same shape."""
        assert self.image_head is not None
        return self.image_head(self.unet(self._filled(encoding, visible))[0])  # type: ignore[no-any-return]

    def _filled(self, encoding: M3AEEncoding, visible: Tensor) -> Tensor:
        return torch.where(visible, encoding.images, encoding.substitute)
