"""ShaSpec: shared and specific features for missing modalities. Wang et al., CVPR 2023.

All modalities share one encoder, and each has an encoder of the same form for itself. At the bottleneck a convolution
corrects a modality's shared features by its specific ones; a missing modality gets the shared features of an available
one. The decoder receives the fused bottlenecks of all modalities and the shared encoder's skips, for missing modalities
those of an empty image. Source: sheet shaspec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from anymri.layers.instance_norm import InstanceNorm
from anymri.layers.streams import Outputs, stacked, subset_sum, surely_all
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.contract import Encoding, Prediction
from anymri.systems.crops import Sides
from anymri.systems.shaspec.blocks import Conv, kept_kernels
from anymri.systems.shaspec.decoder import Decoder
from anymri.systems.shaspec.encoder import COARSEST, NECK, STEM_STRIDE, Encoder
from anymri.systems.streams import StreamSystem

BIAS_STD = 0.1
# The features of the first of these that is available replace those of missing modalities.
SUBSTITUTES = ("FLAIR", "T1", "T1c", "T2")


@dataclass
class Blank:
    """Features of an empty image from the shared encoder, with fields as in `ShaSpecEncoding` and B = 1."""

    skips: list[Tensor]
    shared: Tensor


@dataclass
class ShaSpecEncoding(Encoding):
    """Encoding of ShaSpec.

    skips      what each modality adds to the decoder at four levels, finest first: (B, M, C, X, Y, Z)
    shared     its shared features at the bottleneck, (B, M, C, X, Y, Z)
    fused      its shared features, corrected by its specific ones, (B, M, C, X, Y, Z)
    summaries  the mean of its specific features over the volume, (B, M, C)
    size       X, Y, Z of the images, in voxels
    blank      features of an empty image, which replace those of missing modalities; None until they are needed
    """

    skips: list[Tensor]
    shared: Tensor
    fused: Tensor
    summaries: Tensor
    size: torch.Size
    blank: Blank | None = None


class ShaSpec(StreamSystem[ShaSpecEncoding]):
    """Network of ShaSpec: a shared encoder, an encoder per modality, and a decoder of all modalities.

    width       channels of the encoders' stem, an even number (published: 64)
    substitute  features that replace those of missing modalities at the bottleneck: the `first` available modality's
                shared features, as in the authors' code (in training, of one drawn at random), or the `mean` of all
                available ones
    init        initialisation of the norms' biases: `anymri`, at random around zero, or `reference`, zero. With zero
                biases the features of an empty image are zero, each norm multiplies their gradients by up to 300, and
                these overflow: the authors always begin with all modalities
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
        # Draws, in training, the modality (B,) of those available (B, M) that replaces the missing ones; parity tests
        # replace it with the fixture's choice.
        self.draw_substitute: Callable[[Tensor], Tensor] = lambda flags: torch.multinomial(flags.float(), 1)[:, 0]
        self._blanks: dict[torch.Size, Blank] | None = None
        for initialised in (self.shared, self.specific, self.decoder):
            for module in initialised.modules():
                if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out")
                elif isinstance(module, InstanceNorm) and init == "anymri":
                    nn.init.normal_(module.bias, std=BIAS_STD)

    @property
    def divergence_advice(self) -> str | None:
        """Advice to change the initialisation, where it is the authors'."""
        if self.init == "reference":
            return "Use anymri's initialisation instead of the authors' (--set network.init=anymri)"
        return None

    def crop_rule(self) -> str:
        """Return the rule that crops must fulfil, in words."""
        return f"sides must be multiples of {self.divisor}, along z of {COARSEST}"

    def usable_crop(self, sides: Sides) -> Sides:
        """Return the sides of the crop nearest to `sides`, in voxels, that the network can take."""
        x, y, z = sides
        return self._usable_side(x), self._usable_side(y), COARSEST * max(1, round(z / COARSEST))

    @contextmanager
    def folded_weights(self) -> Iterator[None]:
        """Context in which kernels are standardised once, and an empty image is encoded once per size."""
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
        with kept_kernels(self):
            return super()._encode(images, present)

    def gather(self, images: Tensor, present: Tensor, outputs: Outputs) -> ShaSpecEncoding:
        """Return the encoding."""
        *skips, shared, fused, summaries = stacked(outputs)
        return ShaSpecEncoding(present, skips, shared, fused, summaries, images.shape[2:])

    def encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        """Return what one modality adds to the decoder, its shared features, corrected ones, and its summary."""
        *skips, shared = self._encode_shared(image)
        specific = cast("Encoder", self.specific[self.modalities[number]])
        reduced = specific(image)[-1]
        correction = self.composition(torch.cat([shared, specific.context(reduced)], dim=1))
        return [*self.decoder.contributions(number, skips), shared, shared + correction, reduced.mean((2, 3, 4))]

    def _encode_shared(self, image: Tensor) -> list[Tensor]:
        """Return the skips of the shared encoder, finest first, and its features at the bottleneck."""
        *skips, reduced = self.shared(image)
        return [*skips, self.shared.context(reduced)]

    def _decode(self, encoding: ShaSpecEncoding, available: Tensor, reconstruct: bool) -> Prediction:
        blank = None if surely_all(available) else self._blank(encoding)
        joined = [
            _joined(skips, blank.skips[level] if blank else None, available)
            for level, skips in enumerate(encoding.skips)
        ]
        substitute = self._substitute(encoding.shared, available)[:, None]
        fused = torch.where(_over_volume(available), encoding.fused, substitute).flatten(1, 2)
        return Prediction(self.decoder(fused, joined), self.output_kind)

    def _substitute(self, shared: Tensor, available: Tensor) -> Tensor:
        """Return the features that replace those of missing modalities at the bottleneck, (B, C, X, Y, Z)."""
        if self.substitute == "mean":
            flags = available.to(shared.dtype)
            return _weighted(shared, flags / flags.sum(1, keepdim=True))
        if self.training:
            chosen = self.draw_substitute(available)
        else:
            order = [self.modalities.index(m) for m in SUBSTITUTES if m in self.modalities]
            chosen = available.new_tensor(order, dtype=torch.long)[available[:, order].int().argmax(1)]
        return shared[torch.arange(len(shared), device=shared.device), chosen]

    def shared_features(self, encoding: ShaSpecEncoding, available: Tensor) -> Tensor:
        """Return the shared features at the bottleneck, (B, M, C, X, Y, Z); those of an empty image where missing."""
        if available.all():
            return encoding.shared
        return torch.where(_over_volume(available), encoding.shared, self._blank(encoding).shared)

    def domain_logits(self, encoding: ShaSpecEncoding, available: Tensor) -> Tensor:
        """Return logits of the modality that specific features belong to, (B, M, M); missing ones as empty images."""
        summaries = encoding.summaries
        if not available.all():
            image = self._empty_image(encoding)
            blank = torch.zeros_like(summaries[:1])
            for number, name in enumerate(self.modalities):
                if not available[:, number].all():
                    blank[:, number] = self.specific[name](image)[-1].mean((2, 3, 4))
            summaries = torch.where(available[..., None], summaries, blank)
        logits: Tensor = self.domain_classifier(summaries)
        return logits

    def _blank(self, encoding: ShaSpecEncoding) -> Blank:
        """Return the features of an empty image, computed once per encoding, or once per size with folded weights."""
        if encoding.blank is None:
            blanks = {} if self._blanks is None else self._blanks
            if encoding.size not in blanks:
                with kept_kernels(self):
                    blanks[encoding.size] = self._encode_blank(self._empty_image(encoding))
            encoding.blank = blanks[encoding.size]
        return encoding.blank

    def _encode_blank(self, image: Tensor) -> Blank:
        *skips, shared = self._encode_shared(image)
        contributions = [self.decoder.contributions(number, skips) for number in range(len(self.modalities))]
        return Blank([torch.stack(level, dim=1) for level in zip(*contributions, strict=True)], shared[:, None])

    def _empty_image(self, encoding: ShaSpecEncoding) -> Tensor:
        # As published; images have background 0.
        return encoding.shared.new_zeros(1, 1, *encoding.size)


def _joined(skips: Tensor, blank: Tensor | None, available: Tensor) -> Tensor:
    """Return the sum of the skips over modalities, (B, C, X, Y, Z), with the blank for missing ones."""
    joined = subset_sum(skips, available)
    if blank is None:
        return joined
    return joined + subset_sum(blank.expand(len(skips), -1, -1, -1, -1, -1), ~available)


def _weighted(maps: Tensor, weights: Tensor) -> Tensor:
    """Return the sum over modalities of (B, M, C, X, Y, Z), weighted by (B, M)."""
    return torch.einsum("bm,bmcxyz->bcxyz", weights.to(maps.dtype), maps)


def _over_volume(flags: Tensor) -> Tensor:
    """Return flags (B, M) as (B, M, 1, 1, 1, 1)."""
    return flags[..., None, None, None, None]
