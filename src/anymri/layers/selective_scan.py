"""The selective scan of Mamba (S6): a linear recurrence whose steps and inputs depend on the tokens.

The state h has D channels times N numbers, zero before the first token:

    h_t = exp(delta_t A) h_(t-1) + delta_t u_t B_t        y_t = C_t h_t

The plain ways are token by token, far too many small steps, or all states at once, N times the memory of the sequence.
Here a slab of the sequence is cut into chunks that advance side by side, each from a state of zero. Only then states
are carried from chunk to chunk, and what a chunk should have started with is added where an answer is asked for,
decayed by exp(A times the sum of delta so far). A is negative, so no factor is above 1 and nothing can overflow. The
backward pass keeps what chunks started with and computes the states in between once more (`scan_chunks`).
Sources: Gu and Dao 2023 (Mamba); sheet im_fuse, Scan prototypes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from anymri.layers.scan_chunks import Block, Tokens, slabs


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What tokens read from the state, and the state behind the last of them.

    Tokens come in groups of G: token g of group v is number v * G + g of the sequence, and the last of a group reads.
    A plain sequence has G = 1. Tokens that only write have no C.

    u, delta  (S, G, D, V), delta not negative
    A         (D, N), negative
    B         (S, G, N, V)
    C         (S, N, V), or None
    state     (S, D, N) before the first token; None for zero
    returns   (S, D, V), or (S, D, 0) without C; and (S, D, N)

    Computed in the precision of u, at least float32. Memory beside inputs and outputs does not depend on V, but for the
    one state a chunk that the backward pass keeps.
    """
    C = u.new_empty(len(u), A.shape[1], 0) if C is None else C
    state = u.new_zeros(len(u), *A.shape) if state is None else state
    dtype = torch.promote_types(u.dtype, torch.float32)
    y, last = _SelectiveScan.apply(*(each.to(dtype) for each in (u, delta, A, B, C, state)))  # type: ignore[no-untyped-call]
    return y, last


class _SelectiveScan(torch.autograd.Function):
    """`selective_scan`, slab after slab, and in each a block of channels after the other."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        y = u.new_empty(*u.shape[::2], C.shape[-1])
        state, kept = state.clone(), []
        for slab in slabs(u, A.numel()):
            tokens = Tokens(*map(slab.fold, (u, delta, B, C[:, None])))
            starts = u.new_empty(A.shape[1], *tokens.u.shape[1:])
            answers = u.new_empty(len(tokens.C), *tokens.u.shape[1:])
            for channels in slab.blocks(starts):
                block = Block(slab, tokens, A, channels)
                starts[:, channels], state[:, channels] = block.scan(state[:, channels], answers[:, channels])
            slab.unfold(answers, y[:, None])
            kept += [starts] if any(ctx.needs_input_grad) else []
        ctx.save_for_backward(u, delta, A, B, C, *kept)
        return y, state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, *kept = ctx.saved_tensors
        grad_u, grad_delta, grad_A, grad_B, grad_C = (torch.zeros_like(each) for each in (u, delta, A, B, C))
        grad_state, room = grad_state.clone(), u.new_empty(0)
        for slab in reversed(list(slabs(u, A.numel()))):
            tokens = Tokens(*map(slab.fold, (u, delta, B, C[:, None])))
            grads, towards = Tokens(*map(torch.zeros_like, tokens)), slab.fold(grad_y[:, None])
            starts = kept.pop()
            for channels in slab.blocks(starts):
                block = Block(slab, tokens, A, channels)
                # Fresh memory costs as much as the work in it: all states get the same room each time.
                needed = 2 * (len(tokens.u) + 1) * starts[:, channels].numel()
                room = room if len(room) >= needed else u.new_empty(needed)
                to_A, grad_state[:, channels] = block.differentiate(
                    starts[:, channels], towards[:, channels], grad_state[:, channels], grads, room[:needed]
                )
                grad_A[channels] += to_A
            for folded, whole in zip(grads, (grad_u, grad_delta, grad_B, grad_C[:, None]), strict=True):
                slab.unfold(folded, whole)
        return grad_u, grad_delta, grad_A, grad_B, grad_C, grad_state
