"""mmFormer: multimodal medical transformer for incomplete data. Zhang et al., MICCAI 2022, arXiv 2206.02425.

One convolutional encoder and one transformer a modality; a second transformer over the tokens of all modalities, the
absent ones zero but for their positions; a U-Net decoder that fuses the modalities on each skip. In training a decoder
that the modalities share segments from each alone, and deep_supervision levels of the fusing one answer too.
Source: sheet mmformer, after the version in IM-Fuse's repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from anymri.layers.preactivation import STRIDE, Decoder, Fusion, level_widths
from anymri.layers.streams import encode_each
from anymri.layers.tokens import TokenStream, Transformer, as_map
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.contract import System
from anymri.systems.families.tokens.objective import TokenEncoding, TokenPrediction

# Read as published (see `aligned_tokens`), each modality's tokens land in a region of their own: weights cannot make up
# for another sequence, so this one is part of the network.
SEQUENCE = ("FLAIR", "T1c", "T1", "T2")


@dataclass
class MMFormerEncoding(TokenEncoding):
    """parts  what each modality adds to the fusion at four levels, finest first: (B, M, C, X, Y, Z)
    tokens  (B, M, N, T) of each modality behind its own transformer
    """

    parts: list[Tensor]
    tokens: Tensor


class MMFormer(System[MMFormerEncoding]):
    """width           channels of the first encoder level (published: 8)
    token_width      channels of a token (512), a multiple of heads
    mlp_width        of the transformers' hidden layers (4096)
    heads            of the transformers' attention (8)
    crop             side of the cube that the network takes, a multiple of 16: it learns a position for each token
    aligned_tokens   false: the tokens behind the second transformer are read as published, so that a voxel gets four
                     neighbouring tokens of one modality, and each modality's come to lie in one slab of the crop; true:
                     a voxel gets all modalities' tokens of its own position, as was meant
    dropout          in the transformers, in training
    """

    output_kind: ClassVar[OutputKind] = "classes"
    divisor = STRIDE
    # Reflecting padding and instance norm need more than one voxel at the coarsest level.
    minimum_side = 2 * STRIDE

    def __init__(
        self,
        width: int = 8,
        token_width: int = 512,
        mlp_width: int = 4096,
        heads: int = 8,
        crop: int = 128,
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        aligned_tokens: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(num_classes, modalities)
        self.crop = crop
        self.aligned_tokens = aligned_tokens
        self.sequence = [self.modalities.index(m) for m in SEQUENCE if m in self.modalities]
        count, widths = len(self.modalities), level_widths(width)
        self.streams = nn.ModuleDict(
            {name: TokenStream(width, token_width, mlp_width, heads, crop, dropout) for name in self.modalities}
        )
        self.transformer = Transformer(token_width, mlp_width, heads, dropout)
        self.widen = nn.Conv3d(count * token_width, count * widths[-1], 1)
        self.fusions = nn.ModuleList(Fusion(count * channels, channels) for channels in widths)
        self.decoder = Decoder(width, num_classes, has_heads=True)
        self.shared_decoder = Decoder(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)

    def _encode(self, images: Tensor, present: Tensor) -> MMFormerEncoding:
        streams = {name: partial(self._encode_one, number) for number, name in enumerate(self.modalities)}
        tokens, *parts = encode_each(streams, images, present)
        alone = parts.pop() if self.training else None
        return MMFormerEncoding(present, alone, parts, tokens)

    def _encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        """Tokens and parts of one modality, (B, 1, X, Y, Z), and in training its logits alone."""
        *scales, tokens = self.streams[self.modalities[number]](image)
        parts = [
            fusion.part(scale, number)  # type: ignore[operator]
            for fusion, scale in zip(self.fusions, scales[:-1], strict=False)
        ]
        return [tokens, *parts, *([self.shared_decoder(scales)] if self.training else [])]

    def _decode(self, encoding: MMFormerEncoding, available: Tensor, reconstruct: bool) -> TokenPrediction:
        joined = [
            fusion.join(parts, available)  # type: ignore[operator]
            for fusion, parts in zip(self.fusions, encoding.parts, strict=False)
        ]
        pyramid = [*joined, self.fusions[-1](self._bottleneck(encoding.tokens, available))]
        logits, *deep_supervision = self.decoder.all_scores(pyramid) if self.training else [self.decoder(pyramid)]
        return TokenPrediction(logits, self.output_kind, deep_supervision=deep_supervision)

    def _bottleneck(self, tokens: Tensor, available: Tensor) -> Tensor:
        """Tokens (B, M, N, T) to the coarsest features of the available modalities, (B, M * C, X, Y, Z)."""
        positions = torch.stack([self.streams[m].get_parameter("position") for m in self.modalities], dim=1)
        # As published, absent tokens are zero but take part with their positions.
        sequence = (tokens.masked_fill(~available[..., None, None], 0) + positions)[:, self.sequence]
        mixed = self.transformer(sequence.flatten(1, 2))
        if self.aligned_tokens:
            mixed = mixed.view_as(sequence).transpose(1, 2)
        return self.widen(as_map(mixed.reshape(len(tokens), tokens.shape[2], -1)))  # type: ignore[no-any-return]
