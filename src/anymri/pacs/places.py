"""Names on disk of a node: they are hashes, because UIDs come from other programs and can be any text."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

# Folders of a node: objects that are being written, received objects by study, results by job, work in progress.
INCOMING, OBJECTS, RESULTS, WORK = "incoming", "objects", "results", "work"
_LENGTH = 32
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64


def is_uid(text: str) -> bool:
    """Return whether a text is a UID as DICOM defines it; leading zeros, which some scanners write, are allowed."""
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None


def hashed(*parts: str) -> str:
    """Return a name of 32 hexadecimal digits that follows from texts."""
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:_LENGTH]


def study_folder(folder: Path, study: str) -> Path:
    """Return the folder of the objects of a study."""
    return folder / OBJECTS / hashed(study)


def object_file(folder: Path, study: str, uid: str) -> Path:
    """Return the file of an object."""
    return study_folder(folder, study) / f"{hashed(uid)}.dcm"


def result_folder(folder: Path, study: str, content: str, weights: str) -> Path:
    """Return the folder of the results of a job."""
    return folder / RESULTS / hashed(study, content, weights)
