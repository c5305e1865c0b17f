"""Intake: an object of any source is checked, written whole and recorded, or refused with a status of DICOM."""

from __future__ import annotations

import io
import math
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anymri.files import remove_leftovers, temporary_path
from anymri.pacs import places
from anymri.pacs.configuration import Limits
from anymri.pacs.database import Database
from anymri.text import shown

# Status codes of C-STORE: PS3.4, B.2.3.
SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, NOT_UNDERSTOOD, NOT_AUTHORISED = 0x0000, 0xA700, 0xA900, 0xC000, 0x0124
_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")
_LAST_TAG = 0x0020000E
_BEGINNING = 1_000_000
# A flood of refusals must not flood the log: metrics count each one.
_SECONDS_PER_REPORT = 10.0
# Events of a node for whoever watches it: a kind and its values.
Report = Callable[..., None]


@dataclass(frozen=True)
class Refused:
    """An object that was not taken: status of C-STORE, reason as a word for metrics, and a sentence."""

    status: int
    reason: str
    sentence: str


class Intake:
    """Objects of a node: what it takes, and where it writes.

    writing lock that is held while an object is written, or removed
    counts  since the start: objects that were `taken`, `repeated`, `ignored` (not MR images), and those `refused` by
            reason, as "refused quota"
    """

    def __init__(self, folder: Path, database: Database, limits: Limits, report: Report) -> None:
        self._folder, self._database, self._limits, self._report = folder, database, limits, report
        self._lock, self.writing = threading.Lock(), threading.Lock()
        self.counts: Counter[str] = Counter()
        self._reported: dict[str, float] = {}
        self._bytes = database.bytes_on_disk()

    def recount(self) -> None:
        """Count the bytes on disk again, after objects were removed."""
        self._bytes = self._database.bytes_on_disk()

    def take(self, head: bytes, content: memoryview | bytes, expected: str | None, priority: int) -> Refused | None:
        """Take an object, and return None, or why it was refused.

        head      preamble and file meta information
        content   the encoded object after them
        expected  SOPInstanceUID that the sender announced; None if it announced none
        priority  priority of its study

        An object is on disk and in the database when this returns. One that the node has already is taken and not
        written again; one that is not an MR image is taken and not kept, because the node is not an archive.
        """
        try:
            refused = self._take(head, content, expected, priority)
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            refused = Refused(OUT_OF_RESOURCES, "disk", f"An object cannot be written: {reason}.")
        if refused is not None:
            self.refuse(refused)
        return refused

    def refuse(self, refused: Refused) -> None:
        """Count a refusal, and report it unless one for the same reason was reported some seconds ago."""
        self._count(f"refused {refused.reason}")
        now = time.monotonic()
        with self._lock:
            is_news = now - self._reported.get(refused.reason, -math.inf) > _SECONDS_PER_REPORT
            if is_news:
                self._reported[refused.reason] = now
        if is_news:
            self._report("refused", reason=refused.reason, text=refused.sentence)

    def _take(self, head: bytes, content: memoryview | bytes, expected: str | None, priority: int) -> Refused | None:
        size = len(head) + len(content)
        if size > self._limits.bytes_per_object:
            return Refused(OUT_OF_RESOURCES, "size", f"An object has {size} bytes, more than bytes_per_object.")
        uids = _identity(head, content)
        if uids is None:
            return Refused(NOT_UNDERSTOOD, "damaged", "An object cannot be parsed.")
        if wrong := _wrong_uid(uids, expected):
            return wrong
        if not _is_mr(uids["SOPClassUID"], uids["Modality"]):
            self._count("ignored")
            return None
        study, series, uid = uids["StudyInstanceUID"], uids["SeriesInstanceUID"], uids["SOPInstanceUID"]
        with self.writing:
            if self._database.number("SELECT count(*) FROM objects WHERE study = ? AND uid = ?", study, uid):
                self._count("repeated")
                return None
            refused = self._beyond_limits(study, size)
            if refused is None:
                self._write(places.object_file(self._folder, study, uid), head, content)
                self._record(study, series, uid, size, priority)
        return refused

    def _count(self, outcome: str) -> None:
        with self._lock:
            self.counts[outcome] += 1

    def _beyond_limits(self, study: str, size: int) -> Refused | None:
        limits, database = self._limits, self._database
        if self._bytes + size > limits.bytes_on_disk:
            return Refused(OUT_OF_RESOURCES, "quota", "The studies on disk have reached bytes_on_disk.")
        if database.number("SELECT sum(bytes) FROM objects WHERE study = ?", study) + size > limits.bytes_per_study:
            return Refused(OUT_OF_RESOURCES, "study size", f"The study {study} has reached bytes_per_study.")
        if not database.number("SELECT count(*) FROM studies WHERE uid = ? AND due = 1", study):
            counts = database.counts()
            if counts["receiving"] + counts["ready"] >= limits.studies_waiting:
                return Refused(OUT_OF_RESOURCES, "queue", "The queue has reached studies_waiting.")
        return None

    def _write(self, file: Path, head: bytes, content: memoryview | bytes) -> None:
        """Write an object whole or not at all, and wait until it is on the disk."""
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(self._folder / places.INCOMING, file.name)
        try:
            with temporary.open("xb") as stream:
                stream.write(head)
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(file)
        finally:
            with suppress(OSError):
                temporary.unlink()

    def _record(self, study: str, series: str, uid: str, size: int, priority: int) -> None:
        now = time.time()
        with self._database.transaction() as change:
            change.execute("INSERT OR IGNORE INTO objects VALUES (?, ?, ?, ?)", (study, uid, series, size))
            was_due = change.execute("SELECT 1 FROM studies WHERE uid = ? AND due = 1", (study,)).fetchone()
            change.execute(
                "INSERT INTO studies VALUES (?1, ?2, ?3, 1, NULL) ON CONFLICT DO UPDATE SET changed = ?2, due = 1, "
                "priority = max(priority, ?3)",
                (study, now, priority),
            )
        self._count("taken")
        self._bytes += size
        if not was_due:
            self._report("receiving", study=study)


def sweep(folder: Path, database: Database) -> None:
    """Remove files without record, which the end of a node left between the writing and the recording of an object.

    Work of a process that still segments a study for a node that was killed stays: it ends by itself.
    """
    remove_leftovers(folder / places.INCOMING, held=True)
    remove_leftovers(folder / places.WORK)
    known = {
        places.object_file(folder, row["study"], row["uid"]) for row in database.rows("SELECT study, uid FROM objects")
    }
    for file in (folder / places.OBJECTS).glob("*/*"):
        if file not in known:
            file.unlink(missing_ok=True)
    for place in (folder / places.OBJECTS).iterdir():
        with suppress(OSError):  # it is not empty
            place.rmdir()


def _identity(head: bytes, content: memoryview | bytes) -> dict[str, str] | None:
    """Return the identifying elements of an object as text; None if it cannot be parsed."""
    # They are at the beginning, nearly always within the first size.
    return _parsed(head + bytes(content[:_BEGINNING])) or _parsed(head + bytes(content))


def _parsed(beginning: bytes) -> dict[str, str] | None:
    from pydicom.filereader import read_partial

    from anymri.prepare.dicom.headers import quiet, text_of

    try:
        with quiet():
            dataset = read_partial(io.BytesIO(beginning), stop_when=lambda tag, *_: tag > _LAST_TAG)
    except Exception:  # noqa: BLE001 (damaged objects make pydicom raise nearly every class there is)
        return None
    return {keyword: text_of(dataset, keyword) for keyword in _KEYWORDS}


def _wrong_uid(uids: dict[str, str], expected: str | None) -> Refused | None:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not places.is_uid(uids[keyword]):
            return Refused(NOT_UNDERSTOOD, "uid", f"An object has {shown(uids[keyword])} as {keyword}.")
    uid = uids["SOPInstanceUID"]
    if expected not in (None, uid):
        return Refused(DOES_NOT_MATCH, "uid", f"An object was announced as {shown(expected)} and is {uid}.")
    return None


def _is_mr(sop_class: str, modality: str) -> bool:
    from anymri.prepare.dicom.headers import MR_CLASSES

    return sop_class in MR_CLASSES and modality == "MR"
