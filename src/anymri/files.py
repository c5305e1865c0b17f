"""Writing of files: an interrupted command leaves the old file or the new one, never half of one.

Names of temporary files and folders begin with `TEMPORARY` and contain host and process, so that a later command
recognises and removes what a killed one left.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from anymri.errors import OutputError

TEMPORARY = ".anymri-"
_LOCK = TEMPORARY + "lock"
# No file takes longer to write; the age decides where a temporary file comes from another host.
_SECONDS_OF_A_LEFTOVER = 24 * 60 * 60


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the folder of `path`, which replaces `path` on success and is deleted on failure.

    Its name keeps the suffixes of `path`, because writers choose the format by them. Raises `OutputError` if `path`
    cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(), suffix=path.name)
        os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~umask())
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


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
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path


@contextmanager
def locked(folder: Path, *inner: str) -> Iterator[None]:
    """Hold the output folder `folder`, which is created if needed, against other commands, on any host.

    Temporary files that killed commands left in it and in its folders `inner` are removed. The lock ends with the
    process, however it ends. Raises `OutputError` if another command holds the folder, or if it cannot be written.
    """
    from filelock import FileLock, Timeout

    output_folder(folder)
    file = folder / _LOCK
    try:
        with FileLock(file, timeout=0):
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            for place in (folder, *(folder / name for name in inner)):
                _remove(leftover for leftover in place.glob(f"{TEMPORARY}*") if leftover != file)
            try:
                yield
            finally:
                file.unlink(missing_ok=True)
    except Timeout as error:
        raise OutputError(
            f"Another anymri command is writing to {folder}: {file.read_text(encoding='utf-8', errors='replace')}.",
            "Wait until it has finished, or choose another folder.",
        ) from error


def is_unused(folder: Path) -> bool:
    """Return whether a folder does not exist, or has nothing in it but temporary files of anymri."""
    return not folder.exists() or (
        folder.is_dir() and all(child.name.startswith(TEMPORARY) for child in folder.iterdir())
    )


def temporary_prefix() -> str:
    """Return how the names of this process's temporary files and folders begin."""
    return f"{TEMPORARY}{socket.gethostname()}-{os.getpid()}-"


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders of processes that do not run any more."""
    here = f"{TEMPORARY}{socket.gethostname()}-"
    for leftover in folder.glob(f"{TEMPORARY}*-*"):
        pid = leftover.name.removeprefix(here).partition("-")[0]
        is_local = leftover.name.startswith(here) and pid.isdecimal()
        if (is_local and not _is_running(int(pid))) or _age(leftover) > _SECONDS_OF_A_LEFTOVER:
            _remove([leftover])


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, which is read once per process unless its size or time changes."""
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def umask() -> int:
    """Return the permissions that new files of this process do not have."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove(paths: Iterable[Path]) -> None:
    """Remove files and folders as far as possible: a leftover that stays does no harm."""
    for path in paths:
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
        return True
    return True


def _age(path: Path) -> float:
    """Return the seconds since a file was changed; 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written: {error.strerror or error}.",
        "Choose another folder for the output, or free space there and check its permissions.",
    )
