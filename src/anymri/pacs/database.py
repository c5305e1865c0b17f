"""The database of a node: an SQLite file in which studies, objects, jobs and deliveries survive the end of a process.

A study is due from its first new object until a job exists for exactly the objects that it has. A job is one
segmentation of one content of a study by one weights file, and exists once. States of a job:

ready        waits for its turn
segmenting   is being segmented; after the end of the node it is ready again
segmented    its results are on disk, and some destination does not have them yet
sent         every destination has the results
failed       it could not be segmented; `what` and `fix` say why
superseded   the study got new objects before it was segmented
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FILE = "node.sqlite"
STATES = ("ready", "segmenting", "segmented", "sent", "failed", "superseded")
# Version of the tables; a database of another one is not used.
_VERSION = 1
_SECONDS_OF_A_LOCK = 30.0
_TABLES = """
CREATE TABLE IF NOT EXISTS studies (
    uid TEXT PRIMARY KEY, changed REAL NOT NULL, priority INTEGER NOT NULL, due INTEGER NOT NULL, examined INTEGER);
CREATE TABLE IF NOT EXISTS objects (
    study TEXT NOT NULL, uid TEXT NOT NULL, series TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (study, uid));
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY, study TEXT NOT NULL, content TEXT NOT NULL, weights TEXT NOT NULL, state TEXT NOT NULL,
    priority INTEGER NOT NULL, early INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL,
    created REAL NOT NULL, ended REAL, seconds REAL, modalities TEXT, what TEXT, fix TEXT,
    UNIQUE (study, content, weights));
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state);
CREATE TABLE IF NOT EXISTS deliveries (
    job INTEGER NOT NULL, destination TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL, sent REAL,
    what TEXT, PRIMARY KEY (job, destination));
CREATE TABLE IF NOT EXISTS node (id INTEGER PRIMARY KEY CHECK (id = 1), started REAL, beat REAL);
"""


class Database:
    """The tables of a node; threads of a process share one, and every method is one transaction."""

    def __init__(self, folder: Path) -> None:
        """Open the database in a folder, and create it if needed; raise `sqlite3.Error` if that fails."""
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            folder / FILE, timeout=_SECONDS_OF_A_LOCK, isolation_level=None, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        # A receipt that was acknowledged must survive a failure of the machine too.
        self._connection.execute("PRAGMA synchronous = FULL")
        with self.transaction() as change:
            version = change.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"its tables have the version {version}, not {_VERSION}")
            for statement in _TABLES.strip().split(";\n"):
                change.execute(statement)
            change.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction that is undone by an exception."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Return the rows of a query."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def number(self, query: str, *values: Any) -> int:
        """Return the number in the first column of the only row of a query; 0 for null."""
        return int(self.rows(query, *values)[0][0] or 0)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def beat(self, started: float) -> None:
        """Record that the node, which began at a time, is alive."""
        with self.transaction() as change:
            change.execute("INSERT OR REPLACE INTO node VALUES (1, ?, ?)", (started, time.time()))

    def counts(self) -> dict[str, int]:
        """Return the number of jobs in each state; `receiving` counts the studies that wait to be quiet."""
        found = {row["state"]: row["n"] for row in self.rows("SELECT state, count(*) AS n FROM jobs GROUP BY state")}
        waiting = self.number("SELECT count(*) FROM studies WHERE due = 1")
        return {"receiving": waiting} | {state: int(found.get(state, 0)) for state in STATES}

    def bytes_on_disk(self) -> int:
        """Return the bytes of all objects."""
        return self.number("SELECT sum(bytes) FROM objects")
