"""Logs: what the library logs on the terminal with --verbose, and everything in a file with --log-file."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import Any

from anymri.cli.settings import settings
from anymri.errors import OutputError
from anymri.text import visible

_LIBRARY = logging.getLogger("anymri")
# What is on the terminal anyway, or would be without --quiet and --json.
_SHOWN = logging.getLogger("anymri.shown")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def start(arguments: list[str]) -> None:
    """Begin to log as the settings say; raise `OutputError` if the log file cannot be written.

    arguments  the command line, for the log file
    """
    stop()
    _LIBRARY.setLevel(logging.DEBUG if settings.log_file else logging.INFO if settings.verbose else logging.WARNING)
    if settings.verbose:
        terminal = _Events() if settings.as_json else logging.StreamHandler(sys.stderr)
        terminal.setLevel(logging.INFO)
        terminal.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        terminal.addFilter(lambda line: line.name != _SHOWN.name)
        _LIBRARY.addHandler(terminal)
    if settings.log_file is not None:
        try:
            file = logging.FileHandler(settings.log_file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            unwritable, settings.log_file = settings.log_file, None  # the error is printed once
            raise OutputError(
                f"--log-file {unwritable} cannot be written: {error.strerror or error}.",
                "Name a file in a folder that exists and that you can write to.",
            ) from error
        file.setFormatter(logging.Formatter(_FORMAT))
        _LIBRARY.addHandler(file)
        _SHOWN.info("anymri %s", " ".join(arguments))


def stop() -> None:
    """Remove the handlers of `start`, and close the log file."""
    for handler in list(_LIBRARY.handlers):
        _LIBRARY.removeHandler(handler)
        handler.close()


def record(*objects: Any, level: int = logging.INFO) -> None:
    """Write what is printed, or would be, to the log file if there is one."""
    if settings.log_file is None:
        return
    if all(isinstance(each, str) for each in objects):
        text = " ".join(objects)
    else:
        from rich.console import Console

        plain = Console(file=io.StringIO(), width=200, markup=False, emoji=False, highlight=False)
        with plain.capture() as captured:
            plain.print(*objects)
        text = captured.get()
    for line in visible(text).splitlines():
        _SHOWN.log(level, "%s", line.rstrip())


def event(kind: str, **values: Any) -> None:
    """Write one JSON object as a line to stderr, for the program that started the command with --json."""
    if not settings.follows:
        print(json.dumps({"event": kind, **values}), file=sys.stderr, flush=True)  # noqa: T201


class _Events(logging.Handler):
    """Handler that writes log lines as events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        event("log", name=record.name, text=record.getMessage())
