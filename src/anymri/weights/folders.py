"""Folders with installed weights: those of the user, then the starters inside the package."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

SUFFIX = ".safetensors"
# Beginning of the names of files that hold the unchanged tensors of other weights.
FROZEN = "frozen-"
STARTERS = Path(__file__).parent / "starter"


def folders() -> tuple[Path, ...]:
    """Return the folders of the user, of which weights are added to the first.

    They are those of the environment variable ANYMRI_WEIGHTS, separated as in PATH, or else the folder for data of the
    platform. They need not exist.
    """
    named = [Path(each) for each in os.environ.get("ANYMRI_WEIGHTS", "").split(os.pathsep) if each]
    return tuple(named) or (_platform_folder() / "anymri" / "weights",)


def installed_files() -> dict[str, Path]:
    """Return the name of installed weights -> their file; of equal names the first folder has precedence."""
    found: dict[str, Path] = {}
    for folder in (*folders(), STARTERS):
        with suppress(OSError):  # a folder that cannot be read does not hide the others
            for file in sorted(folder.glob(f"*{SUFFIX}")):
                if file.is_file() and not file.name.startswith((".", FROZEN)):
                    found.setdefault(file.stem, file)
    return found


def _platform_folder() -> Path:
    """Return the folder in which programs of this platform keep data of the user."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
