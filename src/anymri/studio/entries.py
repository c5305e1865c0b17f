"""What is open in the studio: cases and evaluations, and the files of each that its page may get."""

from __future__ import annotations

import secrets
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from anymri.data.case import Case
from anymri.data.layouts import check_exists
from anymri.data.layouts.listing import walk
from anymri.data.source_search import find_sources
from anymri.data.sources import Source
from anymri.data.workers import Failure
from anymri.errors import AnymriError, AnymriWarning, RunError
from anymri.inference.result_files import MEASUREMENTS, PROVENANCE, SEGMENTATION
from anymri.modalities import MODALITIES
from anymri.studio.source import CaseSource

Kind = Literal["case", "evaluation"]
State = Literal["found", "proposed", "ready", "failed"]

_METRICS = "metrics.csv"
# Levels of folders that are searched for an image.
_DEPTH = 4


@dataclass(eq=False)
class Entry:
    """A case or an evaluation that is open.

    source         of a case
    evaluation     folder of an evaluation
    parent         identifier of the evaluation that a case is from
    examination    what the doctor found, see `anymri.studio.examination`
    prepared       volumes and label maps, see `anymri.studio.preparing`
    segmentations  (weights, subset) -> what the page gets
    agreement      weights -> subset -> modality -> mean Dice of the segmentations with and without it
    masks          reference of a label map -> its file on the grid of the study
    files          name in addresses -> file; no other file is ever sent
    versions       number of corrections
    """

    kind: Kind
    name: str
    source: CaseSource | None = None
    evaluation: Path | None = None
    parent: str | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    state: State = "found"
    error: Failure | None = None
    examination: dict[str, Any] | None = None
    prepared: dict[str, Any] | None = None
    segmentations: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    agreement: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    masks: dict[tuple[str, ...], Path] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    versions: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the entry as the page lists it."""
        error = None if self.error is None else {"what": self.error.what, "fix": self.error.fix}
        plain = {"id": self.id, "kind": self.kind, "name": self.name, "state": self.state}
        return {**plain, "error": error, "parent": self.parent}

    def url(self, path: Path, name: str) -> str:
        """Let the page get a file under a name, and return the address."""
        self.files[name] = path
        return f"/api/cases/{self.id}/files/{name}"

    @property
    def of_case(self) -> CaseSource:
        """What the case is read from."""
        assert self.source is not None
        return self.source

    def forget_maps(self) -> None:
        """Forget the volumes, label maps and segmentations of an earlier preparation."""
        for known in (self.segmentations, self.agreement, self.masks, self.files):
            known.clear()

    def fail(self, failure: Failure) -> None:
        """Note why a case cannot be used."""
        self.state, self.error = "failed", failure


class Entries:
    """All that is open, by identifier; used by several threads.

    folder  temporary folder, in which each case has a folder
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Entry]:
        with self._lock:
            return iter(list(self._entries.values()))

    def get(self, entry: str, kind: Kind) -> Entry | None:
        """Return the entry with an identifier."""
        found = self._entries.get(entry)
        return found if found is not None and found.kind == kind else None

    def remove(self, entry: Entry) -> None:
        """Close an entry."""
        with self._lock:
            self._entries.pop(entry.id, None)

    def add_case(self, name: str, parent: str | None = None, **source: Any) -> Entry:
        """Open a case; the arguments are those of `CaseSource`."""
        entry = Entry("case", name, parent=parent)
        entry.source = CaseSource(entry.id, name, self.folder / entry.id, **source)
        with self._lock:
            self._entries[entry.id] = entry
        return entry

    def add_evaluation(self, folder: Path) -> Entry:
        """Open an evaluation."""
        entry = Entry("evaluation", folder.resolve().name, evaluation=folder)
        with self._lock:
            self._entries[entry.id] = entry
        return entry

    def open(self, path: Path, scheme: str | None = None) -> None:
        """Open what the user names: a case, a result, an evaluation, or a folder of cases or of results.

        Raises an `AnymriError` if it is none of these.
        """
        check_exists(path)
        if (path / _METRICS).is_file() and (path / PROVENANCE).is_file():
            self.add_evaluation(path)
            return
        results = [each for each in (path, *_folders(path)) if _is_result(each)]
        if results:
            for folder in results[:1] if results[0] == path else results:
                self._open_result(folder, scheme)
            return
        for source in _sources(path):
            content = source.content
            if isinstance(content, Case):
                scans = {m: file.absolute() for m, file in content.scans.items()}
                given: dict[str, Any] = {"scans": scans, "label": content.label, "brain_mask": content.brain_mask}
            else:
                given = {"place": content}
            self.add_case(source.name, scheme=scheme, **given)

    def _open_result(self, folder: Path, scheme: str | None) -> None:
        """Open the case of a result, from the scans that its provenance names."""
        from anymri.analysis.reading import read_provenance

        inputs: Mapping[str, Mapping[str, str]] = read_provenance(folder).get("inputs", {})
        files = {role: Path(str(each.get("file"))) for role, each in inputs.items()}
        scans = {m: files[m].absolute() for m in MODALITIES if m in files}
        absent = [str(file) for file in scans.values() if not file.exists()]
        if absent or not scans:
            raise RunError(
                f"The scans of {folder} are not where its provenance says: {', '.join(absent) or 'nowhere'}.",
                "Put them back, or open the folder of the scans instead.",
            )
        mask = files.get("brain_mask")
        label = files.get("label")
        self.add_case(folder.resolve().name, scans=scans, saved=folder, brain_mask=mask, label=label, scheme=scheme)


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []


def _is_result(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (SEGMENTATION, MEASUREMENTS, PROVENANCE))


def _sources(path: Path) -> list[Source]:
    """Return the cases of a path; one that is not clear becomes a case that the doctor explains."""
    alone = [Source("case", path)]
    with suppress(AnymriError):
        name = path.resolve().name if path.is_dir() else path.name.partition(".")[0]
        alone = [Source(name, path)]
    if not path.is_dir() and path.suffix.lower() != ".csv":
        return alone
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AnymriWarning)
            return find_sources(path)
    except AnymriError:
        if path.is_dir() and any(listing.images for _, listing in walk(path, _DEPTH)):
            return alone
        raise
