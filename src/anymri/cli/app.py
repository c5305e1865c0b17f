"""The command-line application: every command under its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from anymri.cli.commands.cite import cite
from anymri.cli.commands.convert import convert
from anymri.cli.commands.demo import demo
from anymri.cli.commands.doctor import doctor
from anymri.cli.commands.evaluate import evaluate
from anymri.cli.commands.export import export
from anymri.cli.commands.follow_up import follow_up
from anymri.cli.commands.info import info
from anymri.cli.commands.pacs import pacs
from anymri.cli.commands.phantom import phantom
from anymri.cli.commands.plot import plot
from anymri.cli.commands.recipe import recipe
from anymri.cli.commands.report import report
from anymri.cli.commands.reproduce import reproduce
from anymri.cli.commands.score import score
from anymri.cli.commands.segment import segment
from anymri.cli.commands.studio import studio
from anymri.cli.commands.systems import systems
from anymri.cli.commands.table import table
from anymri.cli.commands.train import train
from anymri.cli.commands.weights import weights
from anymri.cli.console import output
from anymri.cli.results import BAD_INPUT
from anymri.cli.settings import Command, ComputingCommand, Group, RecordingCommand

app = typer.Typer(
    name="anymri",
    help="Segment brain tumours from whichever of T1, T1c, T2 and FLAIR exist.",
    cls=Group,
    pretty_exceptions_enable=False,
)

for command, kind in (
    (systems, Command),
    (cite, Command),
    (phantom, ComputingCommand),
    (recipe, Command),
    (train, RecordingCommand),
    (doctor, ComputingCommand),
    (segment, RecordingCommand),
    (follow_up, RecordingCommand),
    (studio, RecordingCommand),
    (evaluate, RecordingCommand),
    (score, RecordingCommand),
    (table, ComputingCommand),
    (plot, ComputingCommand),
    (report, ComputingCommand),
    (convert, ComputingCommand),
    (export, ComputingCommand),
    (reproduce, ComputingCommand),
    (demo, ComputingCommand),
    (info, ComputingCommand),
):
    app.command(cls=kind)(command)
app.add_typer(weights, name="weights")
app.add_typer(pacs, name="pacs")


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version, if asked to; without a command, the help."""
    if version:
        from anymri._version import __version__

        output.print(__version__)
    elif context.invoked_subcommand is None:
        output.write(context.get_help())
        raise typer.Exit(BAD_INPUT)


def commands() -> dict[str, Any]:
    """Return the name of each command, as in "weights list" -> class of what it returns."""
    return {name: inspect.signature(command, eval_str=True).return_annotation for name, command in _registered(app)}


def _registered(group: typer.Typer, prefix: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    for each in group.registered_commands:
        assert each.callback is not None
        name = each.name or each.callback.__name__.replace("_", "-")  # as typer names it
        yield f"{prefix}{name}", each.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from _registered(inner.typer_instance, f"{prefix}{inner.name} ")
