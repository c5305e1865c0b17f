"""Handling of Ctrl-C and SIGTERM: training finishes the current step, saves its state, and then stops."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from anymri.errors import Interrupted

_Handler = Callable[[int, FrameType | None], object] | int | None


class Stop:
    """Handler of SIGINT and SIGTERM, as long as it is entered.

    A signal is kept in `received`, and the training continues until it reads that; within `at_once`, a signal ends the
    work immediately.

    folder  run folder, named in the message
    alone   whether a second Ctrl-C ends the training immediately; torchrun sends each process every signal twice
    """

    def __init__(self, folder: Path, alone: bool) -> None:
        self.folder = folder
        self.alone = alone
        self.received: int | None = None
        self._at_once = False
        self._before: dict[int, _Handler] = {}
        self._process = os.getpid()

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers in this thread only
            self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def interrupted(self) -> Interrupted:
        """Return the exception to raise once everything is saved."""
        number = self.received or signal.SIGTERM  # another process received it
        return Interrupted(
            f"Training was stopped by {signal.Signals(number).name}; every step so far is saved.\n"
            f"Continue with: anymri train --resume -o {self.folder}",
            number,
        )

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """End the work immediately on a signal; for work that a resumed run repeats."""
        if self.received:
            raise self.interrupted()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a process that reads patches: it ends with the training
            return
        again, self.received = self.received is not None, number
        if self._at_once:
            raise self.interrupted()
        if again and self.alone and number == signal.SIGINT:
            raise KeyboardInterrupt
