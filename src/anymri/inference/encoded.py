"""Keep the encodings of a volume, so that any subset can be decoded later without encoding again."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable
from copy import copy
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from anymri.data.prepared import Prepared
from anymri.errors import ModalityError, OutputError
from anymri.inference.tiling import Tiling, Windows
from anymri.inference.windows import EncodedWindows, SubsetDecoder, VolumePrediction, check_reconstructs, encode_windows
from anymri.modalities import Subset, as_subset
from anymri.progress import Progress, silent
from anymri.systems.contract import System

# Encodings beyond this go to a temporary file.
MEMORY_LIMIT_BYTES = 2_000_000_000
_FILE = "encodings"


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
        progress: Progress = silent,
    ) -> None:
        """Encode a case.

        memory_limit  bytes of encodings kept in memory
        half          keep encodings as float16: half the size, at the cost of precision
        progress      called with "encoding", and how many of how many windows are done
        """
        self.case = case
        self.bytes = 0
        self._system = system
        self._tiling = Tiling(system, case, windows)
        self._device = next(system.parameters()).device
        self._file = _TensorFile()
        self._kept: list[EncodedWindows] = []

        def keep(tensor: Tensor) -> Tensor:
            if isinstance(tensor, nn.Parameter):
                return tensor  # some encodings hold weights of the network
            floating = tensor.is_floating_point()
            found = tensor.detach().to("cpu", torch.float16 if half and floating else tensor.dtype)
            self.bytes += found.numel() * found.element_size()
            if floating and self.bytes - self._file.bytes > memory_limit:
                return self._file.store(found)
            return found

        done, total = 0, len(self._tiling.mirrorings) * len(self._tiling.places)
        with system.folded_weights():
            for encoded in encode_windows(system, self._tiling):
                progress("encoding", done, total)
                self._kept.append(replace(encoded, encoding=map_tensors(encoded.encoding, keep)))
                done += len(encoded.places)

    def decode(self, subset: Subset | str, reconstruct: bool = False, progress: Progress = silent) -> VolumePrediction:
        """Return the prediction for one subset of the encoded modalities.

        subset       for example "T1c+FLAIR"
        reconstruct  also reconstruct the missing modalities; raises `ConfigurationError` if the system cannot
        progress     called with "window", and how many of how many windows are done

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
        done, total = 0, sum(len(kept.places) for kept in self._kept)
        with self._system.folded_weights():
            for kept in self._kept:
                progress("window", done, total)
                done += len(kept.places)
                decoder.add(replace(kept, encoding=map_tensors(kept.encoding, self._load)))
        return decoder.result()

    def _load(self, kept: Tensor) -> Tensor:
        if isinstance(kept, nn.Parameter):
            return kept
        return kept.to(self._device, torch.float32 if kept.dtype == torch.float16 else kept.dtype)

    def close(self) -> None:
        """Forget the encodings and delete the temporary file."""
        self._kept.clear()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of nested dataclasses, lists, (named) tuples and dictionaries with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value):
        # Not `dataclasses.replace`, which would compute derived fields again.
        copied = copy(value)
        for name, each in vars(value).items():
            object.__setattr__(copied, name, map_tensors(each, change))
        return copied
    if isinstance(value, dict):
        return {key: map_tensors(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
        changed = [map_tensors(each, change) for each in value]
        return type(value)(*changed) if hasattr(value, "_fields") else type(value)(changed)  # named tuples
    return value


class _TensorFile:
    """Tensors in a temporary file, which the operating system reads into memory and evicts as needed.

    bytes  size of the file, which is created when the first tensor is stored
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._folder: Path | None = None
        self._delete: Callable[[], Any] = lambda: None

    def store(self, tensor: Tensor) -> Tensor:
        """Append a tensor of the CPU and return it mapped from the file; raise `OutputError` if the disk is full."""
        # In the order of its memory, so that the network computes with the same layout, and rounds alike.
        axes = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
        stored = tensor.permute(axes).contiguous()
        array = (
            stored.view(torch.int16) if tensor.dtype == torch.bfloat16 else stored
        ).numpy()  # NumPy has no bfloat16
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="anymri-"))
                # Also when nobody calls `close`, at the latest when the process ends.
                self._delete = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            with (self._folder / _FILE).open("ab") as file:
                file.write(array.data)
            mapped = np.memmap(self._folder / _FILE, array.dtype, "c", self.bytes, array.shape)
        except OSError as error:
            raise OutputError(
                f"The encodings of this case do not fit into {tempfile.gettempdir()}: {error.strerror or error}.",
                "Free space there, set TMPDIR to another folder, or allow more memory (memory_limit).",
            ) from error
        self.bytes += array.nbytes
        places = [axes.index(axis) for axis in range(tensor.ndim)]
        return torch.from_numpy(mapped).view(tensor.dtype).permute(places)

    def close(self) -> None:
        """Delete the file."""
        self._delete()
        self._folder = None
        self.bytes = 0
