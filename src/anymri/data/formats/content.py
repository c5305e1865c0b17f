"""Bytes of image files: only regular files are opened, and no more is read or allocated than a header describes."""

from __future__ import annotations

import io
import math
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats.checks import damaged
from anymri.errors import ImageError

GZIP_MAGIC = b"\x1f\x8b"
# Largest number of bytes that one byte of a deflate stream can expand to.
MOST_INFLATION = 1032
# What other programs put after the voxels: padding, and the tags of FreeSurfer.
_MOST_TRAILING = 1024**2
# Small enough for the processor's cache, because gzip's reader copies each block.
_BLOCK = 2**18
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Content:
    """The content of an open image file, decompressed while it is read.

    path    the file
    stream  at the first byte that is not read yet
    size    bytes of the file
    most    largest possible size of the decompressed content, bytes
    """

    path: Path
    stream: io.BufferedIOBase
    size: int
    most: int

    def start(self, size: int) -> bytes:
        """Return the next `size` bytes, which belong to the header."""
        found = self.stream.read(size)
        if len(found) < size:
            raise damaged(self.path, "its header is cut off" if self.size else "it is empty")
        return found

    def voxels(self, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[NDArray[Any], int]:
        """Return the voxels as (x, y, z), and the number of bytes after them, which are padding.

        start  number of the next byte, where the voxels begin
        shape  x, y, z and further axes of length 1
        """
        needed = start + math.prod(shape) * dtype.itemsize
        if needed > self.most:
            raise damaged(self.path, f"it has {self.size} bytes, too few for the {needed} that its header describes")
        too_long = ImageError(
            f"{self.path} has more data than the {needed} bytes that its header describes.",
            "Copy or export the file again: its size or its header is wrong.",
        )
        if self.size > needed + needed // 8 + _MOST_TRAILING:  # also if nothing of it can be compressed
            raise too_long
        array = np.empty(math.prod(shape), dtype)
        buffer, filled = array.view(np.uint8).data, 0
        while filled < array.nbytes:
            count = self.stream.readinto(buffer[filled : filled + _BLOCK])
            if not count:
                raise damaged(self.path, f"it has {start + filled} bytes of {needed}")
            filled += count
        trailing = len(self.stream.read(_MOST_TRAILING + 1))
        if trailing > _MOST_TRAILING:
            raise too_long
        return array.reshape(shape[:3], order="F"), trailing


@contextmanager
def opened(path: Path) -> Iterator[Content]:
    """Open an image file; its first bytes, not its name, decide whether it is decompressed with gzip.

    Raises `ImageError` if it is not a regular file, and if its compressed data turn out to be damaged while it is open.
    """
    from isal import igzip

    with _open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        stream: Any = file
        most = size
        try:
            with decompressing(path):
                if file.peek(2).startswith(GZIP_MAGIC):
                    stream, most = igzip.IGzipFile(fileobj=file, mode="rb"), size * MOST_INFLATION
                    if stream.peek(2).startswith(GZIP_MAGIC):
                        raise ImageError(f"{path} is compressed twice.", "Decompress it once, with gunzip.")
                yield Content(path, stream, size, most)
        except OSError as error:
            raise _cannot_open(path, error) from error


@contextmanager
def decompressing(path: Path) -> Iterator[None]:
    """Context in which the errors of damaged compressed data become `ImageError`."""
    from isal import igzip_lib

    isal: Any = igzip_lib  # its stub declares the class of its errors as an instance
    try:
        yield
    except EOFError as error:
        raise damaged(path, "its compressed data end too early") from error
    except (BadGzipFile, zlib.error, isal.IsalError) as error:
        raise damaged(path, "its compressed data do not agree with their checksum or format") from error


def check_regular(path: Path) -> None:
    """Raise `ImageError` unless a path leads to a regular file that can be opened."""
    _open_regular(path).close()


def _open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file; its kind is checked again once it is open, because the path may have been replaced."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a device can have effects
            raise _not_regular(path, path.stat().st_mode)
        file = os.fdopen(os.open(path, flags), "rb")
    except (OSError, ValueError) as error:
        raise _cannot_open(path, error) from error
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise _not_regular(path, mode)
    return file


def _not_regular(path: Path, mode: int) -> ImageError:
    kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
    return ImageError(f"{path} is {kind}, not an image.", "Give the image file itself.")


def _cannot_open(path: Path, error: OSError | ValueError) -> ImageError:
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return ImageError(
                f"{path} is a link to {path.readlink()}, which does not exist.", "Correct the link, or remove it."
            )
        return ImageError(f"{path} does not exist.", "Check the name, or omit the modality.")
    reason = getattr(error, "strerror", None) or "its name has characters that file names cannot have"
    return ImageError(f"{path} cannot be read: {reason}.", "Check its name, its permissions and its disk.")
