"""The queue: which studies are due, which job is next, and how a job ends."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anymri.data.workers import Failure
from anymri.files import digest
from anymri.pacs.configuration import Retry
from anymri.pacs.database import Database

# A study with fewer series cannot have all four modalities; enhanced files have one object per series.
_FEWEST_SERIES = 4


@dataclass(frozen=True)
class Job:
    """One segmentation of the objects that a study has.

    id       number in the database
    study    StudyInstanceUID
    objects  SOPInstanceUIDs
    content  hash of them
    weights  SHA-256 of the weights
    early    whether the study may still grow, so that it is segmented only if it has all four modalities
    tries    failures so far
    """

    id: int
    study: str
    objects: tuple[str, ...]
    content: str
    weights: str
    early: bool
    tries: int


def content_of(objects: Iterable[str]) -> str:
    """Return the hash of a set of SOPInstanceUIDs."""
    return digest(sorted(objects))


def settle(database: Database, quiet_seconds: float, complete_seconds: float, weights: str) -> None:
    """Create a job for each study that got no new object for a while.

    A study with at least four series gets a job after `complete_seconds`, an early one, once for each number of
    objects. A content that was already segmented by the same weights gets none.
    """
    now = time.time()
    with database.transaction() as change:
        for study in change.execute("SELECT * FROM studies WHERE due = 1").fetchall():
            silence = now - study["changed"]
            is_quiet = silence >= quiet_seconds
            if not is_quiet and silence < complete_seconds:
                continue
            uid = study["uid"]
            objects, series = change.execute(
                "SELECT count(*), count(DISTINCT series) FROM objects WHERE study = ?", (uid,)
            ).fetchone()
            if is_quiet:
                change.execute("UPDATE studies SET due = 0 WHERE uid = ?", (uid,))
            elif series < _FEWEST_SERIES or study["examined"] == objects:
                continue
            change.execute("UPDATE studies SET examined = ? WHERE uid = ?", (objects, uid))
            _create(change, study, weights, is_early=not is_quiet)


def _create(change: sqlite3.Connection, study: sqlite3.Row, weights: str, is_early: bool) -> None:
    """Create the job of a study unless it exists; older ones that did not end with results are superseded."""
    now = time.time()
    content = content_of(
        row["uid"] for row in change.execute("SELECT uid FROM objects WHERE study = ?", (study["uid"],))
    )
    change.execute(
        "UPDATE jobs SET state = 'superseded' "
        "WHERE study = ? AND state IN ('ready', 'failed') AND (content != ? OR weights != ?)",
        (study["uid"], content, weights),
    )
    change.execute(
        "INSERT INTO jobs (study, content, weights, state, priority, early, due, created) "
        "VALUES (?, ?, ?, 'ready', ?, ?, ?, ?) ON CONFLICT DO UPDATE SET early = min(early, excluded.early)",
        (study["uid"], content, weights, study["priority"], is_early, now, now),
    )
    change.execute(
        "UPDATE jobs SET state = 'ready', tries = 0, due = ?, what = NULL, fix = NULL "
        "WHERE study = ? AND content = ? AND weights = ? AND state = 'superseded'",
        (now, study["uid"], content, weights),
    )


def claim(database: Database) -> Job | None:
    """Return the next job, which is then being segmented; None if there is none."""
    with database.transaction() as change:
        ready = change.execute(
            "SELECT * FROM jobs WHERE state = 'ready' AND due <= ? ORDER BY priority DESC, created, id", (time.time(),)
        ).fetchall()
        for row in ready:
            found = change.execute("SELECT uid FROM objects WHERE study = ? ORDER BY uid", (row["study"],)).fetchall()
            objects = tuple(each["uid"] for each in found)
            if content_of(objects) == row["content"]:
                change.execute("UPDATE jobs SET state = 'segmenting' WHERE id = ?", (row["id"],))
                early = bool(row["early"])
                return Job(row["id"], row["study"], objects, row["content"], row["weights"], early, row["tries"])
            change.execute("UPDATE jobs SET state = 'superseded' WHERE id = ?", (row["id"],))
    return None


def segmented(
    database: Database, job: Job, modalities: Sequence[str], seconds: float, destinations: Sequence[str]
) -> None:
    """Record that the results of a job are on disk, and that each destination shall get them."""
    now = time.time()
    with database.transaction() as change:
        change.execute(
            "UPDATE jobs SET state = 'segmented', ended = ?, seconds = ?, modalities = ?, what = NULL, fix = NULL "
            "WHERE id = ?",
            (now, seconds, "+".join(modalities), job.id),
        )
        for name in destinations:
            change.execute(
                "INSERT OR IGNORE INTO deliveries (job, destination, due) VALUES (?, ?, ?)", (job.id, name, now)
            )


def incomplete(database: Database, job: Job) -> None:
    """Record that the study of an early job does not have all modalities, so that it waits until it is quiet."""
    with database.transaction() as change:
        # Its study may have become quiet in the meantime, which made the job one that is not early.
        change.execute("DELETE FROM jobs WHERE id = ? AND early = 1", (job.id,))
        change.execute("UPDATE jobs SET state = 'ready' WHERE id = ?", (job.id,))


def failed(database: Database, job: Job, failure: Failure, retry: Retry, passes: bool, counts: bool = True) -> bool:
    """Record a failure, and return whether the job is tried again.

    passes  whether the failure may pass by itself
    counts  whether it counts as a try
    """
    tries = job.tries + counts
    again = passes and tries < retry.tries
    state, due = ("ready", time.time() + retry.pause(max(tries, 1))) if again else ("failed", time.time())
    with database.transaction() as change:
        change.execute(
            "UPDATE jobs SET state = ?, tries = ?, due = ?, ended = ?, what = ?, fix = ?, early = 0 WHERE id = ?",
            (state, tries, due, time.time(), failure.what, failure.fix, job.id),
        )
    return again


def release(database: Database) -> None:
    """Make jobs ready that were being segmented when the node ended, and let studies begin to be quiet only now.

    Objects that were sent while the node was down are sent again by their senders, some seconds after its start.
    """
    with database.transaction() as change:
        change.execute("UPDATE studies SET changed = ? WHERE due = 1", (time.time(),))
        change.execute("UPDATE jobs SET state = 'ready' WHERE state = 'segmenting'")


def retry_now(database: Database, study: str | None) -> tuple[int, int]:
    """Make failed jobs ready and deliveries due, of one study or of all; return the numbers of both."""
    now = time.time()
    with database.transaction() as change:
        jobs = change.execute(
            "UPDATE jobs SET state = 'ready', tries = 0, due = ?1 WHERE state = 'failed' "
            "AND (?2 IS NULL OR study = ?2) AND study IN (SELECT uid FROM studies)",
            (now, study),
        ).rowcount
        deliveries = change.execute(
            "UPDATE deliveries SET due = ?1 WHERE sent IS NULL AND tries > 0 "
            "AND (?2 IS NULL OR job IN (SELECT id FROM jobs WHERE study = ?2))",
            (now, study),
        ).rowcount
    return jobs, deliveries


def is_idle(database: Database) -> bool:
    """Return whether no study, job or delivery waits for anything."""
    waiting = database.number("SELECT count(*) FROM studies WHERE due = 1")
    waiting += database.number("SELECT count(*) FROM jobs WHERE state IN ('ready', 'segmenting')")
    return waiting + database.number("SELECT count(*) FROM deliveries WHERE sent IS NULL") == 0
