"""Text for pages without names of files and folders, because these can be names of patients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from anymri.data.image import SUFFIXES
from anymri.text import visible

# Absolute paths of POSIX and of Windows, after a space, a quotation mark or a bracket.
_PATH = re.compile(r"""(?<![^\s'"(\[])(?:[A-Za-z]:[\\/]|/)[^\s'",;)\]]*[^\s'",;:)\]]""")
# The list of names in the notes of `anymri.data.layouts.found`: "Not used are links that point nowhere: 2 (a, b)."
_COUNTED = re.compile(r"^(Not used are [^:]+: \d+) \(.*\)\.$")
# Names of images, which may have spaces: from the beginning of a sentence, a list or a bracket up to the suffix.
_SUFFIXES = "|".join(re.escape(suffix) for suffix in sorted(SUFFIXES, key=len, reverse=True))
_BEFORE = r"""[.;:,]\ |\(|\ (?=['"])"""
_IMAGE = re.compile(rf"""((?:^|{_BEFORE})['"]?)(?:(?!{_BEFORE}).)*?(?:{_SUFFIXES})(?!\w)""", re.IGNORECASE)


def sentence(text: str, inputs: Mapping[str, Any]) -> str:
    """Return a warning as `without_folders` does, with a capital letter at its beginning."""
    cleaned = without_folders(text, inputs)
    return cleaned[:1].upper() + cleaned[1:]


def without_folders(text: str, inputs: Mapping[str, Any]) -> str:
    """Return a text with roles in place of the files of a case, and without the folders of other files.

    inputs  role -> `file`, as in provenance.json

    Names of images that are not among the inputs become "a file", with the words of the sentence before them.
    """
    text = _COUNTED.sub(r"\1.", text)
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
    return visible(_PATH.sub("a file", _IMAGE.sub(r"\1a file", text)))
