"""The Mamba block (S6), and its use in IM-Fuse: fused tokens that read those of all modalities, whichever exist.

Tokens are (S, C, V) here, S samples, channels before places. Inside, they come in groups, (S, G, C, V): token g of
group v is number v * G + g of the sequence, and only the last of a group is asked for an answer; what only answers need
is computed for no other. Sequences go through in slabs, with what the next slab needs of the last carried over, so that
evaluation takes the memory of one slab. Sources: Gu and Dao 2023 (Mamba); sheet im_fuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from anymri.layers.scan_chunks import slab_length
from anymri.layers.selective_scan import selective_scan

# As in the library `mamba_ssm`: width of the convolution, channels inside, channels of a token to one of its step's.
KERNEL = 4
EXPANSION = 2
STEP_SHARE = 16
LARGEST_STATE = 256
# Steps drawn at the start, log-uniform.
SHORTEST_STEP, LONGEST_STEP, STEP_FLOOR = 1e-3, 0.1, 1e-4


class Carry(NamedTuple):
    """What a slab leaves to the next: the last tokens of the convolution, (S, G, D, h), and the state, (S, D, N)."""

    tokens: Tensor
    state: Tensor | None


class Mamba(nn.Module):
    """The block without norm and residual: D = 2 C channels inside, N = C numbers of state for each, at most 256."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, self.rank = EXPANSION * channels, ceil(channels / STEP_SHARE)
        self.numbers = min(channels, LARGEST_STATE)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, KERNEL, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * self.numbers, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, self.numbers + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            steps = torch.empty(inner).uniform_(log(SHORTEST_STEP), log(LONGEST_STEP)).exp().clamp(min=STEP_FLOOR)
            # The inverse of softplus.
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def enter(self, tokens: Tensor) -> Tensor:
        """What the convolution sees of tokens (S, C, V): (S, D, V), each token alone."""
        return mapped(tokens, self.in_proj.weight.chunk(2)[0])

    def gate(self, tokens: Tensor) -> Tensor:
        """By what the answers to tokens (S, C, V) are multiplied, (S, D, V)."""
        return silu(mapped(tokens, self.in_proj.weight.chunk(2)[1]))

    def slab_length(self, group: int) -> int:
        """How many groups of tokens to give to `advance` at a time."""
        return slab_length(group, self.A_log.numel(), self.A_log.device)

    def advance(self, entered: Tensor, carry: Carry | None = None, gate: Tensor | None = None) -> tuple[Tensor, Carry]:
        """Goes on by a slab of tokens.

        entered  (S, G, D, V) from `enter`
        carry    from the slab before; None at the start
        gate     (S, D, V) of the last token of each group; None if none is asked for an answer
        returns  answers (S, C, V), or (S, C, 0) without a gate; and the carry
        """
        if carry is None:
            carry = Carry(entered.new_zeros(*entered.shape[:3], ceil((KERNEL - 1) / entered.shape[1])), None)
        history = carry.tokens.shape[-1]
        entered = torch.cat([carry.tokens, entered], dim=-1)
        u = silu(self._convolve(entered, history))
        to_step_and_B, to_C = torch.split(self.x_proj.weight, [self.rank + self.numbers, self.numbers])
        step, B = torch.split(mapped(u, to_step_and_B), [self.rank, self.numbers], dim=2)
        delta = softplus(mapped(step, self.dt_proj.weight, self.dt_proj.bias))
        last = u[:, -1]
        C = None if gate is None else mapped(last, to_C)
        y, state = selective_scan(u, delta, -self.A_log.exp(), B, C, carry.state)
        if gate is not None:
            y = torch.addcmul(y, last, self.D[:, None]) * gate
        return mapped(y, self.out_proj.weight), Carry(entered[..., -history:], state)

    def _convolve(self, entered: Tensor, history: int) -> Tensor:
        """Each token with the three before it, by channel: (S, G, D, h + V) to (S, G, D, V)."""
        assert self.conv.bias is not None
        group, end = entered.shape[1], entered.shape[-1]
        found = []
        for place in range(group):
            mixed = self.conv.bias[:, None]
            for back in range(KERNEL):
                groups_back, other = divmod(place - back, group)
                seen = entered[:, other, :, history + groups_back : end + groups_back]
                mixed = torch.addcmul(mixed, seen, self.conv.weight[:, :, KERNEL - 1 - back])
            found.append(mixed)
        return torch.stack(found, dim=1)


def mapped(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear map (D, C) of the channels of (..., C, V): (..., D, V).

    `weight @ tokens` would first bring the channels last, which takes longer than the product itself.
    """
    flat = tokens.flatten(0, -3)
    weights = weight.expand(len(flat), -1, -1)
    found = torch.bmm(weights, flat) if bias is None else torch.baddbmm(bias[:, None], weights, flat)
    return found.view(*tokens.shape[:-2], *found.shape[1:])


def channel_norm(norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """Layer norm of the channels of (S, C, V)."""
    centred = tokens - tokens.mean(1, keepdim=True)
    scale = (centred.square().mean(1, keepdim=True) + norm.eps).rsqrt()
    return torch.addcmul(norm.bias[:, None], centred * scale, norm.weight[:, None])


class FusedTokens(NamedTuple):
    """The fused tokens of a level, the same for all samples: as the layer's residual (1, C, V), as its convolution sees
    them and as gates of its answers, (1, D, V)."""

    residual: Tensor
    entered: Tensor
    gate: Tensor


class MambaFusion(nn.Module):
    """Features of several modalities to fused ones: learnt tokens, one a voxel, read the tokens of all in one sequence.

    tokens       voxels of the level: the tokens fix the crop
    interleaved  the modalities' tokens of a voxel, then its fused one, then the next voxel's; or all of a modality's
                 tokens, then the next one's, then all fused ones
    """

    def __init__(self, channels: int, tokens: int, interleaved: bool) -> None:
        super().__init__()
        self.interleaved = interleaved
        self.tokens = nn.Parameter(torch.randn(channels, tokens))
        self.norm = nn.LayerNorm(channels)
        self.mamba = Mamba(channels)
        self.head_norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, channels)

    def enter(self, features: Tensor) -> Tensor:
        """What a modality brings into the sequence, (S, C, V) to (S, D, V), whichever others there are."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, torch.float32))
            return self.mamba.enter(channel_norm(self.norm, features))

    def fused(self) -> FusedTokens:
        """What the fused tokens bring into the sequence."""
        with torch.autocast(self.tokens.device.type, enabled=False):
            normed = channel_norm(self.norm, self.tokens[None])
            return FusedTokens(self.tokens[None], self.mamba.enter(normed), self.mamba.gate(normed))

    def forward(self, entered: Tensor, fused: FusedTokens, available: Tensor) -> Tensor:
        """Fused features (S, C, V).

        entered    (S, M, D, V) from `enter`, in the order of the sequence; a modality that is not available is there
                   with tokens of zero, as published
        fused      from `fused`
        available  (S, M) bool
        """
        answers, carry = [], None
        with torch.autocast(entered.device.type, enabled=False):
            for group, piece in self._sequence(entered, fused, available):
                answer, carry = self.mamba.advance(group, carry, None if piece is None else piece.gate)
                if piece is not None:
                    answers.append(self._finish(answer + piece.residual))
        return torch.cat(answers, dim=-1)

    def _sequence(
        self, entered: Tensor, fused: FusedTokens, available: Tensor
    ) -> Iterator[tuple[Tensor, FusedTokens | None]]:
        """Slabs of groups (S, G, D, V), and the fused tokens that stand last in the groups, if any do."""
        count = available.shape[1]
        absent = (self.mamba.in_proj.weight.chunk(2)[0] @ self.norm.bias)[:, None]
        flags = available[..., None, None]
        length = self.mamba.slab_length(count + 1 if self.interleaved else 1)
        pieces = map(FusedTokens._make, zip(*(torch.split(each, length, -1) for each in fused), strict=True))
        if self.interleaved:
            for slab, piece in zip(torch.split(entered, length, -1), pieces, strict=True):
                last = piece.entered[:, None].expand(len(slab), -1, -1, -1)
                yield torch.cat([torch.where(flags, slab, absent), last], dim=1), piece
        else:
            for source, exists in zip(torch.split(entered, 1, 1), torch.split(flags, 1, 1), strict=True):
                for slab in torch.split(source, length, -1):
                    yield torch.where(exists, slab, absent), None
            for piece in pieces:
                yield piece.entered[:, None].expand(len(entered), -1, -1, -1), piece

    def _finish(self, tokens: Tensor) -> Tensor:
        """The layer behind the block and its residual: (S, C, V) to the same shape."""
        return mapped(channel_norm(self.head_norm, tokens), self.head.weight, self.head.bias) + tokens
