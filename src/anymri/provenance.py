"""Provenance of a result: the command, its settings, its input files and the versions of the software."""

from __future__ import annotations

import datetime
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

from anymri.files import sha256

# Name of an input -> {"file": path, "sha256": hexadecimal hash}.
Inputs = dict[str, dict[str, str]]

# Settings whose values are paths.
_PATHS = ("data", "labels", "predictions", "cache", "initial_weights")
# Absolute paths of POSIX and of Windows in a text, up to a space or a quotation mark; the last part is a group.
_ABSOLUTE = re.compile(r"""(?<![^\s'"(\[])(?:[A-Za-z]:[\\/]|/)(?:[^\s'",;)\]]*[\\/])?([^\s'",;)\]\\/]+)""")
_records_paths: ContextVar[bool] = ContextVar("records_paths", default=True)

_RECORDED = ("anymri", "torch", "lightning", "monai", "numpy", "scipy", "nibabel")


def hashed(files: Mapping[str, Path]) -> Inputs:
    """Return inputs with their hashes; call it when they are read, because files may change later.

    files  name of an input -> its file
    """
    return {name: {"file": str(path), "sha256": sha256(path)} for name, path in files.items()}


def provenance(command: str, configuration: Mapping[str, Any], inputs: Inputs, device: str) -> dict[str, Any]:
    """Return the provenance of a result as plain values, ready for JSON; without folders in `without_paths`.

    configuration  resolved settings, seeds included
    inputs         what was read, see `hashed`
    device         where it was computed, for example "cpu"
    """
    return {
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "configuration": dict(configuration) if records_paths() else _without_paths(configuration, inputs),
        "inputs": {role: {**each, "file": recorded(each["file"])} for role, each in inputs.items()},
        "device": device,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _RECORDED},
        "platform": platform.platform(),
    }


@contextmanager
def without_paths(without: bool = True) -> Iterator[None]:
    """Record names of files without their folders, which can be names of patients or of a site.

    without  false to record paths as usual
    """
    token = _records_paths.set(not without)
    try:
        yield
    finally:
        _records_paths.reset(token)


def records_paths() -> bool:
    """Return whether provenance names files with their folders."""
    return _records_paths.get()


def name_of_weights(file: Path | str) -> str:
    """Return the name of weights by their file: that of their run folder, or else that of the file."""
    path = PurePath(file)
    in_run = path.parent.name == "checkpoints" and path.parents[1].name
    return path.parents[1].name if in_run else path.name.removesuffix(".safetensors")


def recorded(path: Path | str) -> str:
    """Return a path as provenance records it: the path itself, or its last part in `without_paths`."""
    return str(path) if records_paths() else PurePath(path).name


def _without_paths(configuration: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    """Return settings with the last part of each path in place of the path, also in their texts."""
    files = sorted((each["file"] for each in inputs.values()), key=len, reverse=True)

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: clean(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [clean(each) for each in value]
        if not isinstance(value, str):
            return value
        for file in files:  # their folders can have spaces, at which a path in a text seems to end
            value = value.replace(file, PurePath(file).name)
        return _ABSOLUTE.sub(r"\1", value)

    return {
        name: recorded(value) if name in _PATHS and isinstance(value, str) else clean(value)
        for name, value in configuration.items()
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
