"""SFusion block: fuses the features of any number of modalities without imputing missing ones.

A transformer processes the tokens of all available modalities; its output becomes logit maps at full resolution, and a
softmax over modalities turns them into the weights of the features. Source: sheet sfusion, SFusion block.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, linear

from anymri.layers.convolution import from_tokens, to_tokens
from anymri.layers.tokens import Attention


class TransformerLayer(nn.Module):
    """Post-norm transformer layer with ReLU: tokens (B, N, E) to the same shape."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout, bias=True)
        # The initialisation of torch's transformers.
        nn.init.xavier_uniform_(self.attention.qkv.weight)
        nn.init.zeros_(self.attention.qkv.bias)
        nn.init.zeros_(self.attention.out.bias)
        self.attention_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.mlp_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, used: Tensor | None = None) -> Tensor:
        """Return tokens (B, N, E) after attention and MLP; see `Attention`."""
        tokens = self.attention_norm(tokens + self.dropout(self.attention(tokens, used)))
        mixed: Tensor = self.mlp_norm(tokens + self.dropout(self.mlp(tokens)))
        return mixed


class SFusionBlock(nn.Module):
    """Fusion of features with `channels` channels on a cube of `side` voxels.

    grid     tokens along a side of the cube; `side` is a multiple of it
    count    maximum number of modalities
    heads    attention heads of the transformer
    layers   layers of the transformer
    dropout  rate in the transformer
    """

    positions: Tensor

    def __init__(
        self, channels: int, side: int, grid: int, count: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.grid = grid
        self.factor = side // grid
        self.register_buffer("positions", sinusoids(count * grid**3, channels), persistent=False)
        self.dropout = nn.Dropout(dropout)
        # As published, all layers have the same initial weights.
        layer = TransformerLayer(channels, heads, dropout)
        self.layers = nn.ModuleList(deepcopy(layer) for _ in range(layers))
        # Logits per channel and, within it, per voxel of the token's cube, last axis fastest.
        self.upsample = nn.Linear(channels, channels * self.factor**3, bias=False)

    def tokens(self, features: Tensor) -> Tensor:
        """Return features (B, E, V, V, V) of one modality as tokens (B, N, E), last axis fastest."""
        return avg_pool3d(features, self.factor).flatten(2).mT

    def forward(self, features: Sequence[Tensor], tokens: Sequence[Tensor], available: Tensor | None = None) -> Tensor:
        """Return the fused features of n modalities, (B, E, V, V, V); those of a single modality are returned as is.

        features   n tensors (B, E, V, V, V)
        tokens     their `tokens`; the positions of a modality follow those of the available modality before it
        available  (B, n) bool: the modalities to fuse, for graphs, which cannot choose them before; None for all
        """
        if len(features) == 1:
            return features[0]
        sequence = torch.cat(list(tokens), dim=1)
        positions, used = self.positions[: sequence.shape[1]], None
        if available is not None:
            place = (available.cumsum(1) - 1).clamp(min=0)
            positions = positions.view(len(features), -1, positions.shape[-1])[place].flatten(1, 2)
            used = available.repeat_interleave(tokens[0].shape[1], 1)
        sequence = self.dropout(sequence + positions)
        for layer in self.layers:
            sequence = layer(sequence, used)
        # Logits of all tokens at once would take as much memory as the features, several times; those of a row of
        # tokens fit into the caches of a CPU. A graph has planes, so that it does not become too long.
        rows = 1 if available is None else self.grid
        groups = sequence.view(len(sequence), len(features), self.grid, self.grid // rows, rows * self.grid, -1)
        kernel = self.upsample.weight.view(features[0].shape[1], self.factor**3, -1).transpose(0, 1).flatten(0, 1)
        slabs = zip(*(torch.split(to_tokens(each), self.factor, dim=1) for each in features), strict=True)
        planes = []
        for plane, slab in zip(groups.unbind(2), slabs, strict=True):
            bars = zip(*(torch.split(each, rows * self.factor, dim=2) for each in slab), strict=True)
            pieces = zip(plane.unbind(2), bars, strict=True)
            planes.append(torch.cat([self._fuse(tokens, bar, kernel, available) for tokens, bar in pieces], dim=2))
        return from_tokens(torch.cat(planes, dim=1))

    def _fuse(self, tokens: Tensor, bar: Sequence[Tensor], kernel: Tensor, available: Tensor | None) -> Tensor:
        """Return the fused features of rows of tokens, (B, factor, rows * factor, V, E).

        tokens     (B, n, rows * grid, E)
        bar        features of n modalities, (B, factor, rows * factor, V, E) each
        kernel     (factor^3 * E, E): weight of `upsample`, by voxel, then channel
        available  (B, n) bool: the modalities to fuse; None for all
        """
        batch, f, width, _, channels = bar[0].shape
        logits = linear(tokens, kernel).view(batch, len(bar), width // f, self.grid, f, f, f, channels)
        if available is not None:
            logits = logits.masked_fill(~available[..., None, None, None, None, None, None], -torch.inf)
        # To the order of the voxels: the weights are not copied for it.
        weights = logits.softmax(1).permute(0, 1, 4, 2, 5, 3, 6, 7).unbind(1)
        first, *others = (each.view(batch, f, width // f, f, self.grid, f, channels) for each in bar)
        fused = weights[0] * first
        for weight, features in zip(weights[1:], others, strict=True):
            fused = torch.addcmul(fused, weight, features)
        return fused.reshape(batch, f, width, -1, channels)


def sinusoids(count: int, width: int) -> Tensor:
    """Return sine (even channels) and cosine (odd channels) of the angles of all positions, (count, width)."""
    positions = torch.empty(count, width)
    if positions.is_meta:
        return positions  # their values cannot be computed there
    position = torch.arange(count, dtype=torch.float64)[:, None]
    channel = torch.arange(width)
    frequency = 10000 ** (2 * (channel // 2).double() / width) + 1e-8
    angles = position / frequency
    return torch.where(channel % 2 == 0, angles.sin(), angles.cos()).float()
