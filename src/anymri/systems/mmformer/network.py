"""mmFormer: multimodal medical transformer for incomplete data. Zhang et al., MICCAI 2022, arXiv 2206.02425.

Each modality has a convolutional encoder and a transformer. `fusion.py` fuses the modalities: by a convolution on every
skip, and by a second transformer over the tokens of all modalities. A U-Net decoder segments the fused features. In
training, a decoder shared by the modalities also segments from each alone, and the coarser levels of the fusing decoder
are supervised too. Source: sheet mmformer, after the version in IM-Fuse's repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anymri.layers.containers import ModuleList
from anymri.layers.convolution import Conv3d
from anymri.layers.preactivation import Decoder, level_widths
from anymri.layers.streams import Outputs, stacked
from anymri.layers.tokens import Transformer
from anymri.modalities import MODALITIES
from anymri.systems.crops import Crop, as_sides
from anymri.systems.families.tokens.blocks import Fusion, fuse_skips
from anymri.systems.families.tokens.objective import TokenEncoding, TokenPrediction
from anymri.systems.families.tokens.system import TokenSystem
from anymri.systems.mmformer.fusion import fuse_tokens


@dataclass
class MMFormerEncoding(TokenEncoding):
    """Encoding of all modalities, shared by all subsets.

    contributions  what each modality adds to the fusions of the four finest levels, finest first: (B, M, C, X, Y, Z)
    tokens         (B, M, N, T) of each modality after its transformer
    """

    contributions: list[Tensor]
    tokens: Tensor


class MMFormer(TokenSystem[MMFormerEncoding]):
    """mmFormer: one encoder and transformer per modality, and a fusing transformer and decoder.

    Arguments beside those of `TokenSystem`:

    aligned_tokens  how voxels read the tokens after the second transformer, see `fuse_tokens`; false as published
    """

    def __init__(
        self,
        width: int = 8,
        token_width: int = 512,
        mlp_width: int = 4096,
        heads: int = 8,
        crop: Crop = (128, 128, 128),
        num_classes: int = 4,
        modalities: Sequence[str] = MODALITIES,
        aligned_tokens: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(width, token_width, mlp_width, heads, as_sides(crop), dropout, num_classes, modalities)
        self.aligned_tokens = aligned_tokens
        count, widths = len(self.modalities), level_widths(width)
        self.transformer = Transformer(token_width, mlp_width, heads, dropout)
        self.widen = Conv3d(count * token_width, count * widths[-1], 1)
        self.fusions = ModuleList(Fusion(count * channels, channels) for channels in widths)
        self.decoder = Decoder(width, num_classes, has_heads=True)
        self.shared_decoder = Decoder(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)

    def gather(self, images: Tensor, present: Tensor, outputs: Outputs) -> MMFormerEncoding:
        """Return the encoding."""
        tokens, *contributions = stacked(outputs)
        alone = contributions.pop() if self.training else None
        return MMFormerEncoding(present, alone, contributions, tokens)

    def encode_one(self, number: int, image: Tensor) -> list[Tensor]:
        """Return tokens and contributions of one modality, (B, 1, X, Y, Z), and in training its logits alone."""
        *scales, tokens = self.streams[self.modalities[number]](image)
        skips = zip(self.fusions, scales[:-1], strict=False)
        contributions = [fusion.contribution(scale, number) for fusion, scale in skips]
        return [tokens, *contributions, *([self.shared_decoder(scales)] if self.training else [])]

    def _decode(self, encoding: MMFormerEncoding, available: Tensor, reconstruct: bool) -> TokenPrediction:
        *skip_fusions, last_fusion = self.fusions
        skips = fuse_skips(skip_fusions, encoding.contributions, available)
        positions = torch.stack([self.streams[m].position for m in self.modalities], dim=1)
        tokens = fuse_tokens(
            encoding.tokens, positions, available, self.transformer, self.sequence, self.aligned_tokens, self.crop
        )
        pyramid = [*skips, last_fusion(self.widen(tokens))]
        logits, *deep_supervision = self.decoder.all_logits(pyramid) if self.training else [self.decoder(pyramid)]
        return TokenPrediction(logits, self.output_kind, deep_supervision=deep_supervision)
