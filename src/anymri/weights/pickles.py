"""Read the authors' checkpoints, which may hold pickled objects, for their tensors alone: their code never runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from anymri.errors import WeightsError

_GIVE = "Give a file that holds a state dict or a pickled module; pickled code is never run."


class StandIn:
    """Replacement for every class and function that a pickle names: it accepts any arguments and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> StandIn:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Return the dictionary in a checkpoint, with pickled modules as their state dicts and without other objects.

    Raises `WeightsError` if the file is not a checkpoint, or holds no tensor.
    """
    try:
        named: list[Any] = [(StandIn, name) for name in get_unsafe_globals_in_checkpoint(file)]
        with safe_globals(named):
            stored = torch.load(file, map_location="cpu", weights_only=True)
        plain = _plain(stored)
    except Exception as error:
        raise WeightsError(f"{file} cannot be read as tensors alone ({error}).", _GIVE) from error
    if not isinstance(plain, dict) or not _holds_tensors(plain):
        raise WeightsError(f"{file} cannot be read as tensors alone (there are none in it).", _GIVE)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, StandIn):
        return _state(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _state(module: StandIn, prefix: str = "") -> dict[str, Tensor]:
    """Return the state dict of a pickled module; empty for any other object."""
    fields = vars(module)
    tensors = {**fields.get("_parameters", {}), **fields.get("_buffers", {})}
    state = {prefix + name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    for name, child in fields.get("_modules", {}).items():
        if isinstance(child, StandIn):
            state |= _state(child, f"{prefix}{name}.")
    return state


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, dict) and any(map(_holds_tensors, value.values())))
