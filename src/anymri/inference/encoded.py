"""Keep the encodings of a volume, so that any subset can be decoded later without encoding again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from anymri.data.prepared import Prepared
from anymri.errors import ModalityError, OutputError
from anymri.inference.windows import (
    EncodedWindows,
    SubsetDecoder,
    Tiling,
    VolumePrediction,
    Windows,
    check_reconstructs,
    encode_windows,
)
from anymri.modalities import Subset, as_subset
from anymri.systems.contract import System

# Encodings beyond this go to a temporary file.
MEMORY_LIMIT_BYTES = 2_000_000_000


class EncodedVolume:
    """Encodings of all windows of one case. `decode` works for any subset of the modalities that were encoded.

    Encodings are kept in memory up to `memory_limit` bytes; what does not fit goes to a temporary file, float32 as in
    memory. Use it as a context manager, or call `close`, to delete that file; otherwise it is deleted at the end of
    the process.

    case   the prepared case
    bytes  size of the kept encodings, in memory and on disk
    """

    def __init__(
        self,
        system: System[Any],
        case: Prepared,
        windows: Windows,
        memory_limit: int = MEMORY_LIMIT_BYTES,
        half: bool = False,
    ) -> None:
        """Encode a case.

        memory_limit  bytes of encodings kept in memory
        half          keep encodings as float16: half the size, at the cost of precision
        """
        self.case = case
        self.bytes = 0
        self._system = system
        self._tiling = Tiling(system, case, windows)
        self._device = next(system.parameters()).device
        self._file = _TensorFile()
        self._kept: list[EncodedWindows] = []

        def keep(tensor: Tensor) -> Tensor | _Stored:
            floating = tensor.is_floating_point()
            found = tensor.to("cpu", torch.float16 if half and floating else tensor.dtype)
            size = found.numel() * found.element_size()
            self.bytes += size
            if floating and self.bytes - self._file.bytes > memory_limit:
                return self._file.write(found)
            return found.clone() if found is tensor else found

        with system.folded_weights():
            for encoded in encode_windows(system, case, self._tiling):
                self._kept.append(EncodedWindows(encoded.places, map_tensors(encoded.encoding, keep)))

    def decode(self, subset: Subset | str, reconstruct: bool = False) -> VolumePrediction:
        """Return the prediction for one subset of the encoded modalities.

        subset       for example "T1c+FLAIR"
        reconstruct  also reconstruct the missing modalities; raises `ConfigurationError` if the system cannot

        Raises `ModalityError` if a modality of the subset was not encoded.
        """
        wanted = as_subset(subset)
        if not wanted <= self.case.subset:
            raise ModalityError(
                f"The case has {self.case.subset}, not {wanted}.", "Decode a subset of the modalities that exist."
            )
        if reconstruct:
            check_reconstructs(self._system)
        decoder = SubsetDecoder(self._system, self._tiling, wanted, reconstruct)
        with self._system.folded_weights():
            for kept in self._kept:
                decoder.add(EncodedWindows(kept.places, map_tensors(kept.encoding, self._load)))
        return decoder.result()

    def _load(self, kept: Tensor | _Stored) -> Tensor:
        tensor = self._file.read(kept) if isinstance(kept, _Stored) else kept
        return tensor.to(self._device, torch.float32 if tensor.dtype == torch.float16 else tensor.dtype)

    def close(self) -> None:
        """Forget the encodings and delete the temporary file."""
        self._kept.clear()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def map_tensors(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a copy of nested dataclasses, lists, tuples and dictionaries with every tensor changed."""
    if isinstance(value, Tensor | _Stored):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: map_tensors(getattr(value, f.name), change) for f in fields(value)})
    if isinstance(value, dict):
        return {key: map_tensors(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        return type(value)(map_tensors(each, change) for each in value)
    return value


class _Stored:
    """Position of a tensor in the temporary file."""

    def __init__(self, offset: int, shape: torch.Size, dtype: np.dtype[Any]) -> None:
        self.offset, self.shape, self.dtype = offset, shape, dtype


class _TensorFile:
    """Tensors one after the other in a temporary file, which is created when the first one is written."""

    def __init__(self) -> None:
        self.bytes = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def write(self, tensor: Tensor) -> _Stored:
        """Append a tensor of the CPU; raise `OutputError` if the disk is full."""
        array = tensor.contiguous().numpy()
        stored = _Stored(self.bytes, tensor.shape, array.dtype)
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="anymri-")
            with self._path().open("ab") as file:
                file.write(array.data)
        except OSError as error:
            raise OutputError(
                f"The encodings of this case do not fit into {tempfile.gettempdir()}: {error.strerror or error}.",
                "Free space there, set TMPDIR to another folder, or allow more memory (memory_limit).",
            ) from error
        self.bytes += array.nbytes
        return stored

    def read(self, stored: _Stored) -> Tensor:
        """Return a tensor of the CPU."""
        shape = tuple(stored.shape)
        return torch.from_numpy(np.memmap(self._path(), stored.dtype, "c", stored.offset, shape))

    def close(self) -> None:
        """Delete the file."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self.bytes = 0

    def _path(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / "encodings"
