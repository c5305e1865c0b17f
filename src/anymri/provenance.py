"""Provenance of a result: the command, its settings, its input files and the versions of the software."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from anymri.files import sha256

# Name of an input -> {"file": path, "sha256": hexadecimal hash}.
Inputs = dict[str, dict[str, str]]

_RECORDED = ("anymri", "torch", "lightning", "monai", "numpy", "scipy", "nibabel")


def hashed(files: Mapping[str, Path]) -> Inputs:
    """Return inputs with their hashes; call it when they are read, because files may change later.

    files  name of an input -> its file
    """
    return {name: {"file": str(path), "sha256": sha256(path)} for name, path in files.items()}


def provenance(command: str, configuration: Mapping[str, Any], inputs: Inputs, device: str) -> dict[str, Any]:
    """Return the provenance of a result as plain values, ready for JSON.

    configuration  resolved settings, seeds included
    inputs         what was read, see `hashed`
    device         where it was computed, for example "cpu"
    """
    return {
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "configuration": dict(configuration),
        "inputs": inputs,
        "device": device,
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _RECORDED},
        "platform": platform.platform(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
