"""Selective scan of Mamba (S6): a linear recurrence whose steps and inputs depend on the tokens.

The state h has D channels of N numbers each and is zero before the first token:

    h_t = exp(delta_t A) h_(t-1) + delta_t u_t B_t        y_t = C_t h_t

Token by token, the recurrence takes far too many small steps; with all states at once, it takes N times the memory of
the sequence. Here a slab of the sequence is cut into chunks that advance in parallel, each from a state of zero. Then
states are carried from chunk to chunk, and the true state at the start of a chunk is added at the tokens with an
output, decayed by exp(A times the sum of delta so far). A is negative, so all factors are at most 1 and nothing can
overflow. The backward pass keeps the states at the start of chunks and computes those between again (`scan_chunks`).
With numba on a CPU, float32 is computed token by token instead (`scan_compiled`).
Sources: Gu and Dao 2023 (Mamba); sheet im_fuse, Scan prototypes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from anymri.layers.compiled import usable
from anymri.layers.scan_chunks import Block, Tokens, slabs
from anymri.layers.scan_compiled import DIFFERENTIATE, SCAN, CompiledScan


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the outputs y, (S, D, V), and the state after the last token, (S, D, N).

    Tokens come in groups of G: token g of group v is number v * G + g of the sequence, and the last token of a group
    has an output. A plain sequence has G = 1.

    u, delta  (S, G, D, V) float, delta not negative
    A         (D, N), negative
    B         (S, G, N, V)
    C         (S, N, V); None if no output is needed, which is then (S, D, 0)
    state     (S, D, N) before the first token; None for zero

    Computed in the precision of u, at least float32. Memory beyond inputs and outputs does not depend on V, except for
    one state per chunk that the backward pass keeps.
    """
    C = u.new_empty(len(u), A.shape[1], 0) if C is None else C
    state = u.new_zeros(len(u), *A.shape) if state is None else state
    dtype = torch.promote_types(u.dtype, torch.float32)
    inputs = [each.to(dtype) for each in (u, delta, A, B, C, state)]
    functions = [SCAN, DIFFERENTIATE] if torch.is_grad_enabled() else [SCAN]
    scan: Callable[..., tuple[Tensor, Tensor]] = _SelectiveScan.apply
    if usable(inputs[0], *functions):
        scan = CompiledScan.apply
    return scan(*inputs)


class _SelectiveScan(torch.autograd.Function):
    """Selective scan, one slab after the other and, in each slab, one block of channels after the other."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        y = u.new_empty(*u.shape[::2], C.shape[-1])
        state, kept = state.clone(), []
        for slab in slabs(u, A.numel()):
            tokens = Tokens(*map(slab.fold, (u, delta, B, C[:, None])))
            starts = u.new_empty(A.shape[1], *tokens.u.shape[1:])
            outputs = u.new_empty(len(tokens.C), *tokens.u.shape[1:])
            for channels in slab.blocks(starts):
                block = Block(slab, tokens, A, channels)
                starts[:, channels], state[:, channels] = block.scan(state[:, channels], outputs[:, channels])
            slab.unfold(outputs, y[:, None])
            kept += [starts] if any(ctx.needs_input_grad) else []
        ctx.save_for_backward(u, delta, A, B, C, *kept)
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, *kept = ctx.saved_tensors
        grad_u, grad_delta, grad_A, grad_B, grad_C = (torch.zeros_like(each) for each in (u, delta, A, B, C))
        grad_state, workspace = grad_state.clone(), u.new_empty(0)
        for slab in reversed(list(slabs(u, A.numel()))):
            tokens = Tokens(*map(slab.fold, (u, delta, B, C[:, None])))
            grads, towards = Tokens(*map(torch.zeros_like, tokens)), slab.fold(grad_y[:, None])
            starts = kept.pop()
            for channels in slab.blocks(starts):
                block = Block(slab, tokens, A, channels)
                # Allocating memory takes as long as the work in it, so all blocks use the same memory.
                needed = 2 * (len(tokens.u) + 1) * starts[:, channels].numel()
                workspace = workspace if len(workspace) >= needed else u.new_empty(needed)
                to_A, grad_state[:, channels] = block.differentiate(
                    starts[:, channels], towards[:, channels], grad_state[:, channels], grads, workspace[:needed]
                )
                grad_A[channels] += to_A
            for folded, whole in zip(grads, (grad_u, grad_delta, grad_B, grad_C[:, None]), strict=True):
                slab.unfold(folded, whole)
        return grad_u, grad_delta, grad_A, grad_B, grad_C, grad_state
