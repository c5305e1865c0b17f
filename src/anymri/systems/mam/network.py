"""MaM, "Missing as Masking" (M3FeCon): features of missing modalities reconstructed like masked patches. MICCAI 2024.

Each modality has a small encoder. At the coarsest level learnt tokens replace missing modalities, a transformer over
the tokens of all modalities reconstructs their features, and a U-Net decoder segments. Source: sheet mam.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from anymri.errors import ConfigurationError
from anymri.layers.containers import outputs_of_levels
from anymri.layers.convolution import Conv3d, ConvTranspose3d, conv3d
from anymri.layers.instance_norm import InstanceNorm
from anymri.layers.streams import Outputs, encode_existing, surely_all, surely_none
from anymri.layers.tokens import Transformer
from anymri.layers.upsampled_convolution import upsampled_conv3d
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.contract import Encoding, Prediction
from anymri.systems.crops import Crop, as_sides, in_words, plain
from anymri.systems.streams import StreamSystem

LEVELS = 6
NEGATIVE_SLOPE = 0.01


class Block(nn.Module):
    """Block of a 3x3x3 convolution, instance norm and leaky ReLU: (B, in, X, Y, Z) to (B, out, X', Y', Z')."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = Conv3d(in_channels, out_channels, 3, stride, padding=1)
        self.norm = InstanceNorm(out_channels, slope=NEGATIVE_SLOPE)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features after the block."""
        output: Tensor = self.norm(self.conv(features))
        return output


class Encoder(nn.Module):
    """Encoder of one modality: (B, 1, X, Y, Z) to features at all levels, finest first."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(Block(source, target, stride=1 if depth == 0 else 2), Block(target, target))
            for depth, (source, target) in enumerate(zip([1, *widths], widths, strict=False))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features of images (B, 1, X, Y, Z) at all levels, finest first."""
        return outputs_of_levels(self.levels, image)


class DecoderLevel(nn.Module):
    """Level of the decoder: upsamples features and joins them with the skips of all modalities.

    The first convolution is linear, so that what a skip adds to it does not depend on the others: `contribution`. A
    missing one, zeros as published, adds nothing.

    channels  of the output, as many as those of all skips together
    """

    def __init__(self, below_channels: int, channels: int) -> None:
        super().__init__()
        self.up = ConvTranspose3d(below_channels, channels, 2)
        self.join = Block(2 * channels, channels)
        self.out = Block(channels, channels)

    def contribution(self, skip: Tensor, number: int) -> Tensor:
        """Return what the skip of the `number`-th modality adds to the first convolution, (B, C, X, Y, Z)."""
        channels = skip.shape[1]
        start = self.up.out_channels + number * channels
        return conv3d(skip, self.join.conv.weight[:, start : start + channels], padding=(1, 1, 1))

    def forward(self, below: Tensor, contributions: Sequence[Tensor]) -> Tensor:
        """Return the features of this level, (B, C, X, Y, Z).

        below          (B, in, X/2, Y/2, Z/2)
        contributions  those of the available modalities, (B, C, X, Y, Z) each
        """
        conv = self.join.conv
        features = upsampled_conv3d(below, self.up, conv.weight[:, : self.up.out_channels], conv.bias)
        for contribution in contributions:
            features += contribution
        decoded: Tensor = self.out(self.join.norm(features))
        return decoded


@dataclass
class MAMEncoding(Encoding):
    """Encoding of MaM.

    streams  for each modality: what it adds to each level of the decoder, finest first, and last its features of the
             coarsest level, (B, C, x, y, z) each; zero in samples without it, None if all samples lack it
    """

    streams: Outputs


@dataclass(kw_only=True)
class MAMPrediction(Prediction):
    """Prediction with the outputs that the training losses need beside the logits.

    deep_supervision  in training, logits of the next three levels, each at the resolution of its level
    coarsest          features of the coarsest level, (B, M, C, x, y, z), reconstructed where a modality is missing
    """

    deep_supervision: Sequence[Tensor]
    coarsest: Tensor


class MAM(StreamSystem[MAMEncoding]):
    """Network of MaM: an encoder per modality, a transformer that reconstructs missing features, a U-Net decoder.

    width           channels of a modality at full resolution (published: 8); the decoder has as many per modality
    max_width       limit of the channels of a modality, which double at each halving (published: 128)
    num_classes     classes, background included; there is one logit fewer, for the regions WT, TC, ET and perhaps RC
    crop            sides of the only crop that fits, in voxels, because tokens and positions have weights per position
    mlp_width       channels inside the transformer's MLP (published: 256)
    heads           attention heads of the transformer (published: 4)
    reconstruction  whether missing features are reconstructed; otherwise they are zeros and any crop fits (ablation)
    """

    output_kind: ClassVar[OutputKind] = "regions"
    divisor = 2 ** (LEVELS - 1)
    minimum_side = divisor

    def __init__(
        self,
        width: int = 8,
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        max_width: int = 128,
        crop: Crop = (128, 128, 128),
        mlp_width: int = 256,
        heads: int = 4,
        reconstruction: bool = True,
    ) -> None:
        super().__init__(num_classes, modalities)
        sides = as_sides(crop)
        if sides != self.usable_crop(sides):
            raise ConfigurationError(
                f"The network cannot be built for {in_words(sides)}: it halves the crop {LEVELS - 1} times.",
                f"Choose multiples of {self.divisor}, such as {plain(self.usable_crop(sides))}.",
            )
        self.crop = sides if reconstruction else None
        count = len(self.modalities)
        widths = [min(width * 2**depth, max_width) for depth in range(LEVELS)]
        coarsest, channels = [side // self.divisor for side in sides], widths[-1]
        self.encoders = nn.ModuleDict({name: Encoder(widths) for name in self.modalities})
        self.decoder = nn.ModuleList(
            DecoderLevel(count * below, count * here) for below, here in zip(widths[1:], widths, strict=False)
        )
        # Finest first. The published head of the coarsest level has weight 0 in the loss, so that it is not trained.
        self.heads = nn.ModuleList(Conv3d(count * each, self.out_channels, 1) for each in widths[: LEVELS - 2])
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        self.transformer = None
        if reconstruction:
            self.tokens = nn.Parameter(torch.randn(count, channels, *coarsest))
            self.positions = nn.Parameter(torch.randn(1, count * prod(coarsest), channels))
            self.transformer = nn.Sequential(Transformer(channels, mlp_width, heads, 0.0), nn.LayerNorm(channels))

    def gather(self, images: Tensor, present: Tensor, outputs: Outputs) -> MAMEncoding:
        """Return the encoding."""
        return MAMEncoding(present, outputs)

    def encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        """Return what one modality, (B, 1, X, Y, Z), adds to the decoder, and its features of the coarsest level."""
        *skips, coarsest = self.encoders[self.modalities[number]](image)
        levels = cast("Iterable[DecoderLevel]", self.decoder)
        return [*(level.contribution(skip, number) for level, skip in zip(levels, skips, strict=True)), coarsest]

    @torch.no_grad()
    def targets(self, images: Tensor, exists: Tensor) -> Tensor:
        """Return the targets of reconstruction: features of the coarsest level, (B, M, C, x, y, z).

        images  (B, M, X, Y, Z)
        exists  (B, M) bool: modalities to encode; the features of the others are zero
        """
        return _coarsest(encode_existing(self.encoders, images, exists))

    def _decode(self, encoding: MAMEncoding, available: Tensor, reconstruct: bool) -> MAMPrediction:
        coarsest = self._reconstructed(_coarsest(encoding.streams), available)
        decoded = [coarsest.flatten(1, 2)]
        for depth in reversed(range(len(self.decoder))):
            contributions = _available_contributions(encoding.streams, available, depth)
            decoded.insert(0, self.decoder[depth](decoded[0], contributions))
        heads = self.heads if self.training else self.heads[:1]
        logits, *deep_supervision = (head(level) for head, level in zip(heads, decoded, strict=False))
        return MAMPrediction(logits, self.output_kind, deep_supervision=deep_supervision, coarsest=coarsest)

    def _reconstructed(self, coarsest: Tensor, available: Tensor) -> Tensor:
        """Return the features of the coarsest level, (B, M, C, x, y, z), with those of missing modalities filled in."""
        if surely_all(available):
            return coarsest
        flags = available[..., None, None, None, None]
        if self.transformer is None:
            return coarsest.masked_fill(~flags, 0)
        tokens = torch.where(flags, coarsest, self.tokens)
        # The sequence has the voxels of one modality after those of the other.
        sequence = tokens.flatten(3).transpose(2, 3).flatten(1, 2) + self.positions
        output = self.transformer(sequence).unflatten(1, (len(self.modalities), -1))
        return torch.where(flags, coarsest, output.transpose(2, 3).reshape(tokens.shape))


def _coarsest(streams: Sequence[list[Tensor] | None]) -> Tensor:
    """Return the last scale of all modalities, (B, M, C, x, y, z); zero where one is missing."""
    blank = next(torch.zeros_like(scales[-1]) for scales in streams if scales is not None)
    return torch.stack([blank if scales is None else scales[-1] for scales in streams], dim=1)


def _available_contributions(streams: Sequence[list[Tensor] | None], available: Tensor, depth: int) -> list[Tensor]:
    """Return what the modalities of a subset, (B, M) bool, add to a level of the decoder."""
    contributions = []
    for stream, flags in zip(streams, available.unbind(1), strict=True):
        if stream is not None and not surely_none(flags):
            contribution = stream[depth]
            contributions.append(contribution if surely_all(flags) else contribution * flags[:, None, None, None, None])
    return contributions
