"""Selective scan by the compiled functions of `scan_kernels`: several times as fast as torch's operators on a CPU.

It needs numba (the extra `fast`), float32 and a CPU; everywhere else, and where numba fails, `selective_scan` and
`mamba` compute the same with torch. Functions are compiled when first needed, and numba keeps them in a cache folder.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from anymri.layers.convolution import is_traced

# Tokens per chunk: the backward pass keeps the states at its start, and computes those within the chunk again.
STEPS = 160
# Channels that advance at once.
LANES = 16


# The compiled functions, and the modules that define them.
SCAN, CONVOLVE = ("scan", "scan_kernels"), ("convolve", "scan_kernels")
DIFFERENTIATE = ("differentiate", "scan_gradient_kernel")


def usable(tokens: Tensor, *functions: tuple[str, str]) -> bool:
    """Return whether the compiled functions can process `tokens`; the first call compiles or loads them."""
    if tokens.device.type != "cpu" or tokens.dtype != torch.float32 or type(tokens) is not Tensor:
        return False
    return not is_traced() and all(_compiled(*each) is not None for each in functions)


@cache
def _compiled(name: str, module: str) -> Callable[..., None] | None:
    """Return a compiled function; None, with a warning, if numba is not installed or fails."""
    try:
        from numba import njit

        kernels = import_module(f"anymri.layers.{module}")
        compiler = njit(kernels.SIGNATURES[name], nogil=True, cache=True, error_model="numpy")
        function: Callable[..., None] = compiler(getattr(kernels, name))
    # Numba and LLVM fail in many ways, by version, CPU and cache folder; torch computes the same.
    except Exception as error:  # noqa: BLE001
        reason = (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".") + "."
        warnings.warn(
            f"Mamba blocks are computed without numba, several times slower: {reason} Install the tested version: "
            "pip install -U 'anymri[fast]'. If its cache folder cannot be written, set NUMBA_CACHE_DIR to another one.",
            stacklevel=2,
        )
        return None
    return function


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
    sources = tuple(_numpy(each) for each in (modalities, available, missing, fused))
    given = sources, _numpy(after), *_flat(weight, bias), _numpy(u)
    _in_parallel(lambda _part, first, last: _call(CONVOLVE, *given, first, last), channels)
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
        given = _flat(u, delta, B, C), *_flat(A, starts, grad_y)

        def differentiate(part: int, first: int, last: int) -> None:
            grads = _flat(grad_u, grad_delta, grad_B[part], grad_C[part])
            _call(DIFFERENTIATE, *given, grads, *_flat(grad_A, grad_state), _sizes(u, A), first, last)

        _in_parallel(differentiate, tasks)
        return grad_u, grad_delta, grad_A.sum(0), grad_B.sum(0), grad_C.sum(0), grad_state


def _scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, keep: bool, raw: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, last state and, if `keep`, the states before each chunk, (S, chunks, D, N)."""
    sizes = *_, steps = _sizes(u, A)
    last_state = state.clone(memory_format=torch.contiguous_format)
    y = u.new_empty(*u.shape[::2], C.shape[-1])
    starts = u.new_empty(len(u) if keep else 0, ceil(u.shape[-1] / steps), *A.shape)
    given = _flat(u, delta, B, C), *_flat(A, last_state, starts, y), sizes, raw
    _in_parallel(lambda _part, first, last: _call(SCAN, *given, first, last), len(u) * _blocks(A))
    return y, last_state, starts


def _sizes(u: Tensor, A: Tensor) -> tuple[int, ...]:
    """Return G, D, N, V and the number of groups per chunk."""
    _, group, _, length = u.shape
    return group, *A.shape, length, max(1, STEPS // group)


def _blocks(A: Tensor) -> int:
    """Return the number of vectors of channels."""
    return ceil(len(A) / LANES)


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().numpy()
    return array


def _flat(*tensors: Tensor) -> tuple[NDArray[np.float32], ...]:
    return tuple(_numpy(each.reshape(-1)) for each in tensors)


def _call(function: tuple[str, str], *arguments: Any) -> None:
    compiled = _compiled(*function)
    assert compiled is not None
    compiled(*arguments)


def _in_parallel(work: Callable[[int, int, int], None], count: int) -> None:
    """Call `work(part, first, last)` for equal parts of range(count), at the same time, one per thread of torch."""
    parts = min(torch.get_num_threads(), count)
    bounds = [count * part // parts for part in range(parts + 1)]
    others = [_pool().submit(work, part, *bounds[part : part + 2]) for part in range(1, parts)]
    work(0, *bounds[:2])
    for other in others:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count())


if hasattr(os, "register_at_fork"):
    # Threads do not exist in a process that was forked.
    os.register_at_fork(after_in_child=_pool.cache_clear)
