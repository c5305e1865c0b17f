"""Installation of weights from a file or a URL, whole and checked or not at all."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from anymri.errors import WeightsError
from anymri.files import cannot_write, locked, temporary_path
from anymri.text import shown
from anymri.weights import download
from anymri.weights.catalogue import Installed
from anymri.weights.folders import FROZEN, SUFFIX, folders, installed_files
from anymri.weights.locate import RUN_WEIGHTS, find_weights
from anymri.weights.store import load_weights, read_card

_CHUNK_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def add(source: str, name: str | None = None, sha256: str | None = None) -> Installed:
    """Install weights in the first folder of the user and return them.

    source  a weights file, a run folder, or a URL of https
    name    name to install them by; by default that of the file or of the run folder
    sha256  hexadecimal SHA-256 of the file; necessary for a URL

    Raises `WeightsError` if the weights cannot be used, do not have the hash, or the name is taken, `OutputError` if
    the folder cannot be written. Nothing is installed then.
    """
    is_url = "://" in source
    if is_url:
        download.check_url(source)
    expected = _checked_hash(source, sha256, is_url)
    file = None if is_url else find_weights(Path(source))
    name = _checked_name(name or _default_name(source, file))
    folder = folders()[0]
    with locked(folder):
        stage = temporary_path(folder)
        try:
            stage.mkdir()
            copy = stage / f"{name}{SUFFIX}"
            found = _write(copy, download.chunks(source) if file is None else _chunks(file))
            if expected not in (None, found):
                raise WeightsError(
                    f"{source} has the SHA-256 {found}, not {expected}: it is damaged or is another file.",
                    "Check where the file and the hash are from; nothing was installed.",
                )
            _check(copy, source, file)
            # The weights come last, because they need their frozen tensors.
            for each in sorted(stage.iterdir(), key=lambda path: path == copy):
                each.replace(folder / each.name)
        except OSError as error:
            raise cannot_write(folder, error) from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    return Installed(name, folder / f"{name}{SUFFIX}")


def _check(copy: Path, source: str, file: Path | None) -> None:
    """Load the copy of weights, with a copy of their frozen tensors; raise `WeightsError` that names the source."""
    try:
        frozen = read_card(copy).frozen_file
        if frozen and file is None:
            raise WeightsError(
                f"{source} needs the file {frozen} too, and a URL names one file.",
                "Download both into one folder, and add the first by its path.",
            )
        if frozen and file is not None and file.with_name(frozen).is_file():
            _write(copy.with_name(frozen), _chunks(file.with_name(frozen)))
        load_weights(copy)
    except WeightsError as error:
        raise WeightsError(error.what.replace(str(copy), source), error.fix) from error


def _write(path: Path, content: Iterable[bytes]) -> str:
    """Write chunks into a new file and return the hexadecimal SHA-256 of all."""
    summed = hashlib.sha256()
    with path.open("xb") as stream:
        for chunk in content:
            stream.write(chunk)
            summed.update(chunk)
    return summed.hexdigest()


def _chunks(file: Path) -> Iterator[bytes]:
    """Yield the content of a file; raise `WeightsError` if it cannot be read."""
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}.", "Check its permissions.") from error


def _checked_hash(source: str, sha256: str | None, is_url: bool) -> str | None:
    """Return a hash in lower case; raise `WeightsError` if it is not one, or is missing for a URL."""
    if sha256 is None and is_url:
        raise WeightsError(
            "Weights from a URL are installed only with the SHA-256 of their file.",
            f"Add it from a source that you trust: anymri weights add {source} --sha256 HASH",
        )
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise WeightsError(
            f"{shown(sha256)} is not a SHA-256: that has 64 hexadecimal digits.", "Copy all of it, without spaces."
        )
    return sha256 and sha256.lower()


def _default_name(source: str, file: Path | None) -> str:
    """Return the stem of the file that a URL or path names, and for weights of a run the name of the run folder."""
    if file is None:
        return PurePosixPath(unquote(urlsplit(source).path)).stem
    is_run = any(file == Path(source) / name for name in RUN_WEIGHTS)
    return file.parents[1].resolve().name if is_run else file.stem


def _checked_name(name: str) -> str:
    """Return a name for new weights; raise `WeightsError` if it is not usable or taken."""
    if not _NAME.fullmatch(name) or name.startswith(FROZEN):
        raise WeightsError(
            f"Weights cannot be named {shown(name)}.",
            "Choose another name of letters, digits, dots and hyphens, at most 100: --name NAME",
        )
    if name in installed_files() or (folders()[0] / f"{name}{SUFFIX}").exists():
        raise WeightsError(
            f"Weights named {name} are installed already.",
            f"Choose another name (--name NAME), or remove the others first: anymri weights remove {name}",
        )
    return name
