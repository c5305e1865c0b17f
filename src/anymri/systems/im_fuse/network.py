"""IM-Fuse: mmFormer whose modalities are fused by Mamba blocks. MICCAI 2025.

Encoders, transformers and decoders are mmFormer's. On each skip and before the second transformer, learnt fused
tokens, one a voxel, read the tokens of all modalities in one sequence; only they go on. An absent modality stays in the
sequence with tokens of zero. Source: sheet im_fuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from anymri.layers.mamba import FusedTokens, MambaFusion
from anymri.layers.preactivation import STRIDE, Decoder, Fusion, level_widths
from anymri.layers.streams import encode_each
from anymri.layers.tokens import TokenStream, Transformer, as_map, positions
from anymri.modalities import MODALITIES
from anymri.regions import OutputKind
from anymri.systems.contract import System
from anymri.systems.families.tokens.objective import TokenEncoding, TokenPrediction

# The order in which fused tokens read the modalities: weights cannot make up for another, so it is part of the network.
SEQUENCE = ("FLAIR", "T1c", "T1", "T2")
NEGATIVE_SLOPE = 0.01


@dataclass
class IMFuseEncoding(TokenEncoding):
    """Modalities in the order of the sequence.

    skips   levels, finest first: what each modality brings to its fusion, (B, M, D, V) into the sequence of a Mamba
            block, or (B, M, C, X, Y, Z) into a convolution
    tokens  (B, M, D, N) of each modality, for the sequence of the coarsest level
    fused   the fused tokens of all sequences, finest first
    """

    skips: list[Tensor]
    tokens: Tensor
    fused: list[FusedTokens]


class IMFuse(System[IMFuseEncoding]):
    """width        channels of the first encoder level (published: 8)
    token_width  channels of a token (512), a multiple of heads
    mlp_width    of the transformers' hidden layers (4096)
    heads        of the transformers' attention (8)
    crop         side of the cube that the network takes, a multiple of 16: it has a fused token for each of its voxels
    interleaved  all modalities' tokens of a voxel, then those of the next; or one modality after the other
    mamba_skip   skips are fused by Mamba blocks; or by a convolution of all modalities, as in mmFormer
    first_skip   whether there is a skip at full resolution
    dropout      in the transformers, in training
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
        interleaved: bool = True,
        mamba_skip: bool = True,
        first_skip: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(num_classes, modalities)
        self.crop = crop
        self.sequence = [self.modalities.index(m) for m in SEQUENCE if m in self.modalities]
        count, (*widths, coarsest) = len(self.modalities), level_widths(width)
        self.skip_levels = range(0 if first_skip else 1, len(widths))
        self.streams = nn.ModuleDict(
            {name: TokenStream(width, token_width, mlp_width, heads, crop, dropout) for name in self.modalities}
        )
        sides = [crop // 2**level for level in range(len(widths))]
        self.skip_readers = nn.ModuleDict(
            {str(i): MambaFusion(widths[i], sides[i] ** 3, interleaved) for i in self.skip_levels if mamba_skip}
        )
        self.token_reader = MambaFusion(token_width, (crop // STRIDE) ** 3, interleaved)
        self.position = positions(crop, token_width)
        self.transformer = Transformer(token_width, mlp_width, heads, dropout)
        self.widen = nn.Conv3d(token_width, count * coarsest, 1)
        joined = 1 if mamba_skip else count
        self.fusions = nn.ModuleDict({str(i): Fusion(joined * widths[i], widths[i]) for i in self.skip_levels})
        self.fusions[str(len(widths))] = Fusion(count * coarsest, coarsest)
        self.decoder = Decoder(width, num_classes, first_skip, has_heads=True)
        self.shared_decoder = Decoder(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _encode(self, images: Tensor, present: Tensor) -> IMFuseEncoding:
        names = [self.modalities[i] for i in self.sequence]
        streams = {name: partial(self._encode_one, name) for name in names}
        tokens, *skips = encode_each(streams, images[:, self.sequence], present[:, self.sequence])
        alone = skips.pop()[:, [names.index(name) for name in self.modalities]] if self.training else None
        readers = [*self.skip_readers.values(), self.token_reader]
        fused = [reader.fused() for reader in readers]  # type: ignore[operator]
        return IMFuseEncoding(present, alone, skips, tokens, fused)

    def _encode_one(self, name: str, image: Tensor) -> list[Tensor]:
        """Tokens and skips of one modality, (B, 1, X, Y, Z), for `IMFuseEncoding`, and in training its logits alone."""
        *scales, tokens = self.streams[name](image)
        skips = []
        for level in self.skip_levels:
            if self.skip_readers:
                skips.append(self.skip_readers[str(level)].enter(scales[level].flatten(2)))  # type: ignore[operator]
            else:
                number = self.modalities.index(name)
                skips.append(self.fusions[str(level)].part(scales[level], number))  # type: ignore[operator]
        return [self.token_reader.enter(tokens.mT), *skips, *([self.shared_decoder(scales)] if self.training else [])]

    def _decode(self, encoding: IMFuseEncoding, available: Tensor, reconstruct: bool) -> TokenPrediction:
        available = available[:, self.sequence]
        *fused_skips, fused_tokens = encoding.fused
        *skip_fusions, last_fusion = self.fusions.values()
        if self.skip_readers:
            read = zip(self.skip_readers.values(), encoding.skips, fused_skips, strict=True)
            maps = [as_map(reader(skip, fused, available).mT) for reader, skip, fused in read]
            pyramid = [fusion(features) for fusion, features in zip(skip_fusions, maps, strict=True)]
        else:
            pyramid = [
                fusion.join(parts, available)  # type: ignore[operator]
                for fusion, parts in zip(skip_fusions, encoding.skips, strict=True)
            ]
        tokens = self.token_reader(encoding.tokens, fused_tokens, available).mT
        mixed = self.transformer(tokens + self.position)
        pyramid.append(last_fusion(self.widen(as_map(mixed))))
        logits, *deep_supervision = self.decoder.all_scores(pyramid) if self.training else [self.decoder(pyramid)]
        return TokenPrediction(logits, self.output_kind, deep_supervision=deep_supervision)
