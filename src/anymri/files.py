"""Writing of files: an interrupted command leaves the old file or the new one, never half of one. Reading of text.

Names of temporary files and folders begin with `TEMPORARY` and contain host and process, so that a later command
recognises and removes what a killed one left.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import socket
import stat
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from anymri.errors import AnymriWarning, OutputError

TEMPORARY = ".anymri-"
_log = logging.getLogger(__name__)
_LOCK = TEMPORARY + "lock"
# No file takes longer to write; the age decides where a temporary file comes from another host.
_SECONDS_OF_A_LEFTOVER = 24 * 60 * 60
# Errors of file systems that cannot lock files, such as Lustre without the mount option `flock`.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
# Far above the lists and settings of any cohort; tables of a large evaluation have some hundred megabytes.
_LARGEST_TEXT, LARGEST_TABLE = 20_000_000, 2_000_000_000


class TextError(ValueError):
    """A file that is not text in UTF-8 of at most some size; the message is the reason, as the end of a sentence."""


def read_text(path: Path, limit: int = _LARGEST_TEXT) -> str:
    """Return the text of a file in UTF-8, without byte order mark; line ends stay as they are.

    limit  largest number of bytes

    Raises `TextError` for a file that is not regular, too large or not text, `OSError` if it cannot be opened. Without
    these checks a pipe would block the command, and a device fill the memory.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise TextError("it is not a regular file")
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise TextError(f"it has more than {limit // 1_000_000} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError("it is not text in UTF-8") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the folder of `path`, which replaces `path` on success and is deleted on failure.

    Its name keeps the suffixes of `path`, because writers choose the format by them. Raises `OutputError` if `path`
    cannot be written.
    """
    temporary = temporary_path(path.parent, path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield temporary
        temporary.replace(path)
        _log.debug("wrote %s", path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        _remove(temporary)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which becomes `path` on success and is deleted on failure.

    path  does not exist, or is empty, see `is_unused`

    Raises `OutputError` if it cannot be written.
    """
    temporary = temporary_path(path.parent, path.name)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def output_folder(path: Path) -> Path:
    """Create the folder `path` if needed and return it; raise `OutputError` if files cannot be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path)
        temporary.touch(exist_ok=False)
        temporary.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def check_writable(path: Path) -> None:
    """Raise `OutputError` if a file or folder cannot be written, as far as that is seen without creating anything."""
    place = next(each for each in (path, *path.absolute().parents) if each.exists())
    if place != path and not place.is_dir():
        raise cannot_write(path, NotADirectoryError(errno.ENOTDIR, f"{place} is not a folder"))
    if not os.access(place, os.W_OK):
        raise cannot_write(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def refuse_overwriting(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise `OutputError` if an output is the same file as an input, also by a link."""
    existing = [path for path in inputs if path.exists()]
    for output in outputs:
        for path in existing:
            if output.exists() and output.samefile(path):
                raise OutputError(
                    f"{output} would be overwritten, and it is an input ({path}).",
                    "Choose another folder or file for the output, on the command line with -o.",
                )


@contextmanager
def locked(folder: Path, *inner: str) -> Iterator[None]:
    """Lock an output folder, which is created if needed, so that no other command on any host writes to it.

    Temporary files that killed commands left in it and in its folders `inner` are removed. The lock ends with the
    process, however it ends; a folder that was created here and is still empty is removed. Raises `OutputError`
    if another command has locked the folder, or if it cannot be written.
    """
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    output_folder(folder)
    try:
        with _lock(folder):
            for place in (folder, *(folder / name for name in inner)):
                remove_leftovers(place, held=True)
            yield
    finally:
        for place in created:
            with suppress(OSError):  # it is not empty
                place.rmdir()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    file = folder / _LOCK
    lock = FileLock(file, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        holder = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        raise OutputError(
            f"Another anymri command is writing to {folder}: {holder or 'a process that has just started'}.",
            "Wait until it has finished, or choose another folder.",
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise cannot_write(folder, error) from error
        warnings.warn(
            f"The file system of {folder} has no locks: do not start a second command that writes there.",
            AnymriWarning,
            stacklevel=2,
        )
        yield
        return
    try:
        with suppress(OSError):  # on a full disk the lock holds all the same
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        _remove(file)  # before the release, or it could be the next command's
        lock.release()


def is_unused(folder: Path, *ignored: str) -> bool:
    """Return whether a folder does not exist, or has nothing in it but temporary files of anymri.

    ignored  names of files that do not count either
    """
    return not folder.exists() or (
        folder.is_dir() and all(child.name.startswith(TEMPORARY) or child.name in ignored for child in folder.iterdir())
    )


def temporary_path(folder: Path, name: str = "") -> Path:
    """Return a new path in `folder` for a file or folder of this process, which ends as `name` does."""
    # Only the end of a long name, because the name of a file has at most 255 bytes.
    return folder / f"{_prefix()}{os.getpid()}-{secrets.token_hex(4)}-{name[-20:]}"


def remove_leftovers(folder: Path, held: bool = False) -> None:
    """Remove the temporary files and folders of processes that do not run any more.

    held  whether this process has locked the folder, see `locked`: then files of other hosts and its own are leftovers
          of any age
    """
    for leftover in folder.glob(f"{TEMPORARY}*-*"):
        pid = leftover.name.removeprefix(_prefix()).partition("-")[0]
        if leftover.name.startswith(_prefix()) and pid.isdecimal():
            is_left = not _is_running(int(pid)) or (held and int(pid) == os.getpid())
        else:
            is_left = held
        if is_left or _age(leftover) > _SECONDS_OF_A_LEFTOVER:
            _remove(leftover)


def cache_folder() -> Path:
    """Return the folder for what can be made again: `$ANYMRI_CACHE`, or `anymri` in the user's cache folder.

    It need not exist, and may be read-only.
    """
    if named := os.environ.get("ANYMRI_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anymri"


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, which is read once per process unless its size or time changes.

    Raises `OSError` if it cannot be read or is not a regular file: reading a pipe would never end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "This is not a regular file", str(path))
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Return the hexadecimal SHA-256 of a value as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error of a file or folder that cannot be written."""
    return OutputError(
        f"{path} cannot be written: {error.strerror or error}.",
        "Choose another folder for the output, or free space there and check its permissions.",
    )


@cache
def _prefix() -> str:
    """Return how the names of temporary files of this host begin."""
    try:
        # Containers may have the name of their host, and processes of their own.
        namespace = f"{Path('/proc/self/ns/pid').stat().st_ino}-"
    except OSError:
        namespace = ""
    return f"{TEMPORARY}{socket.gethostname()}-{namespace}"


def _remove(path: Path) -> None:
    """Remove a file or folder as far as possible: a leftover that stays does no harm."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _is_running(pid: int) -> bool:
    """Return whether a process exists on this host; true where that cannot be found out."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _age(path: Path) -> float:
    """Return the seconds since a file was changed; 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
