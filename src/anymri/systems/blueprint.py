"""Networks on torch's meta device: their tensors have names and shapes, and do not use memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from anymri.errors import ConfigurationError
from anymri.systems.contract import System
from anymri.systems.registry import build
from anymri.text import shown

# Twenty times the largest published network.
_MOST_PARAMETERS = 4_000_000_000
# ShaSpec, the network with the most modules, makes 8,000.
_MOST_CALLS = 30_000
_BYTES_PER_PARAMETER = 4


def blueprint(name: str, network: Mapping[str, Any]) -> System[Any]:
    """Return a system on torch's meta device, in evaluation mode; its tensors have shapes and no values.

    Raises `ConfigurationError` if the arguments do not fit, or if the network would be too large for this machine.
    """
    too_large = ConfigurationError(
        f"{name} with {shown(dict(network), 200)} has too many parameters for this machine.",
        f"Choose smaller numbers; presets: anymri systems {name}",
    )
    try:
        with torch.device("meta"), _WithoutInitialisation():
            system = build(name, network)
    except _TooManyCallsError as error:
        raise too_large from error
    sizes = [parameter.numel() for parameter in system.parameters()]
    if sum(sizes) > min(_MOST_PARAMETERS, _memory() // _BYTES_PER_PARAMETER):
        raise too_large
    if 0 in sizes:
        raise ConfigurationError(
            f"{name} with {shown(dict(network), 200)} has modules without channels.",
            f"Choose larger numbers; presets: anymri systems {name}",
        )
    return system


class _TooManyCallsError(Exception):
    """A network that calls torch too often while it is built."""


class _WithoutInitialisation(TorchFunctionMode):
    """Context in which operations that fill a meta tensor do nothing: torch imports its compiler for many of them."""

    calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        if self.calls > _MOST_CALLS:
            raise _TooManyCallsError
        filled = args[0] if args else (kwargs or {}).get("tensor")
        name = getattr(func, "__name__", "")
        if func in (torch.randn, torch.rand):
            func = torch.empty
        if name.endswith("_") and not name.endswith("__") and isinstance(filled, Tensor) and filled.is_meta:
            return filled
        return func(*args, **(kwargs or {}))


def _memory() -> int:
    """Return the memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63
