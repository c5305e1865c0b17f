"""Selective scan by the compiled functions of `scan_kernels`: several times as fast as torch's operators on a CPU.

Where they are not usable (see `compiled`), `selective_scan` and `mamba` compute the same with torch.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from anymri.layers.compiled import LANES, Kernel, as_array, call, flat, in_parallel

# Tokens per chunk: the backward pass keeps the states at its start, and computes those within the chunk again.
STEPS = 160

SCAN = Kernel("scan", "scan_kernels")
CONVOLVE = Kernel("convolve", "scan_kernels")
DIFFERENTIATE = Kernel("differentiate", "scan_gradient_kernel")


def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, raw: bool) -> tuple[Tensor, Tensor]:
    """Return what `selective_scan` returns, for the same arguments, without gradients.

    raw  whether softplus is still to be applied to `delta`
    """
    y, last, _ = _scan(u, delta, A, B, C, state, False, raw)
    return y, last


def convolve(
    modalities: Tensor,
    available: Tensor,
    missing: Tensor,
    fused: Tensor,
    before: Tensor,
    weight: Tensor,
    bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return SiLU of each token convolved with those before it, (S, G, D, V), and the last tokens, (S, G, D, h).

    modalities  (S, M, D, V), the first M tokens of each group
    available   (S, M) bool; where false, tokens are replaced by `missing`
    missing     (D,)
    fused       (D, V), the last token of each group; (D, 0) if M = G
    before      (S, G, D, h), the last tokens before these
    weight      (D, KERNEL)
    bias        (D,)
    """
    samples, group, channels, _ = before.shape
    length = max(modalities.shape[3], fused.shape[1])
    u, after = modalities.new_empty(samples, group, channels, length), before.clone()
    sources = tuple(as_array(each) for each in (modalities, available, missing, fused))
    given = sources, as_array(after), *flat(weight, bias), as_array(u)
    in_parallel(lambda _part, first, last: call(CONVOLVE, *given, first, last), channels)
    return u, after


class CompiledScan(torch.autograd.Function):
    """Selective scan with gradients; arguments as for `selective_scan`, none of them None."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        y, last, starts = _scan(u, delta, A, B, C, state, any(ctx.needs_input_grad), False)
        ctx.save_for_backward(u, delta, A, B, C, starts)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_state: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, starts = ctx.saved_tensors
        grad_u, grad_delta = u.new_empty(u.shape), u.new_empty(u.shape)
        grad_A, grad_state = u.new_empty(len(u), *A.shape), grad_state.clone(memory_format=torch.contiguous_format)
        # The channels share B and C, so each thread sums its own gradients of them.
        tasks = len(u) * _blocks(A)
        parts = min(torch.get_num_threads(), tasks)
        grad_B, grad_C = u.new_zeros(parts, *B.shape), u.new_zeros(parts, *C.shape)
        given = flat(u, delta, B, C), *flat(A, starts, grad_y.contiguous())

        def differentiate(part: int, first: int, last: int) -> None:
            grads = flat(grad_u, grad_delta, grad_B[part], grad_C[part])
            call(DIFFERENTIATE, *given, grads, *flat(grad_A, grad_state), _sizes(u, A), first, last)

        in_parallel(differentiate, tasks)
        return grad_u, grad_delta, grad_A.sum(0), grad_B.sum(0), grad_C.sum(0), grad_state


def _scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, keep: bool, raw: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, last state and, if `keep`, the states before each chunk, (S, chunks, D, N)."""
    sizes = *_, steps = _sizes(u, A)
    last_state = state.clone(memory_format=torch.contiguous_format)
    y = u.new_empty(*u.shape[::2], C.shape[-1])
    starts = u.new_empty(len(u) if keep else 0, ceil(u.shape[-1] / steps), *A.shape)
    given = flat(u, delta, B, C), *flat(A, last_state, starts, y), sizes, raw
    in_parallel(lambda _part, first, last: call(SCAN, *given, first, last), len(u) * _blocks(A))
    return y, last_state, starts


def _sizes(u: Tensor, A: Tensor) -> tuple[int, ...]:
    """Return G, D, N, V and the number of groups per chunk."""
    _, group, _, length = u.shape
    return group, *A.shape, length, max(1, STEPS // group)


def _blocks(A: Tensor) -> int:
    """Return the number of vectors of channels."""
    return ceil(len(A) / LANES)
