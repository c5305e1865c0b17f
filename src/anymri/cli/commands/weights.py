"""`anymri weights`: list, show, add, verify, remove and find installed weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from anymri.cli.console import console, output
from anymri.cli.options import complete_weights
from anymri.cli.results.installation import (
    AddedWeights,
    InstalledWeights,
    Verification,
    VerifiedWeights,
    WeightsDetails,
    WeightsFile,
    WeightsList,
)
from anymri.cli.settings import Command, ComputingCommand, Group
from anymri.errors import WeightsError
from anymri.modalities import SUBSETS
from anymri.text import count

if TYPE_CHECKING:
    from anymri.weights.card import DiceTable, WeightsCard
    from anymri.weights.catalogue import Installed

_OPERATIVE = {"pre": "before surgery", "post": "after surgery", "any": "before and after surgery", None: "not known"}

Name = Annotated[
    str, typer.Argument(help="Name of installed weights; list: anymri weights list.", autocompletion=complete_weights)
]

weights = typer.Typer(cls=Group, help="List, add, verify and remove installed weights.", no_args_is_help=True)


@weights.command("list", cls=Command)
def list_weights() -> WeightsList:
    """List the installed weights."""
    from anymri.weights.catalogue import installed
    from anymri.weights.folders import folders

    every = [_described(each) for each in installed()]
    if every:
        table = Table("name", "kind", "system", "scans", "subsets", "mean Dice", "summary", box=None)
        for each in every:
            table.add_row(each.name, each.kind, *_row(each))
        output.print(table)
    else:
        output.print(f"No weights are installed in {folders()[0]}; add some: anymri weights add FILE-OR-URL")
    return WeightsList(folders()[0], every)


@weights.command(cls=Command)
def show(
    weights: Annotated[Path, typer.Argument(help="Name of installed weights, a .safetensors file, or a run folder.")],
) -> WeightsDetails:
    """Show the card of weights, with their mean Dice by subset."""
    from anymri.files import sha256
    from anymri.weights.locate import find_weights
    from anymri.weights.store import read_card

    file = find_weights(weights)
    card, hexadecimal = read_card(file), sha256(file)
    if card.summary:
        output.print(card.summary, style="bold", soft_wrap=True)
    for name, text in (_facts(card) | {"file": f"{file}", "SHA-256": hexadecimal}).items():
        output.print(f"{name}: {text}", soft_wrap=True)
    for each in card.tables:
        output.print(f"\nMean Dice, %: {each.data}, {count(each.cases, 'case')}", style="bold", soft_wrap=True)
        output.print(_dice_table(each))
    return WeightsDetails(file, hexadecimal, card.model_dump(mode="json"))


@weights.command(cls=Command)
def add(
    source: Annotated[str, typer.Argument(metavar="FILE-OR-URL", help="File, run folder, or URL of https.")],
    sha256: Annotated[str | None, typer.Option(help="SHA-256 of the file; necessary for a URL.")] = None,
    name: Annotated[str | None, typer.Option(help="Name to install them by; default: that of the file.")] = None,
) -> AddedWeights:
    """Install weights from a file or a URL.

    They are checked first: hash, card, tensors. A file that fails is not installed.
    """
    from anymri.cli.progress import working
    from anymri.weights.adding import add as install

    with working("installing"):
        added = install(source, name, sha256)
    console.print(f"{added.name}: {added.file}", soft_wrap=True)
    return AddedWeights(added.name, added.file)


@weights.command(cls=ComputingCommand)
def verify(
    name: Annotated[str | None, typer.Argument(help="Name of installed weights; default: all.")] = None,
) -> Verification:
    """Load weights completely, and print their SHA-256.

    The exit code is 2 if some are damaged.
    """
    from anymri.weights.catalogue import find_installed, installed
    from anymri.weights.catalogue import verify as check

    verified = []
    for each in [find_installed(name)] if name else installed():
        try:
            found = VerifiedWeights(each.name, check(each), None)
            output.print(f"{each.name}: whole, SHA-256 {found.sha256}", soft_wrap=True)
        except WeightsError as error:
            found = VerifiedWeights(each.name, None, error.what)
            output.print(f"{each.name}: {error.what} {error.fix}", style="bold red", soft_wrap=True)
        verified.append(found)
    return Verification(verified)


@weights.command(cls=Command)
def remove(name: Name) -> WeightsFile:
    """Remove weights that were added."""
    from anymri.weights.catalogue import remove as uninstall

    removed = uninstall(name)
    console.print(f"Removed {removed}", soft_wrap=True)
    return WeightsFile(removed)


@weights.command(cls=Command)
def path(
    name: Annotated[str | None, typer.Argument(help="Name of installed weights; default: the folder itself.")] = None,
) -> WeightsFile:
    """Print the file of weights, or the folder to add to."""
    from anymri.weights.catalogue import find_installed
    from anymri.weights.folders import folders

    found = find_installed(name).file if name else folders()[0]
    output.print(f"{found}", soft_wrap=True)
    return WeightsFile(found)


def _described(weights: Installed) -> InstalledWeights:
    """Return what the card of weights says, or why it cannot be read."""
    kind = "starter" if weights.is_starter else "added"
    try:
        card = weights.card()
    except WeightsError as error:
        return InstalledWeights(weights.name, kind, weights.file, problem=error.what)
    dice, subsets = card.mean_dice(None), list(card.subsets) if card.subsets else None
    return InstalledWeights(weights.name, kind, weights.file, card.system, card.operative, subsets, dice, card.summary)


def _row(weights: InstalledWeights) -> tuple[str, ...]:
    """Return system, scans, subsets, mean Dice of all subsets and summary of weights, or why they cannot be read."""
    if weights.problem is not None:
        return "", "", "", "", weights.problem
    return (
        weights.system or "",
        _OPERATIVE[weights.operative],
        _subsets(weights.subsets),
        "" if weights.mean_dice is None else f"{100 * weights.mean_dice:.1f} %",
        weights.summary,
    )


def _subsets(names: Sequence[str] | None) -> str:
    return ", ".join(names) if names else "any"


def _facts(card: WeightsCard) -> dict[str, str]:
    """Return what a card says in words: name -> text; facts that it does not state are left out."""
    facts = {
        "system": card.system,
        "network": ", ".join(f"{name}={value}" for name, value in card.network.items()),
        "subsets": _subsets(card.subsets),
        "scans": f"{_OPERATIVE[card.operative]}, in the space of the {card.space}",
        "label scheme": card.label_scheme or "not known",
        "training data": card.data or "not described",
        "training cases": _cases(card),
        "synthetic images only": "yes" if card.synthetic_only else "",
        "preprocessing": ", ".join(f"{name}={value}" for name, value in card.preprocessing if value),
        "window": "x".join(map(str, card.window)),
        "licence": card.licence or "not stated",
        "origin": card.origin,
        "written by": f"anymri {card.anymri}",
    }
    return {name: text for name, text in facts.items() if text}


def _cases(card: WeightsCard) -> str:
    """Return how many cases the weights were trained on; of synthetic ones, which."""
    if card.synthetic_only and card.trained_on:
        return ", ".join(card.trained_on)
    return str(len(card.trained_on)) if card.trained_on else "not named"


def _dice_table(measured: DiceTable) -> Table:
    """Return the table of the 15 subsets, in %."""
    regions = [r for r in ("WT", "TC", "ET", "RC") if any(r in row for row in measured.dice.values())]
    table = Table("subset", box=None)
    for region in regions:
        table.add_column(region, justify="right")
    for subset in SUBSETS:
        row = measured.dice.get(str(subset), {})
        table.add_row(f"{subset}", *(f"{100 * row[region]:.1f}" if region in row else "" for region in regions))
    return table
