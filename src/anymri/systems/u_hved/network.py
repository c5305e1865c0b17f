"""U-HVED: hetero-modal variational encoder-decoder. Dorent et al., MICCAI 2019, arXiv 1907.11150.

One small U-Net encoder per modality computes a Gaussian at each of four scales; the product of the available
modalities' Gaussians is the skip pyramid of five decoders: four reconstruct the modalities (training only), one
segments. Source: sheet u_hved, after the PyTorch port in IM-Fuse's repository. Modalities are selected by name here; in
the port the columns of the mask are permuted against the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from anymri.layers.convolution import Conv3d
from anymri.layers.gaussians import Gaussians
from anymri.layers.instance_norm import InstanceNorm, NormedConv3d
from anymri.layers.pooling import max_pool3d
from anymri.layers.streams import Outputs, stacked
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.contract import Prediction
from anymri.systems.families.hved.system import GaussiansEncoding, VariationalSystem

SCALES = 4
NEGATIVE_SLOPE = 0.01
NORM_EPS = 1e-6


def pre(in_channels: int, out_channels: int) -> NormedConv3d:
    """Return a block of instance norm, leaky ReLU and a 3x3x3 convolution without bias."""
    norm = InstanceNorm(in_channels, NORM_EPS, slope=NEGATIVE_SLOPE)
    return NormedConv3d(norm, Conv3d(in_channels, out_channels, 3, padding=1, bias=False))


class Encoder(nn.Module):
    """Encoder of one modality, (B, 1, X, Y, Z), to four scales with 1, 2, 4 and 8 times `width` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [width * 2**scale for scale in range(SCALES)]
        self.stem = Conv3d(1, width, 1, bias=False)
        self.levels = nn.ModuleList(
            nn.Sequential(pre(source, target), pre(target, target))
            for source, target in zip([width, *channels], channels, strict=False)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of each scale, finest first, from an image (B, 1, X, Y, Z)."""
        features = nn.functional.leaky_relu(self.stem(image), NEGATIVE_SLOPE)
        scales = []
        for depth, level in enumerate(self.levels):
            features = level(features if depth == 0 else max_pool3d(features))
            scales.append(features)
        return scales


class Decoder(nn.Module):
    """Decoder of a skip pyramid, finest first with width/2, ..., 4 times `width` channels, to one image."""

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__()
        skips = [width // 2 * 2**scale for scale in range(SCALES)]
        self.levels = nn.ModuleList(
            nn.Sequential(pre(3 * skip, 2 * skip), pre(2 * skip, skip)) for skip in reversed(skips[:-1])
        )
        self.out = Conv3d(skips[0], out_channels, 1, bias=False)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return (B, out_channels, X, Y, Z) from skips (B, C, X, Y, Z), finest first."""
        *skips, features = pyramid
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            # Under autocast, skips are float32.
            upsampled = nn.functional.interpolate(
                features.to(skip.dtype), scale_factor=2, mode="trilinear", align_corners=True
            )
            features = level(torch.cat([upsampled, skip], dim=1))
        image: Tensor = self.out(features)
        return image


class UHVED(VariationalSystem[GaussiansEncoding]):
    """U-HVED network.

    width           channels of the first encoder level, an even number (published: 8)
    num_classes     channels of the segmentation, with background
    init            initialisation: `he_fan_in`, or `port` as in the reference (see `_initialise_as_port`)
    reconstruction  training reconstructs the four images, as published; without, a step costs half
    """

    output_kind: ClassVar[OutputKind] = "classes"
    divisor = 8
    # Instance norm needs more than one voxel at the coarsest scale.
    minimum_side = 16

    def __init__(
        self,
        width: int = 8,
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        init: Literal["he_fan_in", "port"] = "he_fan_in",
        reconstruction: bool = True,
    ) -> None:
        super().__init__(num_classes, modalities)
        self.encoders = nn.ModuleDict({name: Encoder(width) for name in self.modalities})
        self.segmentation_decoder = Decoder(width, num_classes)
        reconstructed = self.modalities if reconstruction else ()
        self.image_decoders = nn.ModuleDict({name: Decoder(width, 1) for name in reconstructed})
        if init == "port":
            self._initialise_as_port()
        else:
            self._initialise_he()

    @property
    def reconstructs(self) -> bool:
        """Whether `decode` can reconstruct the images: only with image decoders."""
        return bool(self.image_decoders)

    def encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        """Return means and log-variances of one modality, finest scale first."""
        scales: list[Tensor] = self.encoders[self.modalities[number]](image)
        return scales

    def gather(self, images: Tensor, present: Tensor, outputs: Outputs) -> GaussiansEncoding:
        """Return the Gaussians of all modalities."""
        return GaussiansEncoding(present, [Gaussians(scale) for scale in stacked(outputs)])

    def _decode(self, encoding: GaussiansEncoding, available: Tensor, reconstruct: bool) -> Prediction:
        posteriors = [gaussians.product(available) for gaussians in encoding.gaussians]
        pyramid = [self.latent(posterior) for posterior in posteriors]
        images = [decoder(pyramid) for decoder in self.image_decoders.values()] if reconstruct else []
        reconstruction = torch.cat(images, dim=1) if images else None
        return Prediction(self.segmentation_decoder(pyramid), self.output_kind, reconstruction)

    def _initialise_he(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)

    def _initialise_as_port(self) -> None:
        """Apply the reference's rule, made for the kernel layout of TensorFlow: norm gains are drawn around zero."""
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                std = sqrt(2 / prod(parameter.shape[:-1]))
                nn.init.trunc_normal_(parameter, std=std, a=-2, b=2)
