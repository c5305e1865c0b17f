"""Sources of a cohort: what each of its cases is read from, and whether that has changed since it was read.

A source is a case of one of the layouts of `anymri.data.layouts`, or a folder or archive with a raw study, as DICOM
series; see `anymri.data.source_search`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from anymri.data.case import Case, check_name
from anymri.errors import CohortError
from anymri.files import digest, sha256
from anymri.text import shown

# Roles of files that have no influence on a segmentation.
_NOT_READ = ("label", "label voxels")


@dataclass(frozen=True)
class Source:
    """What one case of a cohort is read from.

    name     name of the case, of its folder and of its row in tables
    content  a case, or the folder or file of a raw study
    """

    name: str
    content: Case | Path

    def __post_init__(self) -> None:
        check_name(self.name)

    @classmethod
    def of(cls, case: Case) -> Source:
        """Return the source of a case."""
        return cls(case.name, case)

    def absolute(self) -> Source:
        """Return the source with absolute paths, for processes in other folders."""
        content = self.content
        if isinstance(content, Path):
            return replace(self, content=content.absolute())
        scans = {modality: Path(path).absolute() for modality, path in content.scans.items()}
        label, mask = (None if path is None else path.absolute() for path in (content.label, content.brain_mask))
        return replace(self, content=replace(content, scans=scans, label=label, brain_mask=mask))

    def files(self) -> dict[str, Path]:
        """Return the role, or the path within the folder, of every file that is read -> its path."""
        if isinstance(self.content, Case):
            return {role: path for role, path in self.content.files().items() if role not in _NOT_READ}
        root = self.content
        if not root.is_dir():
            return {root.name: root}
        return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}


class Fingerprint(NamedTuple):
    """State of the files of a source.

    quick    hash of their roles, sizes and times of change
    content  hash of their roles and contents
    """

    quick: str
    content: str


def quick_fingerprint(source: Source) -> str:
    """Return the hash of roles, sizes and times of change of the files; raise `OSError` if one does not exist."""
    status = {role: path.stat() for role, path in source.files().items()}
    return digest({role: [each.st_size, each.st_mtime_ns] for role, each in status.items()})


def content_fingerprint(source: Source) -> str:
    """Return the hash of roles and contents of the files; raise `OSError` if one cannot be read."""
    return digest({role: sha256(path) for role, path in source.files().items()})


def fingerprint(source: Source) -> Fingerprint:
    """Return both hashes; a file that changes meanwhile gives a quick one that no later state has."""
    quick = quick_fingerprint(source)
    return Fingerprint(quick, content_fingerprint(source))


@dataclass(frozen=True, eq=False)
class Loaded:
    """A source that was read.

    value    what the function returned that read it
    prints   state of its files when that began
    seconds  time that it took
    """

    value: Any
    prints: Fingerprint
    seconds: float


def load(read: Callable[[Case | Path], Any], source: Source) -> Loaded:
    """Read a source by a function; here, and not beside the networks, so that worker processes do not import torch."""
    began = time.monotonic()
    prints = fingerprint(source)
    return Loaded(read(source.content), prints, time.monotonic() - began)


@dataclass(frozen=True)
class Shard:
    """One of `total` shares of a cohort, with its number, from 1."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that a text such as "2/8" names; raise `CohortError` for any other."""
        number, _, total = text.partition("/")
        if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
            raise CohortError(
                f"{shown(text, 40)} is not a shard.", "Give its number, from 1, and their count: --shard 2/8"
            )
        return cls(int(number), int(total))

    def of(self, sources: Sequence[Source]) -> list[Source]:
        """Return the share of this shard: every `total`-th source."""
        return list(sources[self.number - 1 :: self.total])
