"""Errors and notes on the terminal: two sentences and an exit code."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.text import Text

from anymri.cli.console import stderr
from anymri.cli.logs import event, record
from anymri.cli.results import BAD_INPUT, BUG, INTERRUPTED
from anymri.cli.settings import settings
from anymri.errors import AnymriError, AnymriWarning, InputWarning, Interrupted
from anymri.text import shortened, visible

# Base class of errors of the command line; typer does not export it in every version.
_UsageError = typer.BadParameter.__mro__[1]


def show_error(title: str, text: str) -> None:
    """Print an error to stderr, also with --quiet, and write it to the log file."""
    record(f"{title}: {text}", level=logging.ERROR)
    stderr.print_always(_styled(title, "bold red", text))


def show_note(text: str) -> None:
    """Print a warning to stderr unless --quiet, as an event with --json, and write it to the log file."""
    record(f"Note: {text}", level=logging.WARNING)
    if settings.as_json:
        event("warning", text=text)
    elif not settings.quiet:
        stderr.print_always(_styled("Note", "bold yellow", text))


@contextmanager
def noted(show: Callable[[str], None] | None = None) -> Iterator[list[str]]:
    """Yield a list that gets the text of every warning of anymri.

    show  prints such a text; None: it is shown as before, like every other warning
    """
    notes: list[str] = []
    before = warnings.showwarning

    def receive(message: Warning | str, category: type[Warning], *where: Any, **rest: Any) -> None:
        is_note = issubclass(category, AnymriWarning)
        if is_note:
            notes.append(str(message))
        if is_note and show is not None:
            show(str(message))
        else:
            before(message, category, *where, **rest)

    warnings.showwarning = receive
    try:
        yield notes
    finally:
        warnings.showwarning = before


def _styled(title: str, style: str, text: str) -> Text:
    return Text(f"{title}: ", style=style) + Text(visible(text), style="default")


def explained(error: BaseException) -> tuple[str, str, int]:
    """Return title, text and exit code of an error; an empty text if it was printed, as help is."""
    if isinstance(error, Interrupted):
        # Shells expect 128 plus the number of the signal.
        return "Interrupted", str(error), 128 + error.signal
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "Interrupted", "What is finished is kept.\nRun the same command again to continue.", INTERRUPTED
    text = _of_input(error)
    if text is not None:
        return "Error", text, BAD_INPUT
    what = f"{type(error).__name__}: {shortened(str(error), 1000)}"
    fix = "This is a bug: run again with --debug and report the traceback."
    return "Unexpected error", f"{what}\n{fix}", BUG


def _of_input(error: BaseException) -> str | None:
    """Return the text of an error that the user can fix; None for any other."""
    if isinstance(error, _UsageError):
        return _usage(error)
    if isinstance(error, AnymriError):
        return str(error)
    if isinstance(error, InputWarning):
        return f"{error}\nCorrect the input, or run without --strict."
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        fix = "Check that the path exists, is writable and has free space."
        return f"{place}{error.strerror or error}.\n{fix}"
    return None


def _usage(error: Any) -> str:
    """Return the text of an error of the command line; nothing if it has printed the help."""
    context = getattr(error, "ctx", None)
    path = "anymri" if context is None else context.command_path
    if context is not None and not hasattr(context.command, "commands"):  # of a command, not of a group
        settings.command = path.removeprefix("anymri").strip()
    what: str = error.format_message().strip()
    return f"{what}{'' if what.endswith(('.', '?')) else '.'}\nSee: {path} --help" if what else ""
