"""Calls in worker processes: a worker that dies, for example for lack of memory, fails one call only.

`ProcessPoolExecutor` fails every waiting call when a process dies, and starts the caller's script a second time.
This module imports nothing heavy, so that a worker starts fast.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Self

from anymri.errors import AnymriError, AnymriWarning, InputWarning
from anymri.text import shortened

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from anymri.data.workers import serve; serve()"
# Where memory is short, Linux ends a worker before the process that holds the network.
OOM_SCORE = "500"
_LONGEST = 1000


@dataclass(frozen=True)
class Failure:
    """Failure of one case in two sentences, which can be sent between processes and stored.

    what  what is wrong
    fix   what to do about it
    """

    what: str
    fix: str

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Return the failure that an exception describes."""
        if isinstance(error, AnymriError):
            return cls(error.what, error.fix)
        if isinstance(error, InputWarning):
            return cls(str(error), "Correct the input, or run without --strict.")
        if isinstance(error, MemoryError) or _is_out_of_memory(error):
            return cls(
                "The case does not fit into memory.",
                "Close other programs, use fewer workers or --device cpu, and run the command again.",
            )
        if isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            return cls(f"{place}{error.strerror or error}.", "Check that the file exists and can be read.")
        return cls(
            f"Unexpected error: {type(error).__name__}: {shortened(str(error), _LONGEST)}",
            "This is a bug: run this case alone with --debug and report the traceback.",
        )


def _is_out_of_memory(error: BaseException) -> bool:
    # torch has an error of its own on a GPU, and a RuntimeError on a CPU.
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


@dataclass(frozen=True, eq=False)
class Reply:
    """What a call in a worker returned.

    value    value of the function; None after a failure
    notes    warnings of anymri that the call issued
    failure  why there is no value
    """

    value: Any = None
    notes: tuple[AnymriWarning, ...] = ()
    failure: Failure | None = None


def call(function: Callable[[Any], Any], argument: Any) -> Reply:
    """Call a function and return its value, or its failure instead of an exception, with its warnings."""
    notes: list[AnymriWarning] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", AnymriWarning)
        try:
            reply = Reply(function(argument))
        except Exception as error:  # noqa: BLE001 - the caller decides what an error of one case means
            reply = Reply(failure=Failure.of(error))
    notes += [each.message for each in caught if isinstance(each.message, AnymriWarning)]
    return Reply(reply.value, tuple(notes), reply.failure)


class Workers:
    """Processes that call one function, each with one argument at a time.

    Use it as a context manager: at the end the processes are stopped, whatever they are doing.
    """

    def __init__(self, count: int, function: Callable[[Any], Any]) -> None:
        """Create the workers; processes start with their first call.

        count     number of processes
        function  function of a module, or a partial one, that processes can import
        """
        self._function = function
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="anymri-worker")
        self._own = threading.local()
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def submit(self, argument: Any, name: str) -> Future[Reply]:
        """Return the future reply to one call.

        name  name of the case, for the failure if the process dies
        """
        return self._threads.submit(self._call, argument, name)

    def _call(self, argument: Any, name: str) -> Reply:
        request = pickle.dumps((self._function, argument))
        process = getattr(self._own, "process", None)
        if process is None or process.poll() is not None:
            process = self._own.process = self._start()
        assert process.stdin is not None and isinstance(process.stdout, BufferedReader)
        try:
            process.stdin.write(request)
            process.stdin.flush()
            reply = _receive(process.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            self._own.process = None
            return Reply(failure=_died(name, self._stop(process)))
        assert isinstance(reply, Reply)
        return reply

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise RuntimeError("The workers are closed.")
            process = subprocess.Popen(
                [sys.executable, "-c", _START, json.dumps(sys.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self._processes.add(process)
            return process

    def _stop(self, process: subprocess.Popen[bytes]) -> int:
        """End a process and return its exit code, negative for the signal that ended it."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)  # a process that has closed its pipes is about to end by itself
        process.kill()
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError, ValueError):
                assert pipe is not None
                pipe.close()
        with self._lock:
            self._processes.discard(process)
        return code

    def close(self) -> None:
        """Stop all processes and cancel the calls that have not begun."""
        with self._lock:
            self._closed = True
            running = list(self._processes)
        for process in running:
            process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in running:
            self._stop(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _died(name: str, code: int) -> Failure:
    reason = f"with exit code {code}"
    if code < 0:
        known = {each.value: each.name for each in signal.Signals}
        reason = f"by the signal {known.get(-code, -code)}"
    return Failure(
        f"The process that prepared {name} was ended {reason}.",
        "If memory was short (SIGKILL), use fewer workers or a machine with more memory, and run the command again.",
    )


def serve() -> None:
    """Reply to calls from the standard input on the standard output until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the caller, which ends this process
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)  # what libraries print must not mix with the replies
        while True:
            try:
                function, argument = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            try:
                _send(call(function, argument), replies)
            except BrokenPipeError:
                return
            del argument


def _send(reply: Reply, stream: BinaryIO) -> None:
    """Write a reply: first the sizes of its parts, then the parts, of which arrays are not copied."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        content = pickle.dumps(reply, protocol=5, buffer_callback=buffers.append)
    except Exception as error:  # noqa: BLE001 - nothing is written yet, so the reply can be the failure
        buffers = []
        content = pickle.dumps(Reply(failure=Failure.of(error)))
    parts = [each.raw() for each in buffers]
    pickle.dump([len(content), *(part.nbytes for part in parts)], stream)
    stream.write(content)
    for part in parts:
        stream.write(part)
    stream.flush()


def _receive(stream: BufferedReader) -> Any:
    """Return the reply that `_send` wrote; raise `EOFError` if the process ended before its end."""
    parts = [bytearray(size) for size in pickle.load(stream)]
    for part in parts:
        if stream.readinto(part) < len(part):
            raise EOFError
    return pickle.loads(parts[0], buffers=parts[1:])
