"""Mamba block (S6), and the fusion of modalities that IM-Fuse builds on it.

Tokens are (S, C, V): S samples, C channels, V positions; channels come before positions. Inside the block, tokens come
in groups, (S, G, C, V): token g of group v is number v * G + g of the sequence. Only the last token of a group has an
output; what only outputs need is computed for no other token. A sequence is processed in slabs, and `Carry` holds what
the next slab needs, so that evaluation takes the memory of one slab. Sources: Gu and Dao 2023 (Mamba); sheet im_fuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, log
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from anymri.layers.compiled import usable
from anymri.layers.scan_chunks import slab_length
from anymri.layers.scan_compiled import CONVOLVE, SCAN, convolve, scan
from anymri.layers.selective_scan import selective_scan

# As in the library `mamba_ssm`: width of the convolution, ratio of inner to outer channels, and ratio of outer channels
# to the channels that step sizes are computed from.
KERNEL = 4
EXPANSION = 2
STEP_SHARE = 16
LARGEST_STATE = 256
# Initial step sizes, log-uniform.
SHORTEST_STEP, LONGEST_STEP, STEP_FLOOR = 1e-3, 0.1, 1e-4


class FusedTokens(NamedTuple):
    """Learnt fused tokens of one level, in the forms that the fusion needs; the same for all samples.

    residual   (1, C, V): the tokens, for the residual of the layer
    projected  (1, D, V) from `Mamba.project`
    gate       (1, D, V) from `Mamba.gate`
    """

    residual: Tensor
    projected: Tensor
    gate: Tensor


class Slab(NamedTuple):
    """Neighbouring groups of a sequence.

    modalities  (S, M, D, V) from `Mamba.project`, the first M tokens of each group
    available   (S, M) bool; where false, the tokens are replaced by `missing`
    missing     (D,), projected token of a missing modality
    fused       the last token of each group; None if all are of modalities, and no output is needed
    """

    modalities: Tensor
    available: Tensor
    missing: Tensor
    fused: FusedTokens | None

    @property
    def group(self) -> int:
        """G, tokens per group."""
        return self.modalities.shape[1] + (self.fused is not None)


class Carry(NamedTuple):
    """State between two slabs of a sequence.

    tokens  (S, G, D, h): the last projected tokens, for the convolution
    state   (S, D, N) of the scan; None at the start
    """

    tokens: Tensor
    state: Tensor | None


class Mamba(nn.Module):
    """Mamba block without norm and residual, for tokens of C channels.

    It has D = 2 C inner channels, each with a state of N = min(C, 256) numbers.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, self.rank = EXPANSION * channels, ceil(channels / STEP_SHARE)
        self.numbers = min(channels, LARGEST_STATE)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, KERNEL, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * self.numbers, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.empty(inner, self.numbers))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            self.A_log.copy_(torch.arange(1.0, self.numbers + 1, device="cpu").log())
            steps = (
                torch.empty(inner, device="cpu")
                .uniform_(log(SHORTEST_STEP), log(LONGEST_STEP))
                .exp()
                .clamp(min=STEP_FLOOR)
            )
            # The inverse of softplus.
            self.dt_proj.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def project(self, tokens: Tensor) -> Tensor:
        """Return the input of the convolution, (S, D, V), for tokens (S, C, V); each token is projected alone."""
        return channel_linear(tokens, self.in_proj.weight.chunk(2)[0])

    def gate(self, tokens: Tensor) -> Tensor:
        """Return the SiLU gate of the scan's output, (S, D, V), for tokens (S, C, V)."""
        return silu(channel_linear(tokens, self.in_proj.weight.chunk(2)[1]))

    def slab_length(self, group: int) -> int:
        """Return the number of groups of `group` tokens that one call of `advance` should process."""
        return slab_length(group, self.A_log.numel(), self.A_log.device)

    def advance(self, slab: Slab, carry: Carry | None = None) -> tuple[Tensor, Carry]:
        """Process the next slab of the sequence; return the outputs, (S, C, V), and the carry.

        carry  from the slab before; None at the start

        Without fused tokens, the outputs are (S, C, 0).
        """
        samples, _, inner, _ = slab.modalities.shape
        if carry is None:
            history = ceil((KERNEL - 1) / slab.group)
            carry = Carry(slab.modalities.new_zeros(samples, slab.group, inner, history), None)
        compiled = not torch.is_grad_enabled() and usable(slab.modalities, SCAN, CONVOLVE)
        u, before = self._convolve_compiled(slab, carry.tokens) if compiled else self._convolve(slab, carry.tokens)
        to_step_and_B, to_C = torch.split(self.x_proj.weight, [self.rank + self.numbers, self.numbers])
        step, B = torch.split(channel_linear(u, to_step_and_B), [self.rank, self.numbers], dim=2)
        delta = channel_linear(step, self.dt_proj.weight, self.dt_proj.bias)
        last = u[:, -1]
        C = channel_linear(last, to_C) if slab.fused is not None else u.new_empty(samples, self.numbers, 0)
        A = -self.A_log.exp()
        state = u.new_zeros(samples, *A.shape) if carry.state is None else carry.state
        if compiled:
            y, state = scan(u, delta, A, B, C, state, raw=True)
        else:
            y, state = selective_scan(u, softplus(delta), A, B, C, state)
        if slab.fused is not None:
            y = torch.addcmul(y, last, self.D[:, None]) * slab.fused.gate
        return channel_linear(y, self.out_proj.weight), Carry(before, state)

    def _convolve(self, slab: Slab, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return SiLU of each token convolved with the three before it, (S, G, D, V), and the last tokens."""
        assert self.conv.bias is not None
        tokens = torch.where(slab.available[..., None, None], slab.modalities, slab.missing[:, None])
        if slab.fused is not None:
            last = slab.fused.projected[:, None].expand(len(tokens), -1, -1, -1)
            tokens = torch.cat([tokens, last], dim=1) if tokens.shape[1] else last
        tokens = torch.cat([before, tokens], dim=-1)
        group, history, end = slab.group, before.shape[-1], tokens.shape[-1]
        convolved = []
        for place in range(group):
            mixed = self.conv.bias[:, None]
            for back in range(KERNEL):
                groups_back, other = divmod(place - back, group)
                earlier = tokens[:, other, :, history + groups_back : end + groups_back]
                mixed = torch.addcmul(mixed, earlier, self.conv.weight[:, :, KERNEL - 1 - back])
            convolved.append(mixed)
        return silu(torch.stack(convolved, dim=1)), tokens[..., -history:]

    def _convolve_compiled(self, slab: Slab, before: Tensor) -> tuple[Tensor, Tensor]:
        assert self.conv.bias is not None
        fused = slab.missing.new_empty(len(slab.missing), 0) if slab.fused is None else slab.fused.projected[0]
        weight = self.conv.weight[:, 0]
        return convolve(slab.modalities, slab.available, slab.missing, fused, before, weight, self.conv.bias)


def channel_linear(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear map (D, C) to the channels of (..., C, V); return (..., D, V).

    `weight @ tokens` would first move the channels to the end, which takes longer than the product itself.
    """
    flat = tokens.flatten(0, -3)
    weights = weight.expand(len(flat), -1, -1)
    product = torch.bmm(weights, flat) if bias is None else torch.baddbmm(bias[:, None], weights, flat)
    return product.view(*tokens.shape[:-2], *product.shape[1:])


def channel_norm(norm: nn.LayerNorm, tokens: Tensor) -> Tensor:
    """Apply a layer norm to the channels of (S, C, V)."""
    centred = tokens - tokens.mean(1, keepdim=True)
    scale = (centred.square().mean(1, keepdim=True) + norm.eps).rsqrt()
    return torch.addcmul(norm.bias[:, None], centred * scale, norm.weight[:, None])


class MambaFusion(nn.Module):
    """Fusion of the features of several modalities: learnt tokens, one per voxel, read all modalities in one sequence.

    channels     C, channels of the features of a modality
    tokens       V, voxels of the level; they fix the crop
    interleaved  true: a sequence of voxels, each with the tokens of all modalities and then its fused token; false:
                 all tokens of one modality after the other, then all fused tokens
    """

    def __init__(self, channels: int, tokens: int, interleaved: bool) -> None:
        super().__init__()
        self.interleaved = interleaved
        self.tokens = nn.Parameter(torch.randn(channels, tokens))
        self.norm = nn.LayerNorm(channels)
        self.mamba = Mamba(channels)
        self.head_norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, channels)

    def project(self, features: Tensor) -> Tensor:
        """Return the tokens of one modality in the sequence, (S, D, V); they do not depend on the other modalities.

        features  (S, C, V)
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, torch.float32))
            return self.mamba.project(channel_norm(self.norm, features))

    def fused(self) -> FusedTokens:
        """Return the fused tokens in the sequence."""
        with torch.autocast(self.tokens.device.type, enabled=False):
            normed = channel_norm(self.norm, self.tokens[None])
            return FusedTokens(self.tokens[None], self.mamba.project(normed), self.mamba.gate(normed))

    def forward(self, projected: Tensor, fused: FusedTokens, available: Tensor) -> Tensor:
        """Return the fused features, (S, C, V).

        projected  (S, M, D, V) from `project`, modalities in the order of the sequence; as published, a modality that
                   is not available has tokens of zero before the norm
        fused      from `fused`
        available  (S, M) bool
        """
        outputs, carry = [], None
        with torch.autocast(projected.device.type, enabled=False):
            for slab in self._sequence(projected, fused, available):
                output, carry = self.mamba.advance(slab, carry)
                if slab.fused is not None:
                    outputs.append(self._finish(output + slab.fused.residual))
        return torch.cat(outputs, dim=-1)

    def _sequence(self, projected: Tensor, fused: FusedTokens, available: Tensor) -> Iterator[Slab]:
        """Yield the slabs of the sequence."""
        missing = self.mamba.in_proj.weight.chunk(2)[0] @ self.norm.bias
        length = self.mamba.slab_length(available.shape[1] + 1 if self.interleaved else 1)
        pieces = map(FusedTokens._make, zip(*(torch.split(each, length, -1) for each in fused), strict=True))
        if self.interleaved:
            for tokens, piece in zip(torch.split(projected, length, -1), pieces, strict=True):
                yield Slab(tokens, available, missing, piece)
        else:
            for modality, exists in zip(torch.split(projected, 1, 1), torch.split(available, 1, 1), strict=True):
                for tokens in torch.split(modality, length, -1):
                    yield Slab(tokens, exists, missing, None)
            for piece in pieces:
                yield Slab(projected[:, :0, :, :0], available[:, :0], missing, piece)

    def _finish(self, tokens: Tensor) -> Tensor:
        """Apply the norm and linear layer after the block, with residual: (S, C, V) to the same shape."""
        return channel_linear(channel_norm(self.head_norm, tokens), self.head.weight, self.head.bias) + tokens
