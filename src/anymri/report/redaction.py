"""Text for pages without names of files and folders, because these can be names of patients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from anymri.text import visible

# Absolute paths of POSIX and of Windows, after a space, a quotation mark or a bracket.
_PATH = re.compile(r"""(?<![^\s'"(\[])(?:[A-Za-z]:[\\/]|/)[^\s'",;)\]]+""")


def sentence(text: str, inputs: Mapping[str, Any]) -> str:
    """Return a warning as `without_folders` does, with a capital letter at its beginning."""
    cleaned = without_folders(text, inputs)
    return cleaned[:1].upper() + cleaned[1:]


def without_folders(text: str, inputs: Mapping[str, Any]) -> str:
    """Return a text with roles in place of the files of a case, and without the folders of other files.

    inputs  role -> `file`, as in provenance.json
    """
    files = {str(each["file"]): f"the {role} file" for role, each in inputs.items() if each.get("file")}
    for file in sorted(files, key=len, reverse=True):
        text = text.replace(file, files[file])
        for kind in (PurePosixPath, PureWindowsPath):
            name = kind(file).name
            if not (name.isalpha() and name.islower()):  # the folder of a series may be called "brain"
                text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", files[file], text)
    # Folders of the case can have spaces, at which a path seems to end.
    parents = {str(folder) for file in files for folder in PurePosixPath(file).parents if len(folder.parts) > 1}
    for folder in sorted(parents, key=len, reverse=True):
        text = text.replace(folder, "/folder")
    return visible(_PATH.sub("a file", text))
