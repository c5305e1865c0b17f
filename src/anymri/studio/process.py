"""Child process of the studio: requests to it, and events from it.

It is not started by `multiprocessing`, which would run the caller's script a second time.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from anymri.data.workers import OOM_SCORE, Failure, call

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from anymri.studio.process import serve; "
    "serve(json.loads(sys.argv[2]))"
)
# Key of a function in what a method returns: it is called once the server has the rest.
AFTERWARDS = "afterwards"


class EndedError(Exception):
    """The process has ended.

    killed   whether the server ended it
    failure  why, in two sentences
    """

    def __init__(self, code: int, killed: bool) -> None:
        super().__init__(code, killed)
        self.killed = killed
        reason = f"with exit code {code}"
        if code < 0:
            reason = f"by the signal {({each.value: each.name for each in signal.Signals}).get(-code, -code)}"
        self.failure = Failure(
            f"The process that computes has ended unexpectedly, {reason}.",
            "Try again: a new one is started. If this repeats, memory is probably short: close other programs.",
        )


class Worker:
    """The child process, as the server uses it."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Start the process.

        settings  arguments of the `Desk`, ready for JSON
        """
        command = [sys.executable, "-c", _START, json.dumps(sys.path), json.dumps(dict(settings))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._sending = threading.Lock()
        self._killed = False

    @property
    def pid(self) -> int:
        """Identifier of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def send(self, job: str, method: str, arguments: Mapping[str, Any]) -> None:
        """Request a call of a method of the `Desk`; raise `EndedError` if the process has ended."""
        try:
            self._write((job, method, arguments))
        except (OSError, ValueError) as error:
            raise self._died() from error

    def stop(self, job: str) -> None:
        """Request that a job ends at the next window."""
        with suppress(OSError, ValueError):
            self._write((job, None, None))

    def _write(self, message: tuple[Any, ...]) -> None:
        assert self._process.stdin is not None
        with self._sending:
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def events(self, job: str) -> Iterator[tuple[str, Any]]:
        """Yield what happens until a job is over; raise `EndedError` if the process ends before."""
        assert self._process.stdout is not None
        while True:
            try:
                of, kind, content = pickle.load(self._process.stdout)
            except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
                raise self._died() from error
            if of == job:
                yield kind, content
                if kind != "progress":
                    return

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._killed = True
        self._process.kill()

    def close(self) -> int:
        """End the process, and return its exit code, negative for the signal that ended it."""
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError, ValueError):
                assert pipe is not None
                pipe.close()
        return code

    def _died(self) -> EndedError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # a process that has closed its pipes is about to end by itself
        return EndedError(self.close(), self._killed)


class Stopped(BaseException):
    """A job was stopped between two of its steps."""


class _Requests:
    """Requests from the server, which a thread reads, so that a job can be stopped."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[tuple[str, str, Mapping[str, Any]]] = queue.Queue()
        self.stopped: set[str] = set()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                job, method, arguments = pickle.load(sys.stdin.buffer)
            except (EOFError, OSError, pickle.UnpicklingError):
                os._exit(0)  # the server has ended; what is being computed is for nobody
            if method is None:
                self.stopped.add(job)
            else:
                self.waiting.put((job, method, arguments))


def serve(settings: Mapping[str, Any]) -> None:
    """Process requests from the standard input and write events to the standard output, until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the server, which ends this process
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    with os.fdopen(os.dup(1), "wb") as events:
        os.dup2(2, 1)  # what libraries print must not mix with the events
        requests = _Requests()
        from anymri.studio.desk import Desk

        desk = Desk(**settings)
        while True:
            job, method, arguments = requests.waiting.get()

            def send(kind: str, content: Any, job: str = job) -> None:
                pickle.dump((job, kind, content), events)
                events.flush()

            def progress(step: str, done: int, total: int, job: str = job, send: Any = send) -> None:
                if job in requests.stopped:
                    raise Stopped
                send("progress", (step, done, total))

            work = {**arguments, "progress": progress}

            traces: list[str] = []

            def compute(work: Mapping[str, Any], method: str = method, traces: list[str] = traces) -> Any:
                try:
                    return getattr(desk, method)(**work)
                except Stopped:
                    return Stopped
                except Exception:
                    traces.append(traceback.format_exc())
                    raise

            reply = call(compute, work)
            requests.stopped.discard(job)
            if reply.failure is not None:
                send("failed", (reply.failure, "".join(traces)))
            elif reply.value is Stopped:
                send("stopped", None)
            else:
                afterwards = reply.value.pop(AFTERWARDS, None)
                send("done", {**reply.value, "notes": [str(note) for note in reply.notes]})
                if afterwards is not None:
                    call(lambda work: work(), afterwards)
