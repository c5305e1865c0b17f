"""MaM, "Missing as Masking" (M3FeCon): features of missing modalities reconstructed like masked patches. MICCAI 2024.

One small encoder a modality. At the coarsest level learnt tokens stand in for missing modalities, a transformer over
all of them replaces the stand-ins, and a U-Net decoder segments. Source: sheet mam.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv3d, leaky_relu

from anymri.errors import ConfigurationError
from anymri.layers.streams import encode_existing
from anymri.layers.tokens import Transformer
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.contract import Encoding, Prediction, System

LEVELS = 6
NEGATIVE_SLOPE = 0.01


class Norm(nn.InstanceNorm3d):
    """Instance norm with gains. A single voxel, of which torch's module makes an error, becomes the bias."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        on_gpu = torch.backends.cudnn.enabled
        return torch.instance_norm(features, self.weight, self.bias, None, None, True, 0.0, self.eps, on_gpu)


class Block(nn.Module):
    """3x3x3 convolution, norm, leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 3, stride, padding=1)
        self.norm = Norm(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        return self.activate(self.conv(features))

    def activate(self, features: Tensor) -> Tensor:
        """What follows the convolution."""
        return leaky_relu(self.norm(features), NEGATIVE_SLOPE, inplace=True)


class Encoder(nn.Module):
    """One modality, (B, 1, X, Y, Z), to its features at all levels, finest first."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(Block(source, target, stride=1 if depth == 0 else 2), Block(target, target))
            for depth, (source, target) in enumerate(zip([1, *widths], widths, strict=False))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        scales = [image]
        for level in self.levels:
            scales.append(level(scales[-1]))
        return scales[1:]


class DecoderLevel(nn.Module):
    """Features from below, upsampled, beside the skips of all modalities, to the features of this level.

    The first convolution is linear, so what each skip adds to it depends on no other: `part`. A missing one, zeros as
    published, adds nothing. channels: of the result, as many as those of all skips together.
    """

    def __init__(self, below_channels: int, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(below_channels, channels, 2, 2)
        self.join = Block(2 * channels, channels)
        self.out = Block(channels, channels)

    def part(self, skip: Tensor, number: int) -> Tensor:
        """What the skip of the `number`-th modality adds, (B, C, X, Y, Z)."""
        channels = skip.shape[1]
        start = self.up.out_channels + number * channels
        return conv3d(skip, self.join.conv.weight[:, start : start + channels], padding=1)

    def forward(self, below: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """`parts` are those of the modalities at hand."""
        conv = self.join.conv
        features = conv3d(self.up(below), conv.weight[:, : self.up.out_channels], conv.bias, padding=1)
        for part in parts:
            features += part
        return self.out(self.join.activate(features))  # type: ignore[no-any-return]


@dataclass
class MAMEncoding(Encoding):
    """streams  one a modality: what it adds to each level of the decoder, finest first, and last its features of the
    coarsest level, (B, C, x, y, z) each; zero in samples without it, None if no sample has it
    """

    streams: list[list[Tensor] | None]


@dataclass
class MAMPrediction(Prediction):
    """In training, what the losses need beside the logits.

    deep_supervision   logits of the next three levels, each at its own resolution
    coarsest  (B, M, C, x, y, z): features of the coarsest level, reconstructed where a modality is missing
    """

    deep_supervision: Sequence[Tensor] = ()
    coarsest: Tensor | None = None


class MAM(System[MAMEncoding]):
    """width          channels of a modality at full resolution (published: 8); twice as many at each half, up to
    max_width      (published: 128). The decoder has as many for each modality
    num_classes    classes, background included; the logits are one region fewer: WT, TC, ET and perhaps RC
    crop           side of the crops that it takes, voxels: tokens and positions belong to places in them
    mlp_width      of the transformer (published: 256), which has `heads` heads
    reconstruction  whether missing features are reconstructed; otherwise they are zeros, as in the ablation, which takes any
                   crop
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
        crop: int = 128,
        mlp_width: int = 256,
        heads: int = 4,
        reconstruction: bool = True,
    ) -> None:
        super().__init__(num_classes, modalities)
        if crop < self.divisor or crop % self.divisor:
            raise ConfigurationError(
                f"The network cannot be built for a crop of {crop} voxels: it halves the crop {LEVELS - 1} times.",
                f"Choose a multiple of {self.divisor}, such as {self.usable_side(crop)}.",
            )
        self.crop = crop if reconstruction else None
        count = len(self.modalities)
        widths = [min(width * 2**depth, max_width) for depth in range(LEVELS)]
        side, channels = crop // self.divisor, widths[-1]
        self.encoders = nn.ModuleDict({name: Encoder(widths) for name in self.modalities})
        self.decoder = nn.ModuleList(
            DecoderLevel(count * below, count * here) for below, here in zip(widths[1:], widths, strict=False)
        )
        # Finest first. The published head of the coarsest level has no weight in the loss and learns nothing.
        self.heads = nn.ModuleList(nn.Conv3d(count * each, self.out_channels, 1) for each in widths[: LEVELS - 2])
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        self.transformer = None
        if reconstruction:
            self.tokens = nn.Parameter(torch.randn(count, channels, side, side, side))
            self.positions = nn.Parameter(torch.randn(1, count * side**3, channels))
            self.transformer = nn.Sequential(Transformer(channels, mlp_width, heads, 0.0), nn.LayerNorm(channels))

    def _encode(self, images: Tensor, present: Tensor) -> MAMEncoding:
        streams = {name: partial(self._stream, number) for number, name in enumerate(self.modalities)}
        return MAMEncoding(present, encode_existing(streams, images, present))

    def _stream(self, number: int, image: Tensor) -> list[Tensor]:
        *skips, coarsest = self.encoders[self.modalities[number]](image)
        levels = cast("Iterable[DecoderLevel]", self.decoder)
        return [*(level.part(skip, number) for level, skip in zip(levels, skips, strict=True)), coarsest]

    @torch.no_grad()
    def targets(self, images: Tensor, exists: Tensor) -> Tensor:
        """Features of the coarsest level, (B, M, C, x, y, z), that reconstructing aims at; zero where `exists` is false."""
        return _coarsest(encode_existing(self.encoders, images, exists))

    def _decode(self, encoding: MAMEncoding, available: Tensor, reconstruct: bool) -> MAMPrediction:
        coarsest = self._reconstructed(_coarsest(encoding.streams), available)
        decoded = [coarsest.flatten(1, 2)]
        for depth in reversed(range(len(self.decoder))):
            parts = _available_parts(encoding.streams, available, depth)
            decoded.insert(0, self.decoder[depth](decoded[0], parts))
        heads = self.heads if self.training else self.heads[:1]
        logits, *deep_supervision = (head(level) for head, level in zip(heads, decoded, strict=False))
        return MAMPrediction(logits, self.output_kind, deep_supervision=deep_supervision, coarsest=coarsest)

    def _reconstructed(self, coarsest: Tensor, available: Tensor) -> Tensor:
        """Features of the coarsest level, (B, M, C, x, y, z), with those of missing modalities in place."""
        if available.all():
            return coarsest
        known = available[..., None, None, None, None]
        if self.transformer is None:
            return coarsest.masked_fill(~known, 0)
        tokens = torch.where(known, coarsest, self.tokens)
        # The sequence goes through the voxels of one modality after the other.
        sequence = tokens.flatten(3).transpose(2, 3).flatten(1, 2) + self.positions
        answer = self.transformer(sequence).unflatten(1, (len(self.modalities), -1))
        return torch.where(known, coarsest, answer.transpose(2, 3).reshape(tokens.shape))


def _coarsest(streams: Sequence[list[Tensor] | None]) -> Tensor:
    """The last scale of all modalities, (B, M, C, x, y, z); zero where one is absent."""
    blank = next(torch.zeros_like(scales[-1]) for scales in streams if scales is not None)
    return torch.stack([blank if scales is None else scales[-1] for scales in streams], dim=1)


def _available_parts(streams: Sequence[list[Tensor] | None], available: Tensor, depth: int) -> list[Tensor]:
    """What the modalities of a subset, (B, M) bool, add to a level of the decoder."""
    parts = []
    for stream, flags in zip(streams, available.unbind(1), strict=True):
        if stream is not None and flags.any():
            part = stream[depth]
            parts.append(part if flags.all() else part * flags[:, None, None, None, None])
    return parts
