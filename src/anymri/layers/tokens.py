"""Tokens of mmFormer and IM-Fuse: the coarsest features of a modality, and the transformer that mixes them.

A token is a voxel of the coarsest level, last axis fastest. Source: sheet mmformer, Token path.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from anymri.errors import ConfigurationError
from anymri.layers.preactivation import LEVELS, STRIDE, Encoder, level_widths


class Attention(nn.Module):
    """Self-attention of (B, N, T), queries, keys and values from one projection, with or without bias."""

    def __init__(self, width: int, heads: int, dropout: float, bias: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise ConfigurationError(
                f"Tokens of {width} channels cannot be shared out to {heads} heads.",
                "Choose a number of heads that divides the channels of a token.",
            )
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        answer = scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.out(answer.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """One layer, norms before, none behind: (B, N, T) to the same shape. Positions are for the caller to add."""

    def __init__(self, width: int, mlp_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        # The reference drops what attention answers twice in a row, which is once at a higher rate.
        twice = 1 - (1 - dropout) ** 2
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads, dropout), nn.Dropout(twice))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, mlp_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_width, width),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(tokens)
        return tokens + self.mlp(tokens)  # type: ignore[no-any-return]


def positions(crop: int, width: int) -> nn.Parameter:
    """A learnt position of each token of a cube of `crop` voxels a side, (1, N, T), zero at the start."""
    side = crop // STRIDE
    if crop != max(side, 2) * STRIDE:
        nearest = max(2, round(crop / STRIDE)) * STRIDE
        raise ConfigurationError(
            f"The network cannot be built for a crop of {crop} voxels: it halves the crop {LEVELS - 1} times and needs "
            f"2 voxels or more at last.",
            f"Choose a multiple of {STRIDE}, such as {nearest}.",
        )
    return nn.Parameter(torch.zeros(1, side**3, width))


class TokenStream(nn.Module):
    """One modality, (B, 1, X, Y, Z), to its features at all levels, finest first, and behind them its tokens (B, N, T).

    Positions fix the crop.
    """

    def __init__(self, width: int, token_width: int, mlp_width: int, heads: int, crop: int, dropout: float) -> None:
        super().__init__()
        self.encoder = Encoder(width)
        self.embed = nn.Conv3d(level_widths(width)[-1], token_width, 1)
        self.position = positions(crop, token_width)
        self.transformer = Transformer(token_width, mlp_width, heads, dropout)

    def forward(self, image: Tensor) -> list[Tensor]:
        scales = self.encoder(image)
        tokens = self.embed(scales[-1]).flatten(2).mT
        return [*scales, self.transformer(tokens + self.position)]


def as_map(tokens: Tensor) -> Tensor:
    """Tokens of a cubic crop, (B, N, C), as (B, C, X, Y, Z)."""
    side = round(tokens.shape[1] ** (1 / 3))
    return tokens.mT.reshape(len(tokens), -1, side, side, side)
