"""XLSTM-HVED: hetero-modal variational encoder-decoder with spatial attention and a Vision-LSTM. ISBI 2025.

As in RA-HVED, one encoder per modality computes a Gaussian at each of four scales, at half the resolution of the scale,
and the product of the available modalities' Gaussians, expanded again, is the skip pyramid of the decoders. Three
modules are new: SAVE, which computes attention maps for the encoders from all modalities; a Vision-LSTM at the
bottleneck; and DuSFE between the decoders of segmentation and images. Source: sheet xlstm_hved, sections 2 to 6 and 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from anymri.layers.convolution import Conv3d
from anymri.layers.gaussians import Gaussians, Posterior
from anymri.layers.mlstm import VisionLSTM
from anymri.layers.pooling import MaxPool3d
from anymri.layers.streams import Outputs, encode_each, stacked
from anymri.modalities import MODALITIES
from anymri.systems.families.hved.blocks import (
    Decoder,
    Expansion,
    encoder_convs,
    image_channels,
    initialise,
    single_conv,
)
from anymri.systems.families.hved.system import HVED, GaussiansEncoding, HVEDPrediction
from anymri.systems.xlstm_hved.dusfe import CoupledDecoder
from anymri.systems.xlstm_hved.save import AttentionMap, Guide

SCALES = 4
NORM_GAIN_STD = 0.02


class EncoderLevel(nn.Module):
    """Encoder level of one modality: features, and the means and log-variances of its Gaussians.

    The moments are concatenated along the channels: half as many channels as the features, at half the resolution.
    """

    def __init__(self, entry: nn.Module, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.entry = entry
        self.convs = encoder_convs(in_channels, out_channels)
        self.reduction = single_conv(out_channels, out_channels // 2, stride=2)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return features and moments, (B, C, X, Y, Z) each, from finer features (B, 1, C, X, Y, Z)."""
        features = self.convs(self.entry(features[:, 0]))
        return [features, self.reduction(features)]


@dataclass
class XLSTMHVEDEncoding(GaussiansEncoding):
    """Encoder levels that do not depend on attention maps: the finest level, or without SAVE all levels.

    images    (B, M, X, Y, Z) as given
    features  (B, M, C, X, Y, Z) of the last encoded level, zero where a modality is missing
    """

    images: Tensor
    features: Tensor


@dataclass
class Fused:
    """Result of the fusion of one subset; one entry per scale, finest first.

    gaussians   one Gaussian per modality, zero where it is not available
    posteriors  product of these Gaussians
    pyramid     skips of the decoders, (B, C, X, Y, Z) each
    """

    gaussians: list[Gaussians]
    posteriors: list[Posterior]
    pyramid: list[Tensor]


class XLSTMHVED(HVED[XLSTMHVEDEncoding]):
    """XLSTM-HVED network.

    width                  channels of the first encoder level, a multiple of 4 (published: 4)
    num_classes            classes with background; the logits have one region fewer: WT, TC, ET and perhaps RC
    shared_reconstruction  one decoder reconstructs all images; otherwise one decoder per image, each coupled with one
                           pass of the segmentation decoder
    save_source            source of the attention maps: the images (`input`, the code), the fused skip of each level
                           (`latent`, the paper's figure), or `none`: without SAVE
    vil_gate               bottleneck h with v = ViL(h + coarsest features of SAVE): h + v (`residual`, the code),
                           h + h * softmax of v over channels (`softmax`, the paper), or `none`: h
    dusfe_levels           decoder levels with DuSFE from the coarsest: 3 (the code), 2 (the paper); 0: no DuSFE
    reference_leak         in training, SAVE uses all modalities that exist, also those that are missing in the step, as
                           the reference does; in evaluation it never does
    init                   `anymri`: convolutions as published but for the biases of the logits, which are 0, other
                           layers by their default rules; `reference`: all layers as published, which overwrites the
                           biases of the forget gates of the Vision-LSTM
    """

    def __init__(
        self,
        width: int = 4,
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        shared_reconstruction: bool = True,
        save_source: Literal["input", "latent", "none"] = "input",
        vil_gate: Literal["residual", "softmax", "none"] = "residual",
        dusfe_levels: Literal[0, 2, 3] = 3,
        reference_leak: bool = False,
        init: Literal["anymri", "reference"] = "anymri",
    ) -> None:
        super().__init__(num_classes, modalities)
        self.reference_leak = reference_leak
        self.vil_gate = vil_gate
        channels = [width * 2**scale for scale in range(SCALES)]
        widths = channels[-2::-1]
        streams = image_channels(self.modalities, shared_reconstruction)

        self.levels = nn.ModuleList(
            nn.ModuleDict(
                {
                    name: EncoderLevel(MaxPool3d() if depth else Conv3d(1, width, 1), source, target)
                    for name in self.modalities
                }
            )
            for depth, (source, target) in enumerate(zip([width, *channels], channels, strict=False))
        )
        self.expansions = nn.ModuleList(Expansion(c // 4, c) for c in channels)
        # All levels but the first use attention maps. Only the Vision-LSTM uses the coarsest features of the guide.
        guided = channels[:-1] if save_source != "none" else []
        self.attention = nn.ModuleList(AttentionMap(c, uses=len(self.modalities)) for c in guided)
        self.guide = None
        if save_source == "input":
            self.guide = Guide(len(self.modalities), channels if vil_gate != "none" else channels[:-1])
        self.decodes_images = self.guide is not None
        self.vil = VisionLSTM(channels[-1]) if vil_gate != "none" else None

        self.image_decoders = nn.ModuleDict(
            {name: Decoder(channels, widths, images, "skip_first") for name, images in streams.items()}
        )
        self.segmentation_decoder = (
            CoupledDecoder(channels, widths, streams, self.out_channels, dusfe_levels)
            if dusfe_levels
            else Decoder(channels, widths, self.out_channels, "attentive")
        )
        initialise(self)
        if init == "reference":
            self._initialise_as_reference()
        else:
            self._clear_biases_of_logits()

    def encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        """Return the features of the last level that does not depend on attention maps, and the moments of all such."""
        features, moments = image, []
        for level in self.levels[: 1 if self.attention else SCALES]:
            assert isinstance(level, nn.ModuleDict)
            features, each = level[self.modalities[number]](features[:, None])
            moments.append(each)
        return [features, *moments]

    def gather(self, images: Tensor, present: Tensor, outputs: Outputs) -> XLSTMHVEDEncoding:
        """Return the encoding."""
        features, *moments = stacked(outputs)
        return XLSTMHVEDEncoding(present, [Gaussians(each) for each in moments], images, features)

    def _encode_level(self, depth: int, features: Tensor, present: Tensor) -> tuple[Tensor, Gaussians]:
        level = self.levels[depth]
        assert isinstance(level, nn.ModuleDict)
        features, moments = encode_each(level, features, present)
        return features, Gaussians(moments)

    def fuse(self, encoding: XLSTMHVEDEncoding, available: Tensor) -> Fused:
        """Run the rest of the encoders and fuse the modalities in `available`, (B, M) bool."""
        fused = Fused(list(encoding.gaussians), [], [])
        guides = self._guides(encoding, available) if self.guide else fused.pyramid
        features = encoding.features
        for depth, expansion in enumerate(self.expansions):
            if depth == len(fused.gaussians):
                attention = self.attention[depth - 1](guides[depth - 1])
                features, level = self._encode_level(depth, features * (1 + attention[:, None]), available)
                fused.gaussians.append(level)
            posterior = fused.gaussians[depth].product_of_experts(available)
            fused.posteriors.append(posterior)
            fused.pyramid.append(expansion(self.latent(posterior)))
        if self.vil:
            h = fused.pyramid[-1]
            v = self.vil(h + guides[-1] if self.guide else h)
            fused.pyramid[-1] = h + v if self.vil_gate == "residual" else h + h * v.softmax(1)
        return fused

    def _guides(self, encoding: XLSTMHVEDEncoding, available: Tensor) -> list[Tensor]:
        used = encoding.present if self.training and self.reference_leak else available
        assert self.guide is not None
        guides: list[Tensor] = self.guide(encoding.images.masked_fill(~used[..., None, None, None], 0))
        return guides

    def _decode(self, encoding: XLSTMHVEDEncoding, available: Tensor, reconstruct: bool) -> HVEDPrediction:
        fused = self.fuse(encoding, available)
        if isinstance(self.segmentation_decoder, CoupledDecoder):
            logits, images = self.segmentation_decoder(fused.pyramid, self.image_decoders, reconstruct)
        else:
            logits = self.segmentation_decoder(fused.pyramid)
            images = self._images(fused) if reconstruct else []
        reconstruction = torch.cat(images, dim=1) if images else None
        return HVEDPrediction(logits, self.output_kind, reconstruction, fused.posteriors)

    def reconstruct(self, encoding: XLSTMHVEDEncoding, available: Tensor) -> tuple[Tensor, list[Posterior]]:
        """Return all images, (B, M, X, Y, Z), and the posteriors that they were drawn from; see `HVED.reconstruct`."""
        fused = self.fuse(encoding, available)
        return torch.cat(self._images(fused), dim=1), fused.posteriors

    def _images(self, fused: Fused) -> list[Tensor]:
        return [decoder(fused.pyramid) for decoder in self.image_decoders.values()]

    def _clear_biases_of_logits(self) -> None:
        """Set the biases of the last convolutions of the segmentation, which add up in the logits, to 0.

        With biases from N(0, 1) in two linear convolutions in a row, the mean logit of a region may begin at 5, where
        the sigmoid has next to no gradient: the region is then predicted everywhere for hundreds of steps.
        """
        for name, parameter in self.segmentation_decoder.named_parameters():
            if name.startswith(("maps.", "out.")) and name.endswith(".bias"):
                nn.init.zeros_(parameter)

    def _initialise_as_reference(self) -> None:
        """Draw linear layers and batch norms too, with the gates and projections of the Vision-LSTM among them."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.normal_(module.bias)
            elif isinstance(module, nn.BatchNorm3d):
                nn.init.normal_(module.weight, 1, NORM_GAIN_STD)
