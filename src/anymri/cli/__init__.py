"""The `anymri` command: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import ctypes
import sys
import warnings

USER_ERROR = 2
UNEXPECTED_ERROR = 1
INTERRUPTED = 130


def main() -> None:
    """Runs the command line; errors become two sentences and an exit code, and a traceback only with --debug."""
    from rich.console import Console
    from rich.text import Text

    from anymri.cli.commands import app
    from anymri.errors import AnymriError, AnymriWarning, Interrupted

    _keep_freed_memory()
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    stderr = Console(stderr=True, highlight=False)

    def fail(title: str, text: str, code: int) -> None:
        stderr.print(Text(f"{title}: ", style="bold red") + Text(text, style="default"), soft_wrap=True)
        sys.exit(code)

    if not debug:
        warnings.simplefilter("ignore")
    warnings.simplefilter("always", AnymriWarning)
    plain = warnings.showwarning
    warnings.showwarning = lambda message, category, *where, **rest: (
        stderr.print(Text("Note: ", style="bold yellow") + Text(str(message)), soft_wrap=True)
        if issubclass(category, AnymriWarning)
        else plain(message, category, *where, **rest)
    )
    try:
        app()
    except AnymriError as error:
        if debug:
            raise
        fail("Error", str(error), USER_ERROR)
    except Interrupted as stop:
        # By the convention of shells.
        fail("Interrupted", str(stop), 128 + stop.signal)
    except SystemExit as stop:
        # Typer's answer to Ctrl-C is silence and this code.
        if stop.code != INTERRUPTED:
            raise
        fail("Interrupted", "everything finished so far is kept; the same command goes on where it can.", INTERRUPTED)
    except OSError as error:
        if debug:
            raise
        place = f"{error.filename}: " if error.filename else ""
        fail(
            "Error",
            f"{place}{error.strerror or error}.\nCheck that the place exists, with space and rights.",
            USER_ERROR,
        )
    except Exception as error:
        if debug:
            raise
        fail(
            "Unexpected error",
            f"{type(error).__name__}: {error}\nThis is a bug; run again with --debug and report what it says.",
            UNEXPECTED_ERROR,
        )


def _keep_freed_memory() -> None:
    """Lets glibc keep the memory of freed tensors for the next ones.

    By default it hands large blocks back to the system and faults them in anew, page by page: up to half of the time
    that a network takes on a CPU.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        # From malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD.
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**29)):
            mallopt(parameter, value)
