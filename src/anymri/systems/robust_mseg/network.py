"""Robust-Mseg: disentangled content and style, content fused by gates. Chen et al., MICCAI 2019, arXiv 2002.09708.

Each modality has a style encoder and a content encoder. At four scales a gate weights each voxel of each modality's
content, and a 1x1x1 convolution fuses the gated content; one decoder segments from it. In training, image decoders
reconstruct all modalities from the fused content and their styles.
Source: sheet robust_mseg, after the PyTorch port in IM-Fuse's repository.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad

from anymri.errors import ConfigurationError, ShapeError
from anymri.layers.convolution import Conv3d, conv3d
from anymri.layers.instance_norm import InstanceNorm
from anymri.layers.streams import Outputs, stacked, subset_sum, surely_none
from anymri.modalities import MODALITIES
from anymri.systems.crops import Crop, Sides, as_sides, in_words, plain
from anymri.systems.families.disentangling.blocks import (
    SCALES,
    ContentEncoder,
    ImageDecoder,
    MakeBlock,
    SegmentationDecoder,
    StyleEncoder,
    image_levels,
    scale_widths,
)
from anymri.systems.families.disentangling.objective import Disentangling, DisentanglingEncoding, Reconstructed

NEGATIVE_SLOPE = 0.2
NORM_EPS = 1e-6
STYLED_EPS = 1e-5


class ConstantDropout(nn.Dropout):
    """Dropout in training and in evaluation."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with a random share of their values at zero."""
        return dropout(features, self.p, training=True)


def norm(channels: int, gains: bool, active: bool = True) -> InstanceNorm:
    """Return an instance norm, with or without learnt gains and shifts, and leaky ReLU if `active`."""
    return InstanceNorm(channels, NORM_EPS, gains, NEGATIVE_SLOPE if active else 1.0)


def make_block(
    in_channels: int,
    out_channels: int,
    side: int = 3,
    stride: int = 1,
    dropout: float = 0.0,
    norm_gains: bool = False,
    constant_dropout: bool = False,
) -> nn.Sequential:
    """Return a convolution, dropout, instance norm and leaky ReLU; see `MakeBlock`."""
    padding = side // 2
    block = nn.Sequential()
    conv = Conv3d(in_channels, out_channels, side, stride, padding, padding_mode="reflect" if padding else "zeros")
    block.add_module("conv", conv)
    if dropout:
        block.add_module("dropout", (ConstantDropout if constant_dropout else nn.Dropout)(dropout))
    block.add_module("norm", norm(out_channels, norm_gains))
    return block


def make_style_block(
    in_channels: int, out_channels: int, side: int = 3, stride: int = 1, dropout: float = 0.0
) -> nn.Sequential:
    """Return a convolution and ReLU; see `MakeBlock`."""
    block = nn.Sequential()
    conv = Conv3d(in_channels, out_channels, side, stride, (side - 1) // 2, padding_mode="reflect")
    block.add_module("conv", conv)
    block.add_module("activation", nn.ReLU(inplace=True))
    return block


def make_plain(in_channels: int, out_channels: int, side: int = 3, stride: int = 1, dropout: float = 0.0) -> nn.Module:
    """Return a convolution alone; see `MakeBlock`."""
    return Conv3d(in_channels, out_channels, side, stride, side // 2, padding_mode="reflect")


class GatedFusion(nn.Module):
    """Gated fusion of the content of M modalities at one scale, (B, C, X, Y, Z) each, to the same shape.

    As published, one convolution of the concatenated modalities computes their gates, and another joins the gated
    content. Both are linear and a gate is one number per voxel, so what a modality adds to either does not depend on
    the others: `contributions`. A missing modality, zeros as published, adds nothing.
    """

    def __init__(self, channels: int, count: int, norm_gains: bool, activated_gates: bool) -> None:
        super().__init__()
        self.gate = Conv3d(count * channels, count, 3, padding=1, padding_mode="reflect")
        self.gate_norm = norm(count, norm_gains, activated_gates)
        self.join = Conv3d(count * channels, channels, 1)
        self.join_norm = norm(channels, norm_gains)

    def contributions(self, content: Tensor, number: int) -> list[Tensor]:
        """Return what one modality adds to the gates and to the joined content.

        content  (B, C, X, Y, Z), of the `number`-th modality

        The first is added to all gates before their norm, (B, M, X, Y, Z); the second is multiplied by the modality's
        gate and added to the joined content, (B, C, X, Y, Z).
        """
        channels = slice(number * content.shape[1], (number + 1) * content.shape[1])
        gate = conv3d(pad(content, [1] * 6, mode="reflect"), self.gate.weight[:, channels])
        return [gate, conv3d(content, self.join.weight[:, channels])]

    def forward(self, to_gates: Tensor, to_content: Tensor, available: Tensor) -> Tensor:
        """Return the fused content of a subset, (B, C, X, Y, Z).

        to_gates    (B, M, M, X, Y, Z): contributions of all modalities (axis 1) to the gates
        to_content  (B, M, C, X, Y, Z): contributions to the joined content
        available   (B, M) bool: the subset
        """
        assert self.gate.bias is not None and self.join.bias is not None
        used = [number for number, flag in enumerate(available.unbind(1)) if not surely_none(flag)]
        gates = subset_sum(to_gates, available) + self.gate.bias[:, None, None, None]
        gates = self.gate_norm(gates).sigmoid() * available[..., None, None, None]
        joined = self.join.bias[:, None, None, None]
        for number in used:
            joined = torch.addcmul(joined, gates[:, number : number + 1], to_content[:, number])
        fused: Tensor = self.join_norm(joined)
        return fused


@dataclass
class RobustMsegEncoding(DisentanglingEncoding):
    """Encoding of Robust-Mseg.

    contributions  of each modality to gates and content of `GatedFusion`, at four scales, finest first:
                   (B, M, M, X, Y, Z) and (B, M, C, X, Y, Z)
    """

    contributions: list[tuple[Tensor, Tensor]]


class RobustMseg(Disentangling[RobustMsegEncoding]):
    """Network of Robust-Mseg: content encoders, gated fusion, segmentation decoder; styles and images in training.

    width             channels of the content at full resolution (published: 16)
    style_width       channels of the first level of the style encoders (published: 32)
    num_classes       channels of the segmentation, background included
    reconstruction    whether there are style encoders and image decoders; without them, training only segments
    image_norm        norm of the image decoders: `voxel`, over each channel alone, with a gain and a shift per voxel
                      (the port), or `channel`, over all channels, with a gain and a shift per channel (the original)
    crop              sides of the crops to train on or to reconstruct, in voxels, where image_norm is `voxel`.
                      Segmentation takes any crop
    dropout           rate in the content encoders, at all scales but the coarsest
    constant_dropout  dropout in evaluation too, as in the port
    activated_gates   leaky ReLU before a gate's sigmoid (the port), or not (the original)
    norm_gains        instance norms with gains and shifts (the original) or without (the port)
    upsampling        mode in all decoders: `trilinear` (the port) or `nearest` (the original)
    """

    # Reflection padding and instance norm need more than one voxel at the coarsest scale.
    minimum_side = 16

    def __init__(
        self,
        width: int = 16,
        style_width: int = 32,
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        reconstruction: bool = True,
        image_norm: Literal["voxel", "channel"] = "voxel",
        crop: Crop = (80, 80, 80),
        dropout: float = 0.3,
        constant_dropout: bool = False,
        activated_gates: bool = True,
        norm_gains: bool = False,
        upsampling: Literal["trilinear", "nearest"] = "trilinear",
    ) -> None:
        super().__init__(num_classes, modalities)
        sides = as_sides(crop)
        if sides != self.usable_crop(sides):
            raise ConfigurationError(
                f"The network cannot be built for {in_words(sides)}: {self.crop_rule()}.",
                f"The nearest crop that works is {plain(self.usable_crop(sides))}.",
            )
        count, widths = len(self.modalities), scale_widths(width)
        make = partial(make_block, norm_gains=norm_gains)
        make_content = partial(make, constant_dropout=constant_dropout)
        upsample = nn.Upsample(
            scale_factor=2, mode=upsampling, align_corners=True if upsampling == "trilinear" else None
        )
        dropouts = [*[dropout] * (SCALES - 1), 0.0]
        self.content_encoders = nn.ModuleDict(
            {name: ContentEncoder(make_content, width, dropouts) for name in self.modalities}
        )
        self.fusions = nn.ModuleList(GatedFusion(c, count, norm_gains, activated_gates) for c in widths)
        self.segmentation_decoder = SegmentationDecoder(make, width, num_classes, upsample)
        reconstructed = self.modalities if reconstruction else ()
        self.style_encoders = nn.ModuleDict(
            {name: StyleEncoder(make_style_block, style_width) for name in reconstructed}
        )
        self.trained_crop = sides if reconstruction and image_norm == "voxel" else None
        self.image_decoders = nn.ModuleDict(
            {name: image_decoder(make_plain, width, self.trained_crop, upsample) for name in reconstructed}
        )
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; image decoders with weights per voxel fix the crop, but only in training."""
        self.crop = self.trained_crop if mode else None
        return super().train(mode)

    def gather(self, images: Tensor, present: Tensor, outputs: Outputs) -> RobustMsegEncoding:
        """Return the encoding."""
        scales = stacked(outputs)
        return RobustMsegEncoding(present, images, list(zip(scales[::2], scales[1::2], strict=True)))

    def encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        """Return what one modality, (B, 1, X, Y, Z), adds to the fusions: gates and content, scale by scale."""
        scales = self.content_encoders[self.modalities[number]](image)
        fusions = cast("Iterable[GatedFusion]", self.fusions)
        pairs = [fusion.contributions(content, number) for fusion, content in zip(fusions, scales, strict=True)]
        return [contribution for pair in pairs for contribution in pair]

    def _fuse(self, encoding: RobustMsegEncoding, available: Tensor) -> list[Tensor]:
        scales = zip(self.fusions, encoding.contributions, strict=True)
        return [fusion(*contributions, available) for fusion, contributions in scales]

    def reconstruct(self, content: Tensor, images: Tensor, present: Tensor) -> Reconstructed:
        """Reconstruct all images, as in `Disentangling`; raise `ShapeError` for a crop that the norms do not fit."""
        if self.trained_crop and images.shape[2:] != self.trained_crop:
            raise ShapeError(
                f"Images of {'x'.join(map(str, images.shape[2:]))} voxels cannot be reconstructed: the image decoders "
                f"have weights for each voxel of {in_words(self.trained_crop)}.",
                f"Reconstruct {plain(self.trained_crop)} voxels; only segmentation takes any crop.",
            )
        return super().reconstruct(content, images, present)


def image_decoder(make: MakeBlock, width: int, crop: Sides | None, upsample: nn.Module) -> ImageDecoder:
    """Return the decoder of one image; `crop` has the sides of the images that its norms fit, None for any."""
    channels = scale_widths(width)[-1]

    def follow(in_channels: int, out_channels: int) -> Sequence[nn.Module]:
        stride = 2 ** (SCALES - 1) * out_channels // channels
        layer_norm: nn.Module = nn.GroupNorm(1, out_channels, eps=NORM_EPS)
        if crop:
            layer_norm = nn.LayerNorm([side // stride for side in crop], eps=NORM_EPS)
        return [Conv3d(in_channels, out_channels, 5, padding=2), layer_norm, nn.ReLU(inplace=True)]

    out = Conv3d(width, 1, 7, padding=3, padding_mode="reflect")
    return ImageDecoder(make, channels, nn.ReLU(), image_levels(channels, follow, upsample), out, STYLED_EPS)
