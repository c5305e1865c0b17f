"""Read the authors' checkpoints, which may hold pickled objects, for their tensors alone: their code never runs."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from anymri.errors import WeightsError

_GIVE = "Give a file that holds a state dict or a pickled module; pickled code is never run."
# Largest number of dictionaries, modules and tensors; a checkpoint with optimiser has some ten thousand.
_MOST_OBJECTS = 200_000
# Several names may share the memory of one tensor, but not many.
_MOST_BYTES_PER_STORED = 4
# The pickle of names and shapes; unpickling takes seconds per megabyte in the worst case.
_LARGEST_PICKLE = 4_000_000


class StandIn:
    """Replacement for every class and function that a pickle names: it accepts any arguments and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> StandIn:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {})


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Return the dictionary in a checkpoint, with pickled modules as their state dicts and without other objects.

    Raises `WeightsError` if the file was not written by torch 1.6 or later, does not have a tensor, or describes
    tensors that are much larger than the file.
    """
    size = file.stat().st_size
    _check_archive(file, size)
    try:
        named: list[Any] = [(StandIn, name) for name in get_unsafe_globals_in_checkpoint(file)]
        with safe_globals(named):
            stored = torch.load(file, map_location="cpu", weights_only=True)
        content = _Content()
        plain = content.plain(stored)
    except Exception as error:  # of whatever a damaged or hostile pickle makes torch do
        raise WeightsError(
            f"{file} cannot be read as tensors alone: it is damaged, or needs its code.", _GIVE
        ) from error
    if content.claimed > _MOST_BYTES_PER_STORED * size:
        raise WeightsError(
            f"{file} cannot be read as tensors alone: they would fill more memory than its size of {size:,} bytes.",
            _GIVE,
        )
    if not isinstance(plain, dict) or not content.claimed:
        raise WeightsError(f"{file} cannot be read as tensors alone: there are none in it.", _GIVE)
    return plain


def _check_archive(file: Path, size: int) -> None:
    """Raise `WeightsError` if a file is not an archive of torch, or one that would fill more memory than its size."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            [pickled] = [member for member in members if member.filename.endswith("/data.pkl")]
            is_small = unpacked <= size and pickled.file_size <= _LARGEST_PICKLE
            # The only class that torch would let reserve memory without data.
            is_small = is_small and b"bytearray" not in archive.read(pickled)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{file} cannot be read as tensors alone: it is damaged, or older than torch 1.6.",
            "Copy it again; if it is old, load it with torch and save it with torch.save.",
        ) from error
    if not is_small:
        raise WeightsError(
            f"{file} cannot be read as tensors alone: it would fill more memory than its size of {size:,} bytes.", _GIVE
        )


class _Content:
    """Content of a checkpoint as plain dictionaries of tensors.

    claimed  bytes of all tensors; memory that two tensors share counts twice
    """

    def __init__(self) -> None:
        self.claimed = 0
        self.objects = 0

    def plain(self, value: Any) -> Any:
        """Return a value with modules as state dicts, and None for tensors that are not plain."""
        self._count()
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, StandIn):
            return self._state(value)
        if isinstance(value, dict):
            return {key: self.plain(item) for key, item in value.items()}
        return value

    def _tensor(self, value: Tensor) -> Tensor | None:
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        size = value.numel() * value.element_size()
        # Strides of zero make a large tensor of a small memory.
        if not plain or size > value.untyped_storage().nbytes():
            return None
        self.claimed += size
        return value

    def _state(self, module: StandIn, prefix: str = "") -> dict[str, Any]:
        """Return the state dict of a pickled module; empty for any other object."""
        self._count()
        fields = vars(module)
        tensors = {**fields.get("_parameters", {}), **fields.get("_buffers", {})}
        unsaved = fields.get("_non_persistent_buffers_set", ())
        for name in unsaved if isinstance(unsaved, set) else ():
            tensors.pop(name, None)
        state = {prefix + name: self.plain(value) for name, value in tensors.items() if isinstance(value, Tensor)}
        for name, child in fields.get("_modules", {}).items():
            if isinstance(child, StandIn):
                state |= self._state(child, f"{prefix}{name}.")
        return state

    def _count(self) -> None:
        self.objects += 1
        if self.objects > _MOST_OBJECTS:
            raise ValueError("too many objects")
