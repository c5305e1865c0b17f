"""ShaSpec: shared and specific features for missing modalities. Wang et al., CVPR 2023.

One encoder that all modalities share, and one of the same form for each alone. At the bottleneck a convolution corrects
a modality's shared features by its specific ones; an absent modality gets the shared features of an available one.
The decoder sees the fused bottlenecks of all modalities and the shared encoder's skips, for absent modalities those of
an empty image. Source: sheet shaspec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anymri.layers.streams import encode_each
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.contract import Encoding, Prediction, System
from anymri.systems.shaspec.blocks import BasicBlock, Conv, Norm, Unit, kept_kernels
from anymri.systems.shaspec.encoder import COARSEST, NECK, SKIPS, STEM_STRIDE, Encoder

BIAS_STD = 0.1
# Whose features stand for absent modalities: the first of these that is available.
SUBSTITUTES = ("FLAIR", "T1", "T1c", "T2")


class DecoderLevel(nn.Module):
    """Features of half the resolution, brought to this level's and added to what the skips of all modalities give."""

    def __init__(self, in_channels: int, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose3d(in_channels, channels, 2, stride=2, bias=False)
        self.skip = Unit(skip_channels, channels, 1)
        self.block = BasicBlock(channels)

    def forward(self, below: Tensor, joined: Tensor) -> Tensor:
        """joined  the sum over modalities of what `skip.conv.part` gives for each"""
        return self.block(self.upsample(below).add_(self.skip.finish(joined)))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Fused bottlenecks of all modalities side by side and joined skips, finest first, to logits at full resolution."""

    def __init__(self, width: int, count: int, out_channels: int) -> None:
        super().__init__()
        channels = [width // 2, width, 2 * width, 4 * width]
        below = [*channels[1:], count * NECK * width]
        self.levels = nn.ModuleList(
            DecoderLevel(source, count * skip * width, target)
            for source, skip, target in zip(below, SKIPS, channels, strict=True)
        )
        self.out = nn.Conv3d(channels[0], out_channels, 1, bias=False)

    def forward(self, features: Tensor, joined: Sequence[Tensor]) -> Tensor:
        for level, skips in zip(reversed(self.levels), reversed(joined), strict=True):
            features = level(features, skips)
        scale = tuple(map(float, STEM_STRIDE))
        return interpolate(self.out(features), scale_factor=scale, mode="trilinear", align_corners=False)


@dataclass
class Blank:
    """What the shared encoder makes of an empty image: fields as in `ShaSpecEncoding`, with B = 1."""

    skips: list[Tensor]
    shared: Tensor


@dataclass
class ShaSpecEncoding(Encoding):
    """skips      what each modality adds to the decoder at four levels, finest first: (B, M, C, X, Y, Z)
    shared     its shared features at the bottleneck, (B, M, C, X, Y, Z)
    fused      the same, corrected by its specific features
    summaries  the mean of its specific features over the volume, (B, M, C)
    size       of the images, voxels
    blank      an empty image in place of any absent modality, once it was needed
    """

    skips: list[Tensor]
    shared: Tensor
    fused: Tensor
    summaries: Tensor
    size: torch.Size
    blank: Blank | None = None


class ShaSpec(System[ShaSpecEncoding]):
    """width       channels of the encoders' stem, an even number (published: 64)
    substitute  what stands for absent modalities at the bottleneck: the `first` available modality's shared features,
                as in the authors' code (in training, of one drawn at random), or the `mean` of all available ones
    init        of the norms' biases: `anymri`, at random around zero, or `reference`, zero. An empty image behind zero
                biases is zero everywhere, each norm multiplies its gradients by up to 300, and they overflow: the
                authors always begin with all modalities
    """

    output_kind: ClassVar[OutputKind] = "regions"
    divisor = COARSEST * max(STEM_STRIDE)

    def __init__(
        self,
        width: int = 64,
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        substitute: Literal["first", "mean"] = "first",
        init: Literal["anymri", "reference"] = "anymri",
    ) -> None:
        super().__init__(num_classes, modalities)
        self.substitute = substitute
        self.init = init
        count, neck = len(self.modalities), NECK * width
        self.shared = Encoder(width)
        self.specific = nn.ModuleDict({name: Encoder(width) for name in self.modalities})
        self.composition = Conv(2 * neck, neck, 3)
        self.decoder = Decoder(width, count, self.out_channels)
        self.domain_classifier = nn.Linear(neck, count)
        # How training chooses a modality (B,) of those available (B, M) to stand for the absent ones; a parity test
        # puts the fixture's choice here.
        self.draw_substitute: Callable[[Tensor], Tensor] = lambda flags: torch.multinomial(flags.float(), 1)[:, 0]
        self._blanks: dict[torch.Size, Blank] | None = None
        for part in (self.shared, self.specific, self.decoder):
            for module in part.modules():
                if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out")
                elif isinstance(module, Norm) and init == "anymri":
                    nn.init.normal_(module.bias, std=BIAS_STD)

    @property
    def divergence_advice(self) -> str | None:
        if self.init == "reference":
            return "Use anymri's initialisation instead of the authors' (--set network.init=anymri)"
        return None

    def crop_rule(self) -> str:
        return f"sides must be multiples of {self.divisor}, along z of {COARSEST}"

    def usable_crop(self, sides: tuple[int, ...]) -> tuple[int, ...]:
        x, y, z = sides
        return self.usable_side(x), self.usable_side(y), COARSEST * max(1, round(z / COARSEST))

    @contextmanager
    def folded_weights(self) -> Iterator[None]:
        with kept_kernels(self):
            outermost = self._blanks is None
            if outermost:
                self._blanks = {}
            try:
                yield
            finally:
                if outermost:
                    self._blanks = None

    def _encode(self, images: Tensor, present: Tensor) -> ShaSpecEncoding:
        streams = {name: partial(self._encode_one, number) for number, name in enumerate(self.modalities)}
        with kept_kernels(self):
            *skips, shared, fused, summaries = encode_each(streams, images, present)
        return ShaSpecEncoding(present, skips, shared, fused, summaries, images.shape[2:])

    def _encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        *skips, shared = self._encode_shared(image)
        specific = self.specific[self.modalities[number]]
        reduced = specific(image)[-1]
        correction = self.composition(torch.cat([shared, specific.context(reduced)], dim=1))  # type: ignore[operator]
        return [*self._skip_parts(number, skips), shared, shared + correction, reduced.mean((2, 3, 4))]

    def _encode_shared(self, image: Tensor) -> list[Tensor]:
        """Skips of the shared encoder, finest first, and its features at the bottleneck."""
        *skips, reduced = self.shared(image)
        return [*skips, self.shared.context(reduced)]

    def _skip_parts(self, number: int, skips: Sequence[Tensor]) -> list[Tensor]:
        """What skips of the `number`-th modality add to the levels of the decoder."""
        return [
            level.skip.conv.part(skip, number * skip.shape[1])  # type: ignore[union-attr, operator]
            for level, skip in zip(self.decoder.levels, skips, strict=True)
        ]

    def _decode(self, encoding: ShaSpecEncoding, available: Tensor, reconstruct: bool) -> Prediction:
        blank = None if available.all() else self._blank(encoding)
        joined = [
            _joined(skips, blank.skips[level] if blank else None, available)
            for level, skips in enumerate(encoding.skips)
        ]
        substitute = self._substitute(encoding.shared, available)[:, None]
        fused = torch.where(_over_volume(available), encoding.fused, substitute).flatten(1, 2)
        return Prediction(self.decoder(fused, joined), self.output_kind)

    def _substitute(self, shared: Tensor, available: Tensor) -> Tensor:
        """What stands for absent modalities at the bottleneck, (B, C, X, Y, Z)."""
        if self.substitute == "mean":
            flags = available.to(shared.dtype)
            return _weighted(shared, flags / flags.sum(1, keepdim=True))
        if self.training:
            chosen = self.draw_substitute(available)
        else:
            order = [self.modalities.index(m) for m in SUBSTITUTES if m in self.modalities]
            chosen = available.new_tensor(order, dtype=torch.long)[available[:, order].int().argmax(1)]
        return torch.stack([features[choice] for features, choice in zip(shared, chosen, strict=True)])

    def shared_features(self, encoding: ShaSpecEncoding, available: Tensor) -> Tensor:
        """Shared features at the bottleneck, (B, M, C, X, Y, Z), of an empty image for absent modalities."""
        if available.all():
            return encoding.shared
        return torch.where(_over_volume(available), encoding.shared, self._blank(encoding).shared)

    def domain_logits(self, encoding: ShaSpecEncoding, available: Tensor) -> Tensor:
        """Which modality the specific features of each seem to be of, (B, M, M); absent ones as an empty image."""
        summaries = encoding.summaries
        if not available.all():
            image = self._empty_image(encoding)
            blank = torch.zeros_like(summaries[:1])
            for number, name in enumerate(self.modalities):
                if not available[:, number].all():
                    blank[:, number] = self.specific[name](image)[-1].mean((2, 3, 4))
            summaries = torch.where(available[..., None], summaries, blank)
        return self.domain_classifier(summaries)  # type: ignore[no-any-return]

    def _blank(self, encoding: ShaSpecEncoding) -> Blank:
        """Found once an encoding, and where weights are fixed once for all encodings of a size."""
        if encoding.blank is None:
            known = {} if self._blanks is None else self._blanks
            if encoding.size not in known:
                with kept_kernels(self):
                    known[encoding.size] = self._encode_blank(self._empty_image(encoding))
            encoding.blank = known[encoding.size]
        return encoding.blank

    def _encode_blank(self, image: Tensor) -> Blank:
        *skips, shared = self._encode_shared(image)
        parts = [self._skip_parts(number, skips) for number in range(len(self.modalities))]
        return Blank([torch.stack(level, dim=1) for level in zip(*parts, strict=True)], shared[:, None])

    def _empty_image(self, encoding: ShaSpecEncoding) -> Tensor:
        # As published; images have background 0.
        return encoding.shared.new_zeros(1, 1, *encoding.size)


def _joined(skips: Tensor, blank: Tensor | None, available: Tensor) -> Tensor:
    """The sum over modalities, (B, C, X, Y, Z), with the blank for absent ones."""
    joined = _weighted(skips, available)
    if blank is None:
        return joined
    return joined + torch.einsum("bm,mcxyz->bcxyz", (~available).to(blank.dtype), blank[0])


def _weighted(maps: Tensor, weights: Tensor) -> Tensor:
    """Sum over modalities of (B, M, C, X, Y, Z), weighted by (B, M)."""
    return torch.einsum("bm,bmcxyz->bcxyz", weights.to(maps.dtype), maps)


def _over_volume(flags: Tensor) -> Tensor:
    """(B, M) as (B, M, 1, 1, 1, 1)."""
    return flags[..., None, None, None, None]
