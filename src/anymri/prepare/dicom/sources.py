"""Files that may be DICOM: in a folder, a single file, or the entries of a zip, which are read in memory."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anymri.data.formats.content import check_regular
from anymri.errors import CohortError, ImageError, InputWarning
from anymri.prepare.dicom.archive import Archive
from anymri.text import shown

_PREAMBLE = 128
_MAGIC = b"DICM"
# Files without preamble begin with an element of group 8: its length, its end, the characters, the type or the class.
_FIRST_ELEMENTS = tuple(bytes((8, 0, element, 0)) for element in (0x00, 0x01, 0x05, 0x08, 0x16))
_SUFFIXES = {".dcm", ".dicom", ".ima"}
# More files than the largest study has; a folder with more is a whole archive.
_MOST_FILES = 100_000


@dataclass(frozen=True, eq=False)
class Source:
    """One file, or one entry of a zip, that has the content of a DICOM file.

    file   the file on disk: the file itself, or the zip
    entry  name of the entry in the zip; None for a file
    zipped the zip, which stays open as long as its sources are used
    """

    file: Path
    entry: str | None = None
    zipped: Archive | None = None

    @property
    def name(self) -> str:
        """The name for messages: that of the file or of the entry, with unusual characters visible."""
        return shown(self.entry if self.entry is not None else self.file.name).strip("'\"")

    def open(self) -> io.BufferedIOBase:
        """Open the content for reading; raise `ImageError` if it is not a regular file or cannot be read."""
        if self.zipped is not None and self.entry is not None:
            content = io.BytesIO()
            content.writelines(self.zipped.blocks(self.entry))
            content.seek(0)
            return content
        check_regular(self.file)
        return self.file.open("rb")


def find_sources(path: Path) -> Iterator[Source]:
    """Yield the DICOM files of a folder, a file or a zip, in the order of their names.

    Hidden files, DICOMDIR and files with other content are skipped, and so are pipes, devices and links that lead
    nowhere. Raises `ImageError` for a file that has the suffix of DICOM but not its content, and for a zip that is
    damaged or not safe, `CohortError` for a folder with too many files.
    """
    if not path.exists() and not path.is_symlink():
        raise ImageError(f"{path} does not exist.", "Check the name of the folder, file or zip archive.")
    if not path.is_dir():
        check_regular(path)
        head = _head(path)
        if head.startswith(b"PK"):
            yield from _entries(path)
        elif is_dicom(head):
            yield Source(path)
        else:
            raise ImageError(
                f"{path} is not a DICOM file, and its name is not that of an image.",
                "Give an image, as in t1c.nii.gz, a DICOM file, or the folder or zip of a study.",
            )
        return
    for file in _files(path):
        head = _head(file)
        if is_dicom(head):
            yield Source(file)
        elif head.startswith(b"PK") and file.suffix.lower() == ".zip":
            yield from _entries(file)
        elif file.suffix.lower() in _SUFFIXES:
            raise _not_dicom(file.name, str(path))
        elif not head and not file.suffix:
            warnings.warn(f"{file} is empty and is not used: was it an image?", InputWarning, stacklevel=2)


def _head(file: Path) -> bytes:
    """Return the first 132 bytes of a file; raise `ImageError` if they cannot be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(_PREAMBLE + len(_MAGIC))
    except OSError as error:
        raise ImageError(f"{file} cannot be read: {error.strerror}.", "Check its permissions and its disk.") from error


def is_dicom(head: bytes) -> bool:
    """Return whether the first 132 bytes of a file are those of DICOM, with preamble or without, or cut off there."""
    is_cut_off = 0 < len(head) < _PREAMBLE + len(_MAGIC) and not any(head)
    return head[_PREAMBLE:] == _MAGIC or head.startswith(_FIRST_ELEMENTS) or is_cut_off


def is_ignored(name: str) -> bool:
    """Return whether a file or folder is skipped by its name: hidden, a directory of media, or made by macOS."""
    return name.startswith(".") or name.upper() == "DICOMDIR" or name == "__MACOSX"


def _files(folder: Path) -> Iterator[Path]:
    """Yield the regular files of a folder and of the folders in it, without following links to folders."""
    count = 0
    for home, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not is_ignored(name))
        for name in sorted(names):
            file = Path(home) / name
            if is_ignored(name) or not _is_regular(file):
                continue
            count += 1
            if count > _MOST_FILES:
                raise CohortError(
                    f"{folder} has more than {_MOST_FILES} files.", "Give the folder of one study of one patient."
                )
            check_regular(file)
            yield file


def _refuse(error: OSError) -> None:
    raise ImageError(
        f"The folder {error.filename} cannot be read: {error.strerror}.", "Check its permissions and its disk."
    ) from error


def _is_regular(file: Path) -> bool:
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except OSError:
        return False


def _entries(file: Path) -> Iterator[Source]:
    """Yield the DICOM files in a zip."""
    archive = Archive(file)
    for entry in archive.entries:
        if any(is_ignored(part) for part in entry.split("/")):
            continue
        head = next(archive.blocks(entry, _PREAMBLE + len(_MAGIC)), b"")
        if is_dicom(head):
            yield Source(file, entry, archive)
        elif head.startswith(b"PK\x03\x04") and entry.lower().endswith(".zip"):
            raise ImageError(
                f"{file} contains another zip, {shown(entry)}.", "Unpack it, and give the folder of the DICOM files."
            )
        elif Path(entry).suffix.lower() in _SUFFIXES:
            raise _not_dicom(entry, str(file))


def _not_dicom(name: str, where: str) -> ImageError:
    return ImageError(
        f"{shown(name)} in {where} has the suffix of a DICOM file, but is empty, damaged or something else.",
        "Copy or export the series again, or remove the file if it is not part of one.",
    )
