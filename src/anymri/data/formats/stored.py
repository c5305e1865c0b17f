"""Code shared by the readers of MetaImage and NRRD: a header of text, with voxels after it or in a file beside it.

Memory is allocated only after the size in the header was compared with the bytes of the file.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats.checks import damaged, size_text
from anymri.data.formats.content import GZIP_MAGIC, MOST_INFLATION, decompressing
from anymri.errors import ImageError, InputWarning
from anymri.text import shown

# Both formats give positions in LPS millimetres.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

# Enough for the DICOM fields that some programs put there, and read in a moment.
_HEADER_BYTES = 256 * 1024
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Voxels:
    """Where the voxels of an image are.

    file      the image file or its data file
    start     first byte of the data
    at_end    the data are the last bytes of the file, somewhere after `start`
    size      bytes of compressed data; None: all bytes after `start`
    deflated  compressed with zlib or gzip
    """

    file: Path
    start: int
    at_end: bool = False
    size: int | None = None
    deflated: bool = False


def read_start(path: Path) -> bytes:
    """Return the first 256 kB of a file, which must contain its whole header."""
    with path.open("rb") as stream:
        return stream.read(_HEADER_BYTES)


def read_line(path: Path, content: bytes, start: int) -> tuple[str, int]:
    """Return the line that begins at byte `start`, without its end (LF or CR LF), and the byte after it."""
    end = content.find(b"\n", start)
    if end < 0:
        if len(content) == _HEADER_BYTES:
            raise damaged(path, f"its header does not end within {_HEADER_BYTES} bytes")
        end = len(content)
    line = content[start:end].removesuffix(b"\r").decode("utf-8", "surrogateescape")
    if "\r" in line or "\0" in line:
        raise damaged(path, "its header has control characters")
    return line, end + 1


@dataclass(frozen=True)
class Header:
    """The fields of a header: name -> text, and the first byte after the header."""

    path: Path
    fields: dict[str, str]
    end: int

    def text(self, name: str, default: str = "") -> str:
        """Return the text of a field in small letters."""
        return self.fields.get(name, default).lower()

    def words(self, name: str, count: int, default: str = "") -> list[str]:
        """Return the `count` words of a field in small letters."""
        words = self.text(name, default).split()
        if len(words) != count:
            raise damaged(
                self.path, f"its header has {excerpt(self.text(name))} as {name}, not {count} value{'s' * (count > 1)}"
            )
        return words

    def unknown(self, name: str) -> ImageError:
        """Return the error for a field that is missing or has a value that anymri does not read."""
        if not self.fields.get(name):
            return damaged(self.path, f"its header has nothing as {name}")
        return unsupported(self.path, f"{excerpt(self.fields[name])} as {name}")

    def integer(self, name: str, default: str = "") -> int:
        """Return the integer of a field."""
        return self.integers(name, 1, default)[0]

    def integers(self, name: str, count: int, default: str = "") -> list[int]:
        """Return the `count` integers of a field."""
        words = self.words(name, count, default)
        if not all(map(_INTEGER.fullmatch, words)):
            raise damaged(self.path, f"its header has {excerpt(self.text(name))} as {name}, not integers")
        return [int(word) for word in words]

    def numbers(self, name: str, count: int, default: str = "") -> NDArray[np.float64]:
        """Return the `count` numbers of a field, which may be NaN."""
        return self.parsed(name, self.words(name, count, default))

    def parsed(self, name: str, words: list[str]) -> NDArray[np.float64]:
        """Return the numbers that are the words of a field."""
        if not all(word == "nan" or _NUMBER.fullmatch(word) for word in words):
            raise damaged(self.path, f"its header has {excerpt(self.text(name))} as {name}, not numbers")
        return np.array(words, dtype=np.float64)


def data_file(path: Path, name: str) -> Path:
    """Return the file beside `path` that its header names; raise `ImageError` for any other place, or several files.

    Links are followed, because data sets of git-annex consist of them.
    """
    plain = name.removeprefix("./")
    if plain.startswith("LIST") or "%" in plain:
        raise unsupported(path, "its voxels in several files")
    if plain in ("", ".", "..") or plain != PureWindowsPath(plain).name or plain != Path(plain).name:
        raise ImageError(
            f"{path} has its voxels in {excerpt(name)}, which is not a plain file name.",
            "Put both files into one folder and the name without a folder into the header, or save it as NIfTI.",
        )
    file = path.parent / plain
    try:
        is_usable = file.is_file() and not file.samefile(path)
    except OSError:  # a name that cannot exist
        is_usable = False
    if not is_usable:
        raise ImageError(
            f"{path} has its voxels in {excerpt(name)}, which is not a data file in its folder.",
            "Copy both files of the image into one folder, or save it as NIfTI.",
        )
    return file


def read_voxels(path: Path, voxels: Voxels, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[np.float32]:
    """Return the array (x, y, z) of a shape whose further axes have length 1."""
    needed = math.prod(shape) * dtype.itemsize
    available = voxels.file.stat().st_size - voxels.start
    if voxels.deflated:
        content = _inflated(path, voxels, available, needed)
        array = np.frombuffer(content, dtype)
    else:
        skipped = available - needed if voxels.at_end else 0
        if available - skipped != needed or skipped < 0:
            raise _wrong_size(path, max(available, 0), shape, needed)
        array = np.fromfile(voxels.file, dtype, math.prod(shape), offset=voxels.start + skipped)
    if array.size != math.prod(shape):
        raise _wrong_size(path, array.nbytes, shape, needed)
    return array.reshape(shape[:3], order="F").astype(np.float32)


def note_missing(path: Path, *, spacing: bool = False, directions: bool = False) -> None:
    """Issue an `InputWarning` if a header does not give the spacing or the directions of the axes."""
    missing = []
    if spacing:
        missing.append("its spacing, which is taken to be 1 mm")
    if directions:
        missing.append(
            "the directions of its axes, so that left and right are not known; x is taken to grow to the left"
        )
    if missing:
        warnings.warn(f"{path} does not give {', and '.join(missing)}.", InputWarning, stacklevel=4)


def unsupported(path: Path, what: str) -> ImageError:
    """Return the error for a file that is probably valid but uses a rare feature."""
    return ImageError(
        f"{path} has {what}, which anymri does not read.", "Save it as NIfTI, or as MetaImage with local data."
    )


def excerpt(text: str) -> str:
    """Return text of a header for a message: short, without control characters."""
    return shown(text, 40) if text else "nothing"


def _inflated(path: Path, voxels: Voxels, available: int, needed: int) -> bytes:
    """Return the decompressed data, which have to be `needed` bytes."""
    from isal import igzip, isal_zlib

    size = available if voxels.size is None else voxels.size
    if not 0 < size <= available:
        raise damaged(path, f"its compressed data have {max(available, 0)} bytes of {size}")
    # The second bound is that of data that cannot be compressed, generously.
    if needed > size * MOST_INFLATION or size > needed + needed // 8 + 1024:
        raise damaged(path, f"{size} bytes of compressed data cannot be the {needed} that its header declares")
    with voxels.file.open("rb") as stream:
        stream.seek(voxels.start)
        content = stream.read(size)
    with decompressing(path):
        if content.startswith(GZIP_MAGIC):
            data: bytes
            data, is_whole = igzip.IGzipFile(fileobj=io.BytesIO(content)).read(needed + 1), True
        else:
            inflater = isal_zlib.decompressobj()
            data = inflater.decompress(content, needed + 1)
            is_whole = inflater.eof and not inflater.unused_data
    if len(data) != needed or not is_whole:
        raise damaged(path, f"its compressed data are not the {needed} bytes that its header declares")
    return data


def _wrong_size(path: Path, available: int, shape: tuple[int, ...], needed: int) -> ImageError:
    return damaged(path, f"it has {available} bytes of voxels, the size {size_text(shape)} of its header {needed}")
