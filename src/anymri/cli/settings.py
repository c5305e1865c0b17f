"""Options that every command has, before or after its name: for output, messages and logs."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from anymri.errors import InputWarning

# Read when torch, MKL and numba are imported; the lane openvino takes the number of torch.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_PANEL = "Common options"


@dataclass
class Settings:
    """Values of the common options of the command that runs.

    command   name of the command, as in "weights list"; empty before it is recognised
    as_json   print one JSON object instead of text
    quiet     print only errors, and what the command was asked to print
    verbose   print what the library logs
    log_file  file that gets everything with time stamps
    debug     print the traceback of an error
    strict    warnings about input are errors
    threads   number of threads on a CPU; None for one per core
    no_paths  leave folders out of provenance
    follows   this is one of several processes, and not the first: it prints errors only
    """

    command: str = ""
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    log_file: Path | None = None
    debug: bool = False
    strict: bool = False
    threads: int | None = None
    no_paths: bool = False
    follows: bool = False

    def reset(self) -> None:
        """Return to the defaults, for the next command in this process."""
        for each in fields(self):
            setattr(self, each.name, each.default)

    def apply(self) -> None:
        """Let the settings take effect; raise `OutputError` if the log file cannot be written."""
        from anymri.cli import logs

        logs.start(sys.argv[1:])
        if self.strict:
            warnings.simplefilter("error", InputWarning)
        if self.threads is not None:
            # Without the last, MKL takes no more threads than there are cores.
            os.environ |= dict.fromkeys(_THREADS, str(self.threads)) | {"MKL_DYNAMIC": "FALSE"}


settings = Settings()


def _store(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    # One option may be given before the name of the command and another one after it.
    if parameter.name is not None and value != parameter.default and value is not None:
        setattr(settings, parameter.name, value)
    return value


def _option(*names: str, help_text: str, **rest: Any) -> Any:
    return typer.Option(
        *names, help=help_text, callback=_store, expose_value=False, rich_help_panel=_PANEL, show_default=False, **rest
    )


def _everywhere(
    as_json: Annotated[
        bool, _option("--json", help_text="One JSON object on stdout; see docs/command-line.md.")
    ] = False,
    quiet: Annotated[
        bool, _option("--quiet", help_text="Only errors, and what the command is asked to print.")
    ] = False,
    verbose: Annotated[bool, _option("--verbose", help_text="Log lines of the library too.")] = False,
    log_file: Annotated[
        Path | None, _option("--log-file", help_text="File that gets everything with time stamps.")
    ] = None,
    strict: Annotated[bool, _option("--strict", help_text="Notes about input as errors.")] = False,
    debug: Annotated[bool, _option("--debug", help_text="Traceback of an error.")] = False,
) -> None:
    """Declare the options of every command."""


def _computing(
    threads: Annotated[
        int | None, _option("--threads", min=1, help_text="Threads on a CPU; default: one per core.")
    ] = None,
) -> None:
    """Declare the options of commands that compute."""


def _recording(
    no_paths: Annotated[
        bool, _option("--no-paths", help_text="Names of files without their folders in provenance.json.")
    ] = False,
) -> None:
    """Declare the options of commands that write provenance."""


def _parameters(function: Any) -> tuple[Any, ...]:
    """Return the options that a function declares."""
    declaring = typer.Typer(add_completion=False)
    declaring.command()(function)
    return tuple(typer.main.get_command(declaring).params)


_EVERYWHERE, _COMPUTING, _RECORDING = map(_parameters, (_everywhere, _computing, _recording))


class Command(TyperCommand):
    """Command with the common options.

    further  options beside those of its function
    """

    further = _EVERYWHERE

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params = [*self.params, *self.further]

    def invoke(self, ctx: Any) -> Any:
        """Apply the settings and run the command."""
        settings.command = ctx.command_path.removeprefix("anymri").strip()
        settings.apply()
        return super().invoke(ctx)


class ComputingCommand(Command):
    """Command that computes: it has the number of threads too."""

    further = (*_EVERYWHERE, *_COMPUTING)


class RecordingCommand(ComputingCommand):
    """Command that computes and writes provenance, with paths or without."""

    further = (*_EVERYWHERE, *_COMPUTING, *_RECORDING)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, with paths in provenance or without."""
        from anymri.provenance import without_paths

        with without_paths(settings.no_paths):
            return super().invoke(ctx)


class Group(TyperGroup):
    """Group of commands that takes the options of all commands before the name of a command."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params = [*self.params, *_EVERYWHERE, *_COMPUTING, *_RECORDING]
