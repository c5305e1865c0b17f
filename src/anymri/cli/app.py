"""The command-line application: every command under its name."""

from __future__ import annotations

from typing import Annotated

import typer

from anymri.cli.commands.cite import cite
from anymri.cli.commands.convert import convert
from anymri.cli.commands.demo import demo
from anymri.cli.commands.doctor import doctor
from anymri.cli.commands.evaluate import evaluate
from anymri.cli.commands.export import export
from anymri.cli.commands.phantom import phantom
from anymri.cli.commands.plot import plot
from anymri.cli.commands.recipe import recipe
from anymri.cli.commands.report import report
from anymri.cli.commands.reproduce import reproduce
from anymri.cli.commands.score import score
from anymri.cli.commands.segment import segment
from anymri.cli.commands.systems import systems
from anymri.cli.commands.table import table
from anymri.cli.commands.train import train
from anymri.cli.commands.weights import weights
from anymri.cli.console import console

app = typer.Typer(
    name="anymri",
    help="Segment brain tumours from whichever of T1, T1c, T2 and FLAIR exist.",
    epilog="Add --debug to any command for a full traceback, --strict to turn notes about input into errors.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (
    systems,
    cite,
    phantom,
    recipe,
    train,
    doctor,
    segment,
    evaluate,
    score,
    table,
    plot,
    report,
    convert,
    export,
    reproduce,
    demo,
):
    app.command()(command)
app.add_typer(weights, name="weights")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Print the version, if asked to; otherwise run the command."""
    if version:
        from anymri._version import __version__

        console.print(__version__)
