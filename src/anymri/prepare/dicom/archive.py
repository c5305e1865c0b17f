"""Zip files of unknown origin: checked before anything is decompressed, and read entry by entry."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

from anymri.errors import ImageError
from anymri.text import shown

MOST_ENTRIES = 100_000
MOST_BYTES = 8 * 1024**3
LARGEST_ENTRY = 2 * 1024**3
# MR compresses to between a half and a tenth; scans with an empty background to a fiftieth.
MOST_INFLATION = 150
_INFLATION_MATTERS = 64 * 1024**2
_BLOCK = 1024**2
_UNPACK = "Unpack it with a program that you trust, and give the folder of the DICOM files."


class Archive:
    """Zip whose entries are read in memory, one at a time.

    Raises `ImageError` on creation if the zip is damaged, encrypted, expands to too much, or has links or entries
    outside its folder.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise self._damaged() from error
        self._check()

    @cached_property
    def entries(self) -> tuple[str, ...]:
        """Names of the files in the zip, sorted."""
        return tuple(sorted(info.filename for info in self._zip.infolist() if not info.is_dir()))

    @property
    def inflated(self) -> int:
        """Size of all files after decompression."""
        return sum(info.file_size for info in self._zip.infolist())

    def blocks(self, entry: str, size: int = _BLOCK) -> Iterator[bytes]:
        """Yield the content of an entry in blocks of `size` bytes; raise `ImageError` if it is damaged."""
        try:
            with self._zip.open(entry) as stream:
                while block := stream.read(size):
                    yield block
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise self._damaged(entry) from error

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def _check(self) -> None:
        infos = self._zip.infolist()
        names = [info.filename for info in infos]
        total, packed = self.inflated, sum(info.compress_size for info in infos)
        unsafe = next((name for name in names if _climbs(name)), None)
        link = next((info.filename for info in infos if _is_special(info)), None)
        reason = None
        if len(infos) > MOST_ENTRIES:
            reason = f"it has {len(infos)} entries, more than {MOST_ENTRIES}"
        elif unsafe is not None:
            reason = f"the entry {shown(unsafe)} leads out of its folder"
        elif link is not None:
            reason = f"the entry {shown(link)} is a link or a device"
        elif any(info.flag_bits & 1 for info in infos):
            reason = "it is encrypted"
        elif len(set(names)) < len(names):
            reason = "two of its entries have the same name"
        elif max((info.file_size for info in infos), default=0) > LARGEST_ENTRY or total > MOST_BYTES:
            reason = f"it expands to {total / 1024**3:.1f} GiB, more than any study has"
        elif packed > self.file.stat().st_size:
            reason = "its entries overlap, as in a zip bomb"
        elif total > max(_INFLATION_MATTERS, MOST_INFLATION * packed):
            reason = f"it expands to {total / max(packed, 1):.0f} times its size, as a zip bomb does"
        if reason is not None:
            self._zip.close()
            raise ImageError(f"The zip {self.file} is refused: {reason}.", _UNPACK)

    def _damaged(self, entry: str | None = None) -> ImageError:
        what = f"The zip {self.file}" if entry is None else f"The entry {shown(entry)} of the zip {self.file}"
        return ImageError(f"{what} is damaged, or compressed by a method that is not supported.", _UNPACK)


def _climbs(name: str) -> bool:
    """Return whether an entry would be written outside the folder that the zip is unpacked to."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    absolute = posix.is_absolute() or windows.is_absolute() or windows.drive or windows.root
    return bool(absolute) or ".." in posix.parts or ".." in windows.parts or "\0" in name


def _is_special(info: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return kind not in (0, stat.S_IFREG, stat.S_IFDIR)
