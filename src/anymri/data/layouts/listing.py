"""Listing of folders: their visible images and folders by name. Images that cannot be read are refused."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from anymri.data.image import image_stem
from anymri.errors import ImageError

_OTHER_SUFFIXES = frozenset(
    (".hdr", ".img", ".dcm", ".ima", ".mnc", ".minc", ".zip", ".bz2", ".xz", ".zst", ".part", ".crdownload", ".tmp")
)
_PERMISSIONS = "Check its permissions and links."

# Folders on the way to a folder, each by its `identity`.
Above = tuple[tuple[int, int], ...]


@dataclass
class Listing:
    """Visible content of a folder, sorted by name.

    images   image files with their names without suffix
    folders  folders, also by links
    others   files of images in formats that are not read, and parts of downloads
    broken   links that point nowhere, other than those with the suffix of an image
    """

    images: list[tuple[Path, str]] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)


def list_folder(folder: Path, check: bool = True) -> Listing:
    """Return the content of a folder; an empty listing if it does not exist.

    check  whether each image is checked by `check_readable`

    Raises `ImageError` if the folder cannot be listed, or for an image that cannot be read.
    """
    found = Listing()
    try:
        with os.scandir(folder) as entries:
            visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
    except FileNotFoundError:
        return found
    except OSError as error:
        raise ImageError(f"The folder {folder} cannot be listed.", _PERMISSIONS) from error
    for entry in visible:
        path = folder / entry.name
        stem = image_stem(path)
        if stem is not None:
            if check:
                check_readable(path)
            found.images.append((path, stem))
        elif entry.is_dir():
            found.folders.append(path)
        elif path.suffix.lower() in _OTHER_SUFFIXES:
            found.others.append(path)
        elif entry.is_symlink() and not path.exists():
            found.broken.append(path)
    return found


def walk(folder: Path, depth: int, above: Above = ()) -> Iterator[tuple[Path, Listing]]:
    """Yield a folder and those below it, each with its listing; images are not checked.

    depth  levels of folders below `folder`
    above  folders that links may lead back to, which are not followed
    """
    here = identity(folder)
    if here in above:
        return
    found = list_folder(folder, check=False)
    yield folder, found
    for child in found.folders if depth else ():
        yield from walk(child, depth - 1, (*above, here))


def identity(folder: Path) -> tuple[int, int]:
    """Return what identifies a folder however it is reached."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def folders_above(folder: Path) -> Above:
    """Return the folders that contain `folder`."""
    return tuple(identity(parent) for parent in folder.resolve().parents)


def check_readable(path: Path, role: str = "") -> None:
    """Raise `ImageError` unless the path leads to a regular file that has content and may be read.

    role  text after the path in the error, such as " (T1)"

    So a broken scan never becomes a missing modality.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise ImageError(
                f"{path}{role} is a link that points nowhere.",
                "Restore the file (with DataLad: datalad get), or remove the link.",
            ) from error
        raise ImageError(f"{path}{role} does not exist.", "Check the name, or omit the file.") from error
    except OSError as error:
        raise ImageError(f"{path}{role} cannot be opened.", _PERMISSIONS) from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(
            f"{path}{role} is a folder, although its name is that of an image.",
            "Move the image out of it, or rename it.",
        )
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{path}{role} is not a regular file.", "Replace it by an image, or remove it.")
    if status.st_size == 0:
        raise ImageError(f"{path}{role} is empty: 0 bytes.", "Copy the image again, or remove the file.")
    if not os.access(path, os.R_OK):
        raise ImageError(f"{path}{role} cannot be read.", _PERMISSIONS)
