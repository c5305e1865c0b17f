"""Functions that numba compiles for a CPU: where they are usable, and how they are called, in several threads.

They need numba (the extra `fast`), a CPU, and float32 or, in some, bfloat16; elsewhere, and where numba fails, torch
computes the same.
Functions are compiled when first needed, and numba keeps them in a cache folder.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from anymri.errors import AnymriWarning

# Numbers in a vector, see `vectors`.
LANES = 16
# Why functions could not be compiled in this process.
_failures: list[str] = []


@dataclass(frozen=True)
class Kernel:
    """A function for numba.

    name    of the function
    module  that defines it and its signature, in this package
    types   that the signature leaves open, of a function that is compiled for several of them
    """

    name: str
    module: str
    types: tuple[str, ...] = ()


def is_traced() -> bool:
    """Return whether a graph is being traced, which must consist of torch's operators."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def autocasts_to_bfloat16() -> bool:
    """Return whether operators on a CPU compute in bfloat16."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def usable(tensor: Tensor, *kernels: Kernel, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> bool:
    """Return whether compiled functions can process a tensor; the first call compiles or loads them."""
    if tensor.device.type != "cpu" or tensor.dtype not in dtypes or type(tensor) not in (Tensor, torch.nn.Parameter):
        return False
    return not is_traced() and all(_compiled(kernel) is not None for kernel in kernels)


def call(kernel: Kernel, *arguments: Any) -> None:
    """Call a compiled function that is usable."""
    function = _compiled(kernel)
    assert function is not None
    function(*arguments)


@cache
def _compiled(kernel: Kernel) -> Callable[..., None] | None:
    """Return a compiled function; None if numba is not installed or fails, of which the process warns once."""
    try:
        from numba import config, njit

        if config.DISABLE_JIT:
            raise RuntimeError("NUMBA_DISABLE_JIT is set.")
        module = import_module(f"anymri.layers.{kernel.module}")
        compiler = njit(
            module.SIGNATURES[kernel.name].format(*kernel.types), nogil=True, cache=True, error_model="numpy"
        )
        function: Callable[..., None] = compiler(getattr(module, kernel.name))
    # Numba and LLVM fail in many ways, by version, CPU and cache folder; torch computes the same.
    except Exception as error:  # noqa: BLE001
        _failures.append(str(error).strip().partition("\n")[0] or type(error).__name__)
        if len(_failures) == 1:
            _warn(_failures[0])
        return None
    return function


def _warn(reason: str) -> None:
    fix = "Install the tested version: pip install -U 'anymri[fast]'."
    if "cannot cache" in reason:
        fix = "Set NUMBA_CACHE_DIR to a folder that can be written."
    warnings.warn(
        f"Parts of the network are computed without numba, more slowly: {reason.rstrip('.')}. {fix}",
        AnymriWarning,
        stacklevel=4,
    )


def as_array(tensor: Tensor) -> NDArray[Any]:
    """Return the memory of a tensor as an array, bfloat16 as uint16."""
    tensor = tensor.detach()
    array: NDArray[Any] = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def flat(*tensors: Tensor) -> tuple[NDArray[Any], ...]:
    """Return tensors as arrays of one axis."""
    return tuple(as_array(each.reshape(-1)) for each in tensors)


def array_type(dtype: torch.dtype) -> str:
    """Return numba's name of the numbers of `as_array`."""
    return "uint16" if dtype == torch.bfloat16 else "float32"


def in_parallel(work: Callable[[int, int, int], None], count: int) -> None:
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
