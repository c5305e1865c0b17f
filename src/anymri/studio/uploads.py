"""Files that a browser sends: written to disk while they arrive, within limits, under names that are safe."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from anymri.errors import AnymriError, ImageError, OutputError
from anymri.prepare.dicom.archive import Archive
from anymri.prepare.searching import is_zip
from anymri.text import shown

MOST_FILES = 10_000
LARGEST_FILE = 2 * 1024**3
MOST_BYTES = 4 * 1024**3
# What archives expand to, and what stays free on the disk.
MOST_UNPACKED = 6 * 1024**3
LEAST_FREE = 1024**3

_PART_BYTES, _PARTS = 120, 8
_UNSAFE = re.compile(r'[<>:"|?*\\/]')
# Names of devices on Windows.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class UploadError(AnymriError):
    """Files that the studio does not take from a browser, for example because they are too large."""


def safe_path(name: str) -> Path | None:
    """Return a relative path for a file name of a browser, which keeps its folders; None for a hidden file.

    What leads out of a folder, control characters and what some file systems do not take is removed.
    """
    parts = []
    for part in name.replace("\\", "/").split("/"):
        if part in ("", ".", ".."):
            continue
        if part.startswith("."):
            return None
        visible = "".join(c for c in unicodedata.normalize("NFC", part) if unicodedata.category(c)[0] != "C")
        parts.append(_short(_UNSAFE.sub("_", visible).strip(" .") or "file"))
    parts = parts[-_PARTS:]
    return Path(*parts) if parts else Path("file")


def _short(part: str) -> str:
    """Return a part of a path that is not too long; its end stays, which has the suffix."""
    if _RESERVED.fullmatch(part):
        part = f"_{part}"
    encoded = part.encode()
    return part if len(encoded) <= _PART_BYTES else encoded[-_PART_BYTES:].decode("utf-8", "ignore").strip(" .")


def _create(folder: Path, path: Path) -> BinaryIO:
    """Create a file in a folder, with a number before its name if there is one already."""
    file, number = folder / path, 1
    while file.exists():
        number += 1
        file = folder / path.with_name(f"{number}-{path.name}")
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.open("xb")


class Upload:
    """Files of one upload in a folder.

    folder  new folder that gets the files
    names   relative paths of the files, as they were written
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[Path] = []
        self._total = self._size = 0
        self._file: BinaryIO | None = None
        self._count = 0
        folder.mkdir(parents=True)

    def begin(self, name: str) -> None:
        """Begin a file."""
        self._count += 1
        if self._count > MOST_FILES:
            raise UploadError(f"These are more than {MOST_FILES} files.", "Open the scans of one patient at a time.")
        path = safe_path(name)
        if path is None:
            return
        try:
            self._file, self._size = _create(self.folder, path), 0
        except OSError as error:  # a file and a folder of one name
            raise UploadError(
                f"The file {shown(name)} cannot be stored: {error.strerror}.", "Rename it, or open fewer files."
            ) from error
        self.names.append(Path(self._file.name).relative_to(self.folder))

    def write(self, data: bytes) -> None:
        """Append to the file."""
        self._total += len(data)
        self._size += len(data)
        if self._total > MOST_BYTES:
            raise UploadError(
                f"These files have more than {MOST_BYTES / 1024**3:.0f} GiB.",
                "Open the scans of one patient at a time.",
            )
        if self._file is None:
            return
        if self._size > LARGEST_FILE:
            raise UploadError(
                f"The file {shown(self.names[-1].name)} has more than {LARGEST_FILE / 1024**3:.0f} GiB.",
                "Open it from its folder: anymri studio FOLDER",
            )
        try:
            self._file.write(data)
        except OSError as error:
            raise _full(error.strerror or str(error)) from error

    def end(self) -> None:
        """End the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise _full(error.strerror or str(error)) from error
            self._file = None

    def place(self) -> Path:
        """Return the folder or file with what was sent, archives unpacked; raise an `AnymriError` if it is nothing."""
        if not self.names:
            raise UploadError("No file was sent.", "Drop the scans of one patient: files, a folder or a zip archive.")
        for name in self.names:
            file = self.folder / name
            if is_zip(file):
                unpack(file, file.with_name(f"{file.stem.strip(' .') or 'archive'}-unpacked"))
                file.unlink()
        place = self.folder
        while len(inside := list(place.iterdir())) == 1 and inside[0].is_dir():
            place = inside[0]
        return place

    def remove(self) -> None:
        """Remove the files."""
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive into a new folder; raise `ImageError` if it is damaged, a bomb or leads out of the folder.

    All sizes are checked before anything is decompressed.
    """
    content = Archive(archive)
    try:
        free = shutil.disk_usage(archive.parent).free - LEAST_FREE
        if content.inflated > min(MOST_UNPACKED, free):
            raise ImageError(
                f"The zip {archive.name} expands to {content.inflated / 1024**3:.1f} GiB, more than can be stored.",
                "Unpack it with another program, and open the folder: anymri studio FOLDER",
            )
        folder.mkdir()
        for entry in content.entries:
            if (path := safe_path(entry)) is not None:
                with _create(folder, path) as target:
                    target.writelines(content.blocks(entry))
    except OSError as error:
        raise _full(error.strerror or str(error)) from error
    finally:
        content.close()


def _full(reason: str) -> OutputError:
    return OutputError(
        f"The files cannot be stored: {reason}.",
        "Free space in the folder for temporary files, or set TMPDIR to another one.",
    )


async def receive(content_type: str, stream: AsyncIterator[bytes], folder: Path) -> Upload:
    """Write the files of a form (multipart/form-data) into a new folder while they arrive.

    Raises an `AnymriError` for what exceeds the limits or is not a form; the folder is removed then, and also if the
    browser leaves.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise UploadError(
            "The request has no files.", "Drop the scans of one patient: files, a folder or a zip archive."
        )
    if shutil.disk_usage(folder.parent).free < LEAST_FREE:
        raise _full("the disk is full")
    upload = Upload(folder)
    field, header = bytearray(), bytearray()
    names: list[str | None] = [None]
    ends: list[bool] = []

    def end_of_header() -> None:
        if bytes(field).lower() == b"content-disposition":
            _, found = parse_options_header(bytes(header))
            name = found.get(b"filename")
            names[0] = None if name is None else name.decode("utf-8", "replace")
        field.clear()
        header.clear()

    def end_of_headers() -> None:
        if names[0] is not None:
            upload.begin(names[0])

    def data(content: bytes, start: int, end: int) -> None:
        upload.write(content[start:end])

    def end_of_part() -> None:
        upload.end()
        names[0] = None

    parser = MultipartParser(
        options[b"boundary"],
        {
            "on_header_field": lambda content, start, end: field.extend(content[start:end]),
            "on_header_value": lambda content, start, end: header.extend(content[start:end]),
            "on_header_end": end_of_header,
            "on_headers_finished": end_of_headers,
            "on_part_data": data,
            "on_part_end": end_of_part,
            "on_end": lambda: ends.append(True),
        },
    )
    try:
        async for block in stream:
            parser.write(block)
        parser.finalize()
        if not ends:
            raise FormParserError
    except BaseException as error:
        upload.remove()
        if isinstance(error, FormParserError):
            raise UploadError("The files did not arrive completely.", "Drop them again.") from error
        raise
    return upload
