"""What a node has done and what waits, read from its database while it runs or after."""

from __future__ import annotations

import time
from dataclasses import dataclass

from anymri.pacs.database import Database

# A node that is alive records it more often than this.
_SECONDS_WITHOUT_BEAT = 20.0
_MOST_STUDIES = 1000


@dataclass(frozen=True)
class StudyStatus:
    """One job of a study, or a study that waits to be quiet.

    state       receiving, or a state of `anymri.pacs.database`
    modalities  modalities that it has, once they are known
    tries       failed tries
    waits_for   destinations that do not have its results yet
    what        why it failed, or why a destination does not have the results; empty otherwise
    fix         what to do about it
    """

    study: str
    state: str
    objects: int
    modalities: list[str]
    tries: int
    waits_for: list[str]
    what: str
    fix: str


@dataclass(frozen=True)
class NodeStatus:
    """A node.

    running        whether it is alive
    studies        state -> number of jobs; receiving: number of studies that wait to be quiet
    deliveries     results that destinations do not have yet
    bytes_on_disk  bytes of received objects
    listed         studies that wait or failed, and the last ones that were sent
    """

    running: bool
    studies: dict[str, int]
    deliveries: int
    bytes_on_disk: int
    listed: list[StudyStatus]


def node_status(database: Database, study: str | None = None) -> NodeStatus:
    """Return the status of a node.

    study  StudyInstanceUID of the only study to list
    """
    beat = database.rows("SELECT beat FROM node")
    return NodeStatus(
        bool(beat) and time.time() - beat[0]["beat"] < _SECONDS_WITHOUT_BEAT,
        database.counts(),
        database.number("SELECT count(*) FROM deliveries WHERE sent IS NULL"),
        database.bytes_on_disk(),
        [*_receiving(database, study), *_jobs(database, study)],
    )


def _receiving(database: Database, study: str | None) -> list[StudyStatus]:
    found = database.rows(
        "SELECT uid, (SELECT count(*) FROM objects WHERE study = studies.uid) AS objects FROM studies "
        "WHERE due = 1 AND (?1 IS NULL OR uid = ?1) ORDER BY changed LIMIT ?2",
        study,
        _MOST_STUDIES,
    )
    return [StudyStatus(row["uid"], "receiving", row["objects"], [], 0, [], "", "") for row in found]


def _jobs(database: Database, study: str | None) -> list[StudyStatus]:
    """Return the jobs, those that wait or failed first."""
    rows = database.rows(
        "SELECT *, (SELECT count(*) FROM objects WHERE objects.study = jobs.study) AS objects FROM jobs "
        "WHERE state != 'superseded' AND (?1 IS NULL OR study = ?1) "
        "ORDER BY state = 'sent', CASE WHEN state = 'sent' THEN -id ELSE id END LIMIT ?2",
        study,
        _MOST_STUDIES,
    )
    listed = []
    for row in rows:
        missing = database.rows("SELECT * FROM deliveries WHERE job = ? AND sent IS NULL", row["id"])
        reasons = [each["what"] for each in missing if each["what"]]
        listed.append(
            StudyStatus(
                row["study"],
                row["state"],
                row["objects"],
                (row["modalities"] or "").split("+") if row["modalities"] else [],
                row["tries"],
                [each["destination"] for each in missing],
                row["what"] or " ".join(reasons),
                row["fix"] or ("Check that the destination is up: anymri pacs check CONFIG" if reasons else ""),
            )
        )
    return listed
