"""IM-Fuse: mmFormer with fusion of the modalities by Mamba blocks. MICCAI 2025.

Encoders, transformers and decoders are those of mmFormer. On each skip and before the second transformer, learnt fused
tokens, one per voxel, read the tokens of all modalities in one sequence (`anymri.layers.mamba.MambaFusion`); only the
fused tokens are passed on. A missing modality stays in the sequence with tokens of zero. Source: sheet im_fuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from anymri.layers.containers import ModuleDict
from anymri.layers.convolution import Conv3d
from anymri.layers.mamba import FusedTokens, MambaFusion
from anymri.layers.preactivation import STRIDE, Decoder, level_widths
from anymri.layers.streams import Outputs, stacked
from anymri.layers.tokens import Transformer
from anymri.modalities import MODALITIES
from anymri.systems.crops import Crop, as_sides
from anymri.systems.families.tokens.blocks import (
    Fusion,
    as_volume,
    fuse_skips,
    positions,
)
from anymri.systems.families.tokens.objective import TokenEncoding, TokenPrediction
from anymri.systems.families.tokens.system import TokenSystem

# Leaky ReLU that the initialisation assumes, as in the reference; the network's activations have another slope.
NEGATIVE_SLOPE = 0.01


@dataclass
class IMFuseEncoding(TokenEncoding):
    """Encoding of all modalities, shared by all subsets; axis M is in the order of the sequence.

    skips   per level, finest first, what each modality gives to the fusion: (B, M, D, V) projected tokens for a Mamba
            block, or (B, M, C, X, Y, Z) contributions to a convolution
    tokens  (B, M, D, N) projected tokens of the coarsest level
    fused   the fused tokens of all levels with a Mamba block, finest first
    """

    skips: list[Tensor]
    tokens: Tensor
    fused: list[FusedTokens]


class IMFuse(TokenSystem[IMFuseEncoding]):
    """IM-Fuse: one encoder and transformer per modality, Mamba blocks that fuse them, a transformer and a decoder.

    Arguments beside those of `TokenSystem`:

    interleaved  order of the sequences, see `MambaFusion`
    mamba_skip   whether skips are fused by Mamba blocks; if false, by a convolution, as in mmFormer
    first_skip   whether there is a skip at full resolution
    """

    graph_obstacle = "its scan is a loop over the tokens, which a graph would hold step by step"

    def __init__(
        self,
        width: int = 8,
        token_width: int = 512,
        mlp_width: int = 4096,
        heads: int = 8,
        crop: Crop = (128, 128, 128),
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        interleaved: bool = True,
        mamba_skip: bool = True,
        first_skip: bool = True,
        dropout: float = 0.1,
    ) -> None:
        sides = as_sides(crop)
        super().__init__(width, token_width, mlp_width, heads, sides, dropout, num_classes, modalities)
        count, (*widths, coarsest) = len(self.modalities), level_widths(width)
        self.skip_levels = range(0 if first_skip else 1, len(widths))
        voxels = [prod(side // 2**level for side in sides) for level in range(len(widths))]
        self.skip_readers = ModuleDict(
            {str(i): MambaFusion(widths[i], voxels[i], interleaved) for i in self.skip_levels if mamba_skip}
        )
        self.position = positions(sides, token_width)
        self.token_reader = MambaFusion(token_width, prod(sides) // STRIDE**3, interleaved)
        self.transformer = Transformer(token_width, mlp_width, heads, dropout)
        self.widen = Conv3d(token_width, count * coarsest, 1)
        joined = 1 if mamba_skip else count
        self.fusions = ModuleDict({str(i): Fusion(joined * widths[i], widths[i]) for i in self.skip_levels})
        self.fusions[str(len(widths))] = Fusion(count * coarsest, coarsest)
        self.decoder = Decoder(width, num_classes, first_skip, has_heads=True)
        self.shared_decoder = Decoder(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def gather(self, images: Tensor, present: Tensor, outputs: Outputs) -> IMFuseEncoding:
        """Return the encoding."""
        tokens, *skips = stacked([outputs[number] for number in self.sequence])
        alone = skips.pop()[:, [self.sequence.index(n) for n in range(len(self.modalities))]] if self.training else None
        fused = [reader.fused() for reader in [*self.skip_readers.values(), self.token_reader]]
        return IMFuseEncoding(present, alone, skips, tokens, fused)

    def encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        """Return tokens and skips of one modality, (B, 1, X, Y, Z), and in training its logits alone."""
        *scales, tokens = self.streams[self.modalities[number]](image)
        skips = []
        for level in self.skip_levels:
            if self.skip_readers:
                skips.append(self.skip_readers[str(level)].project(scales[level].flatten(2)))
            else:
                skips.append(self.fusions[str(level)].contribution(scales[level], number))
        alone = [self.shared_decoder(scales)] if self.training else []
        return [self.token_reader.project(tokens.mT), *skips, *alone]

    def _decode(self, encoding: IMFuseEncoding, available: Tensor, reconstruct: bool) -> TokenPrediction:
        available = available[:, self.sequence]
        *fused_skips, fused_tokens = encoding.fused
        *skip_fusions, last_fusion = self.fusions.values()
        if self.skip_readers:
            read = zip(self.skip_readers.values(), encoding.skips, fused_skips, strict=True)
            maps = [as_volume(reader(skip, fused, available).mT, self.crop) for reader, skip, fused in read]
            pyramid = [fusion(features) for fusion, features in zip(skip_fusions, maps, strict=True)]
        else:
            pyramid = fuse_skips(skip_fusions, encoding.skips, available)
        tokens = self.token_reader(encoding.tokens, fused_tokens, available).mT
        mixed = self.transformer(tokens + self.position)
        pyramid.append(last_fusion(self.widen(as_volume(mixed, self.crop))))
        logits, *deep_supervision = self.decoder.all_logits(pyramid) if self.training else [self.decoder(pyramid)]
        return TokenPrediction(logits, self.output_kind, deep_supervision=deep_supervision)
