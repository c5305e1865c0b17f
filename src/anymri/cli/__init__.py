"""The `anymri` command: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import ctypes
import logging
import sys
import warnings

USER_ERROR = 2
UNEXPECTED_ERROR = 1
INTERRUPTED = 130


def main() -> None:
    """Run the command line; errors become two sentences and an exit code.

    --debug prints a traceback, and --strict turns notes about input into errors.
    """
    from rich.text import Text

    from anymri.cli.app import app
    from anymri.cli.console import PlainConsole
    from anymri.errors import AnymriWarning, InputWarning, Interrupted
    from anymri.text import visible

    keep_freed_memory()
    debug, strict = _take_flag("--debug"), _take_flag("--strict")
    stderr = PlainConsole(stderr=True)

    def fail(title: str, text: str, code: int) -> None:
        stderr.print(Text(f"{title}: ", style="bold red") + Text(visible(text), style="default"), soft_wrap=True)
        sys.exit(code)

    if not debug:
        warnings.simplefilter("ignore")
    warnings.simplefilter("always", AnymriWarning)
    if strict:
        warnings.simplefilter("error", InputWarning)
    # matplotlib logs two lines if it cannot write its cache, as in a read-only home; the figures are the same.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    plain = warnings.showwarning
    warnings.showwarning = lambda message, category, *where, **rest: (
        stderr.print(Text("Note: ", style="bold yellow") + Text(visible(str(message))), soft_wrap=True)
        if issubclass(category, AnymriWarning)
        else plain(message, category, *where, **rest)
    )
    try:
        app()
    except Interrupted as stop:
        # Shells expect 128 plus the number of the signal.
        fail("Interrupted", str(stop), 128 + stop.signal)
    except SystemExit as stop:
        # Typer turns Ctrl-C into this code, without a word.
        if stop.code != INTERRUPTED:
            raise
        fail("Interrupted", "what is finished is kept.\nRun the same command again to continue.", INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        fail(*_explained(error))


def _explained(error: Exception) -> tuple[str, str, int]:
    """Return title, text and exit code of an error."""
    from anymri.errors import AnymriError, InputWarning
    from anymri.text import shortened

    if isinstance(error, AnymriError):
        return "Error", str(error), USER_ERROR
    if isinstance(error, InputWarning):
        return "Error", f"{error}\nCorrect the input, or run without --strict.", USER_ERROR
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        fix = "Check that the path exists, is writable and has free space."
        return "Error", f"{place}{error.strerror or error}.\n{fix}", USER_ERROR
    what = f"{type(error).__name__}: {shortened(str(error), 1000)}"
    fix = "This is a bug: run again with --debug and report the traceback."
    return "Unexpected error", f"{what}\n{fix}", UNEXPECTED_ERROR


def _take_flag(flag: str) -> bool:
    """Remove a flag of all commands from `sys.argv` and return whether it was there."""
    given = flag in sys.argv
    if given:
        sys.argv.remove(flag)
    return given


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones.

    By default it returns large blocks to the operating system and faults them in again page by page, which takes up to
    half of the time of a network on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        # From malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD.
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**29)):
            mallopt(parameter, value)
