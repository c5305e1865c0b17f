"""Self-attention and transformer over tokens (B, N, T): B samples of N tokens with T channels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from anymri.errors import ConfigurationError


class Attention(nn.Module):
    """Multi-head self-attention of tokens (B, N, T); one linear map gives queries, keys and values.

    width    T
    heads    number of heads; must divide T
    dropout  probability that an attention weight is dropped in training
    bias     whether the map to queries, keys and values has a bias
    """

    def __init__(self, width: int, heads: int, dropout: float, bias: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise ConfigurationError(
                f"Tokens of {width} channels cannot be divided among {heads} attention heads.",
                "Choose a number of heads that divides the number of channels of a token.",
            )
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, used: Tensor | None = None) -> Tensor:
        """Return the attended tokens, (B, N, T).

        used  (B, N) bool: the tokens that are attended to; None for all
        """
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mask = None if used is None else used[:, None, None]
        attended = scaled_dot_product_attention(query, key, value, mask, dropout)
        output: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return output


class Transformer(nn.Module):
    """Pre-norm transformer layer without final norm. The caller adds positions."""

    def __init__(self, width: int, mlp_width: int, heads: int, dropout: float) -> None:
        super().__init__()
        # The reference applies dropout to the output of attention twice in a row, which equals one at a higher rate.
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
        """Return the transformed tokens, (B, N, T)."""
        tokens = tokens + self.attention(tokens)
        output: Tensor = tokens + self.mlp(tokens)
        return output
