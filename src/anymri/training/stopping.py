"""Ctrl-C and SIGTERM, which clusters send before they take a machine away: heard now, obeyed when nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from anymri.errors import Interrupted


class Stop:
    """While entered, signals wait for whoever looks at `heard`; within `at_once` they end the work where it is.

    alone  whether Ctrl-C a second time ends it at once too; torchrun passes on what each process hears already
    """

    def __init__(self, folder: Path, alone: bool) -> None:
        self.folder = folder
        self.alone = alone
        self.heard: int | None = None
        self._at_once = False
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # no other may listen
            self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def interrupted(self) -> Interrupted:
        """What to raise once everything is saved."""
        number = self.heard or signal.SIGTERM  # of another process
        return Interrupted(
            f"Training was stopped by {signal.Signals(number).name}; every step so far is saved.\n"
            f"Go on with: anymri train --resume -o {self.folder}",
            number,
        )

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For work that is done again after an interruption."""
        if self.heard:
            raise self.interrupted()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # one that reads patches: it ends with the training
            return
        again, self.heard = self.heard is not None, number
        if self._at_once:
            raise self.interrupted()
        if again and self.alone and number == signal.SIGINT:
            raise KeyboardInterrupt
