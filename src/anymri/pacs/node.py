"""A node: reception, queue, segmentation, delivery and metrics, each in a thread, until it is stopped."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, Self

from anymri.data.workers import Failure, Workers
from anymri.errors import OutputError
from anymri.files import locked, sha256
from anymri.pacs import jobs, places
from anymri.pacs.cleaning import clean_up
from anymri.pacs.configuration import NodeConfiguration
from anymri.pacs.database import FILE, Database
from anymri.pacs.intake import Intake, Report, sweep
from anymri.pacs.metrics import MetricsServer, metrics_text
from anymri.pacs.peers import import_libraries
from anymri.pacs.poller import Poller
from anymri.pacs.receiver import Receiver
from anymri.pacs.sender import Sender
from anymri.pacs.work import Answer, Request, segment_study
from anymri.text import shortened

_SECONDS_OF_A_LOOK = 0.25
_SECONDS_OF_A_BEAT = 5.0
_SECONDS_OF_A_CLEANING = 600.0


class Node:
    """A PACS node; use it as a context manager, in which it works."""

    def __init__(self, configuration: NodeConfiguration, weights: Path, report: Report) -> None:
        """Create the node; nothing is opened yet.

        weights  weights file; `configuration` may name weights in other ways
        report   called with the kind of an event and its values, from any thread
        """
        settings = configuration.segmentation.model_copy(update={"weights": weights})
        self._configuration = configuration.model_copy(update={"segmentation": settings})
        self._weights = sha256(weights)
        self._report = _unfailing(report)
        self._stopping = threading.Event()
        self._held = ExitStack()
        self._threads: list[threading.Thread] = []
        self._pollers: list[Poller] = []
        self._database: Database | None = None
        self.started = time.time()

    def __enter__(self) -> Self:
        """Begin to work.

        Raises `OutputError` if the folder cannot be used or another node uses it, `ConfigurationError` if a port is
        taken or a file of TLS is wrong.
        """
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop: the study that is being segmented is segmented again after the next start."""
        self._stopping.set()
        self._held.close()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the node is stopped, and return whether it is."""
        return self._stopping.wait(seconds)

    def stop(self) -> None:
        """Let `wait` return; signal handlers may call it."""
        self._stopping.set()

    @property
    def is_idle(self) -> bool:
        """Whether every rule was searched once, and no study, job or delivery waits."""
        searched = all(each.searches > 0 for each in self._pollers)
        return searched and self._database is not None and jobs.is_idle(self._database)

    def _start(self) -> None:
        import_libraries()
        configuration, folder = self._configuration, self._configuration.folder
        self._held.enter_context(locked(folder, places.INCOMING))
        for name in (places.INCOMING, places.OBJECTS, places.RESULTS, places.WORK):
            (folder / name).mkdir(exist_ok=True)
        database = self._database = self._held.enter_context(closing(open_database(folder)))
        jobs.release(database)
        sweep(folder, database)
        intake = Intake(folder, database, configuration.limits, self._report)
        if configuration.metrics_port is not None:
            server = MetricsServer(configuration.metrics_port, lambda: metrics_text(database, intake, self.started))
            self._held.callback(server.stop)
        self._held.callback(self._join)
        workers = self._held.enter_context(Workers(1, segment_study))
        segmenting = _Segmenting(configuration, self._weights, database, workers, self._report, self._stopping)
        self._thread("segmentation", segmenting.step)
        self._thread("delivery", lambda: Sender(configuration, database, self._report).send_due() > 0)
        self._thread("heart", lambda: self._beat(database), _SECONDS_OF_A_BEAT)
        self._thread("cleaning", lambda: clean_up(configuration, database, intake), _SECONDS_OF_A_CLEANING)
        for rule in configuration.poll:
            poller = Poller(rule, database, intake, self._report)
            self._pollers.append(poller)
            self._thread("polling", poller.poll, rule.every_seconds)
        # The receiver begins last and ends first.
        if configuration.receive is not None:
            receiver = Receiver(configuration.receive, configuration.limits, intake)
            receiver.start()
            self._held.callback(receiver.stop)
            self._report("listening", address=f"{configuration.receive.host}:{configuration.receive.port}")
        self._held.callback(self._stopping.set)

    def _beat(self, database: Database) -> bool:
        database.beat(self.started)
        return False

    def _thread(self, name: str, step: Callable[[], bool], seconds: float = _SECONDS_OF_A_LOOK) -> None:
        """Begin a thread that repeats a step, and waits after one that returns false."""

        def run() -> None:
            while not self._stopping.is_set():
                busy = False
                try:
                    busy = step()
                except Exception as error:  # noqa: BLE001 (of a full disk, for example: what was to be done is still due)
                    if not self._stopping.is_set():
                        text = shortened(f"{type(error).__name__}: {error}", 300)
                        self._report("problem", text=f"The {name} waits and tries again, because of {text}.")
                        self._stopping.wait(_SECONDS_OF_A_BEAT)
                if not busy:
                    self._stopping.wait(seconds)

        thread = threading.Thread(target=run, name=f"anymri-pacs-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(10)


class _Segmenting:
    """The thread that creates jobs and gives them to the worker, one at a time."""

    def __init__(
        self,
        configuration: NodeConfiguration,
        weights: str,
        database: Database,
        workers: Workers,
        report: Report,
        stopping: threading.Event,
    ) -> None:
        self._configuration, self._weights, self._database = configuration, weights, database
        self._workers, self._report, self._stopping = workers, report, stopping

    def step(self) -> bool:
        """Do the next job, and return whether there was one."""
        configuration = self._configuration
        jobs.settle(self._database, configuration.quiet_seconds, configuration.complete_seconds, self._weights)
        job = jobs.claim(self._database)
        if job is None:
            return False
        answer = self._answer(job)
        while not self._stopping.is_set():  # a worker that was stopped with the node did not fail
            try:
                self._record(job, answer)
                return True
            except sqlite3.Error as error:  # the disk is full: the work on the study is not thrown away
                self._report("problem", text=f"The queue cannot be written: {error}.")
                self._stopping.wait(_SECONDS_OF_A_BEAT)
        return False

    def _answer(self, job: jobs.Job) -> Answer:
        if not job.early:
            self._report("segmenting", study=job.study)
        configuration = self._configuration
        request = Request(
            configuration.folder,
            job.study,
            job.objects,
            job.content,
            job.weights,
            job.early,
            configuration.segmentation,
            configuration.results,
        )
        reply = self._workers.submit(request, f"the study {job.study}").result()
        if isinstance(reply.value, Answer):
            return reply.value
        failure = reply.failure or Failure("The worker returned no result.", "Try it again: anymri pacs retry CONFIG")
        return Answer("failed", failure=failure, cause="other")

    def _record(self, job: jobs.Job, answer: Answer) -> None:
        if answer.status == "incomplete":
            jobs.incomplete(self._database, job)
        elif answer.status == "segmented":
            names = [each.name for each in self._configuration.send]
            jobs.segmented(self._database, job, answer.modalities, answer.seconds, names)
            self._report(
                "segmented", study=job.study, modalities=list(answer.modalities), seconds=round(answer.seconds, 1)
            )
        else:
            assert answer.failure is not None
            passes, counts = answer.cause != "input", answer.cause != "disk"
            again = jobs.failed(self._database, job, answer.failure, self._configuration.retry, passes, counts)
            text = f"{answer.failure.what} {answer.failure.fix}"
            self._report("failed", study=job.study, text=text, again=again)


def _unfailing(report: Report) -> Report:
    """Return a report whose errors, as of a log that nobody reads any more, do not stop the node."""

    def tried(kind: str, **values: Any) -> None:
        with suppress(OSError, ValueError):
            report(kind, **values)

    return tried


def open_database(folder: Path) -> Database:
    """Return the database of a node; raise `OutputError` if it cannot be used."""
    try:
        return Database(folder)
    except sqlite3.Error as error:
        raise OutputError(
            f"The queue {folder / FILE} cannot be used: {error}.",
            "Free space on its disk and check its permissions; if it is damaged, move it away: studies that are sent "
            "again are segmented again.",
        ) from error
