"""Work of the studio, one job at a time in a child process; the server stays responsive, and survives its death."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from anymri.data.workers import Failure
from anymri.studio.process import EndedError, Worker
from anymri.studio.words import plain_words

State = Literal["waiting", "running", "done", "failed", "cancelled"]

_log = logging.getLogger(__name__)
# Seconds that a worker has to stop by itself, between two windows, before it is ended.
_GRACE = 3.0
# Finished jobs that are remembered for pages that ask for them.
_REMEMBERED = 1000


@dataclass(eq=False)
class Job:
    """One piece of work.

    call    name of a method of `anymri.studio.desk.Desk`, and its arguments
    entry   identifier of the case that it belongs to
    then    receives the value and returns the result for the page; called before the job is done
    key     jobs with the same key are the same work
    ahead   work that nobody waits for: it gives way to any other job
    hidden  beginning of paths that errors do not show, with its last slash
    run     identifier of the current attempt, because a job that gave way begins again
    step    what is done now, with `finished` of `total` items
    """

    call: tuple[str, Mapping[str, Any]]
    entry: str
    then: Callable[[Any], Any] = lambda value: value
    key: object = None
    ahead: bool = False
    hidden: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    run: str = ""
    state: State = "waiting"
    step: str = ""
    finished: int = 0
    total: int = 0
    error: Failure | None = None
    result: Any = None
    over: threading.Event = field(default_factory=threading.Event)

    def as_json(self) -> dict[str, Any]:
        """Return the state as the page gets it."""
        return {
            "id": self.id,
            "state": self.state,
            "step": self.step,
            "done": self.finished,
            "of": self.total,
            "error": None if self.error is None else self._shown(self.error),
            "result": self.result,
        }

    def _shown(self, failure: Failure) -> dict[str, str]:
        return {"what": plain_words(failure.what, self.hidden), "fix": plain_words(failure.fix, self.hidden)}

    def end(self, state: State, result: Any = None, error: Failure | None = None) -> None:
        """End the job."""
        self.result, self.error = result, error
        self.state = state
        self.over.set()


class Jobs:
    """Queue of jobs, and the child process that does them. Use it as a context manager."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Create the queue.

        settings  arguments of the `Desk`
        """
        self._settings = settings
        self._jobs: dict[str, Job] = {}
        self._queue: list[Job] = []
        self._current: Job | None = None
        self._gives_way = self._closed = False
        self._worker: Worker | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="anymri-studio-jobs", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Job:
        """Add a job and return it; return the job with the same key instead, if it waits or runs."""
        with self._changed:
            same = next((each for each in self._open() if job.key is not None and each.key == job.key), None)
            if same is not None:
                same.ahead = same.ahead and job.ahead
                job = same
            else:
                self._jobs[job.id] = job
                self._queue.append(job)
                for each in list(self._jobs.values())[:-_REMEMBERED]:
                    if each.over.is_set():
                        del self._jobs[each.id]
            current = self._current
            if not job.ahead and current is not None and current.ahead and self._worker is not None:
                self._gives_way = True
                self._worker.stop(current.run)
            self._changed.notify_all()
        return job

    def remember(self, job: Job, result: Any) -> Job:
        """Return a job that was done before, which the page can ask for."""
        job.end("done", result)
        with self._changed:
            self._jobs[job.id] = job
        return job

    def find(self, job_id: str) -> Job | None:
        """Return the job with an identifier."""
        return self._jobs.get(job_id)

    def cancel(self, job: Job) -> None:
        """Cancel a job; the process that does not stop it within seconds is ended."""
        with self._changed:
            if job in self._queue:
                self._queue.remove(job)
                job.end("cancelled")
            elif job is self._current and self._worker is not None:
                self._gives_way = False
                self._worker.stop(job.run)
                timer = threading.Timer(_GRACE, self._end_if_current, (job, self._worker))
                timer.daemon = True
                timer.start()

    def cancel_all(self, entry: str, ahead_only: bool = False) -> None:
        """Cancel the jobs of a case."""
        with self._changed:
            for job in [each for each in self._open() if each.entry == entry and (each.ahead or not ahead_only)]:
                self.cancel(job)

    def _end_if_current(self, job: Job, worker: Worker) -> None:
        with self._changed:
            if job is self._current and worker is self._worker:
                worker.kill()

    def _open(self) -> list[Job]:
        return [*self._queue, *([self._current] if self._current is not None else [])]

    def close(self) -> None:
        """Cancel everything and end the process."""
        with self._changed:
            self._closed = True
            for job in self._queue:
                job.end("cancelled")
            self._queue.clear()
            if self._worker is not None:
                self._worker.kill()
            self._changed.notify_all()
        self._thread.join(timeout=10)

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    break
                job = next((each for each in self._queue if not each.ahead), self._queue[0])
                self._queue.remove(job)
                self._current, self._gives_way = job, False
                job.run, job.state = secrets.token_hex(8), "running"
            self._do(job)
            with self._changed:
                self._current = None
                if not job.over.is_set():  # it gave way
                    self._queue.insert(0, job)
        if self._worker is not None:
            self._worker.close()

    def _do(self, job: Job) -> None:
        """Let the process do a job, and take over how it ended."""
        try:
            with self._changed:
                if self._worker is None or not self._worker.is_alive:
                    self._worker = Worker(self._settings)
                worker = self._worker
            worker.send(job.run, *job.call)
            for kind, content in worker.events(job.run):
                if kind == "progress":
                    job.step, job.finished, job.total = content
                elif kind == "stopped":
                    self._stopped(job)
                elif kind == "failed":
                    failure, trace = content
                    _log.debug("%s failed: %s", job.call[0], trace)
                    job.end("failed", error=failure)
                else:
                    job.end("done", job.then(content))
        except EndedError as error:
            self._worker = None
            was_stopped = self._closed or error.killed
            job.end("cancelled") if was_stopped else job.end("failed", error=error.failure)
            if job.ahead:  # the next one would probably end like this one
                self.cancel_all(job.entry, ahead_only=True)
        except Exception as error:  # noqa: BLE001 - the queue must go on
            _log.debug("%s failed", job.call[0], exc_info=error)
            if self._worker is not None:
                self._worker.close()
                self._worker = None
            job.end("failed", error=Failure.of(error))

    def _stopped(self, job: Job) -> None:
        """Let a job that was stopped begin again later, or end."""
        with self._changed:
            if self._gives_way:
                job.state, job.finished = "waiting", 0
            else:
                job.end("cancelled")


@dataclass(eq=False)
class Batch:
    """Several jobs that the page follows as one."""

    jobs: list[Job]
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def as_json(self) -> dict[str, Any]:
        """Return the state as the page gets it."""
        done = sum(job.state == "done" for job in self.jobs)
        ended = next((job for job in self.jobs if job.state in ("failed", "cancelled")), None)
        shown = Job(("", {}), "", id=self.id, step="subset", finished=done, total=len(self.jobs))
        if ended is not None:
            return {**shown.as_json(), "state": ended.state, "error": ended.as_json()["error"]}
        shown.state = "done" if done == len(self.jobs) else "running"
        return shown.as_json()
