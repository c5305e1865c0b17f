"""The `anymri` command: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from typing import Any

from anymri.data.memory import keep_freed_memory


def main() -> None:
    """Run the command line; what it did, or its error, becomes text or one JSON object, and an exit code."""
    from anymri.cli import logs
    from anymri.cli.problems import noted, show_note
    from anymri.cli.settings import settings
    from anymri.errors import AnymriWarning

    keep_freed_memory()
    settings.reset()
    # Errors of the command line come before its options are read.
    settings.as_json, settings.debug = "--json" in sys.argv, "--debug" in sys.argv
    # matplotlib logs two lines if it cannot write its cache, as in a read-only home; the figures are the same.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), noted(show_note) as notes:
            if not settings.debug:
                warnings.simplefilter("ignore")
            warnings.simplefilter("always", AnymriWarning)
            code = _run(notes)
    finally:
        logs.stop()
    sys.exit(code)


def _run(notes: list[str]) -> int:
    """Run the command, print what it did or its error, and return the exit code."""
    from anymri.cli import logs
    from anymri.cli.app import app
    from anymri.cli.outcome import Problem, outcome
    from anymri.cli.problems import explained, show_error
    from anymri.cli.results import INTERRUPTED, Result
    from anymri.cli.settings import settings
    from anymri.errors import Interrupted

    try:
        done: Any = app(standalone_mode=False, prog_name="anymri")
        if done == INTERRUPTED:  # typer's word for Ctrl-C
            raise KeyboardInterrupt
        if not isinstance(done, Result):
            return int(done or 0)  # of help and --version
    except (Exception, Interrupted, KeyboardInterrupt) as error:  # noqa: BLE001  every error becomes text
        if settings.debug:
            traceback.print_exc()
        logs.record(traceback.format_exc(), level=logging.DEBUG)
        title, text, code = explained(error)
        if settings.as_json and not settings.follows:
            outcome(settings.command, code, notes, Problem.of(text), None).print()
        elif text:
            show_error(title, text)
        return code
    if settings.as_json and not settings.follows:
        outcome(settings.command, done.exit_code, notes, None, done).print()
    return done.exit_code
