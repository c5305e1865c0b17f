"""`anymri weights`: list, show, add, verify, remove and find installed weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from anymri.cli.console import console
from anymri.errors import WeightsError
from anymri.modalities import SUBSETS

if TYPE_CHECKING:
    from anymri.weights.card import DiceTable, WeightsCard
    from anymri.weights.catalogue import Installed

# Exit code if some of the weights are damaged.
DAMAGED = 2
_OPERATIVE = {"pre": "before surgery", "post": "after surgery", "any": "before and after surgery", None: "not known"}

Name = Annotated[str, typer.Argument(help="Name of installed weights; list: anymri weights list.")]

weights = typer.Typer(help="List, add, verify and remove installed weights.", no_args_is_help=True)


@weights.command("list")
def list_weights() -> None:
    """List the installed weights."""
    from anymri.weights.catalogue import installed
    from anymri.weights.folders import folders

    every = installed()
    if not every:
        console.print(f"No weights are installed in {folders()[0]}; add some: anymri weights add FILE-OR-URL")
        return
    table = Table("name", "kind", "system", "scans", "subsets", "mean Dice", "summary", box=None)
    for each in every:
        table.add_row(each.name, "starter" if each.is_starter else "added", *_row(each))
    console.print(table)


@weights.command()
def show(
    weights: Annotated[Path, typer.Argument(help="Name of installed weights, a .safetensors file, or a run folder.")],
) -> None:
    """Show the card of weights, with their mean Dice by subset."""
    from anymri.files import sha256
    from anymri.weights.locate import find_weights
    from anymri.weights.store import read_card

    file = find_weights(weights)
    card = read_card(file)
    if card.summary:
        console.print(card.summary, style="bold", soft_wrap=True)
    for name, text in (_facts(card) | {"file": f"{file}", "SHA-256": sha256(file)}).items():
        console.print(f"{name}: {text}", soft_wrap=True)
    for each in card.tables:
        console.print(f"\nMean Dice, %: {each.data}, {each.cases} cases", style="bold", soft_wrap=True)
        console.print(_dice_table(each))


@weights.command()
def add(
    source: Annotated[str, typer.Argument(metavar="FILE-OR-URL", help="File, run folder, or URL of https.")],
    sha256: Annotated[str | None, typer.Option(help="SHA-256 of the file; necessary for a URL.")] = None,
    name: Annotated[str | None, typer.Option(help="Name to install them by; default: that of the file.")] = None,
) -> None:
    """Install weights from a file or a URL.

    They are checked first: hash, card, tensors. A file that fails is not installed.
    """
    from anymri.weights.adding import add as install

    with console.status("installing"):
        added = install(source, name, sha256)
    console.print(f"{added.name}: {added.file}", soft_wrap=True)


@weights.command()
def verify(name: Annotated[str | None, typer.Argument(help="Name of installed weights; default: all.")] = None) -> None:
    """Load weights completely, and print their SHA-256.

    The exit code is 2 if some are damaged.
    """
    from anymri.weights.catalogue import find_installed, installed
    from anymri.weights.catalogue import verify as check

    damaged = False
    for each in [find_installed(name)] if name else installed():
        try:
            console.print(f"{each.name}: whole, SHA-256 {check(each)}", soft_wrap=True)
        except WeightsError as error:
            damaged = True
            console.print(f"{each.name}: {error.what} {error.fix}", style="bold red", soft_wrap=True)
    if damaged:
        raise typer.Exit(DAMAGED)


@weights.command()
def remove(name: Name) -> None:
    """Remove weights that were added."""
    from anymri.weights.catalogue import remove as uninstall

    console.print(f"Removed {uninstall(name)}", soft_wrap=True)


@weights.command()
def path(
    name: Annotated[str | None, typer.Argument(help="Name of installed weights; default: the folder itself.")] = None,
) -> None:
    """Print the file of weights, or the folder to add to."""
    from anymri.weights.catalogue import find_installed
    from anymri.weights.folders import folders

    console.print(f"{find_installed(name).file if name else folders()[0]}", soft_wrap=True)


def _row(weights: Installed) -> tuple[str, ...]:
    """Return system, scans, subsets, mean Dice of all subsets and summary of weights, or why they cannot be read."""
    try:
        card = weights.card()
    except WeightsError as error:
        return "", "", "", "", error.what
    dice = card.mean_dice(None)
    return (
        card.system,
        _OPERATIVE[card.operative],
        _subsets(card),
        "" if dice is None else f"{100 * dice:.1f} %",
        card.summary,
    )


def _subsets(card: WeightsCard) -> str:
    return ", ".join(card.subsets) if card.subsets else "any"


def _facts(card: WeightsCard) -> dict[str, str]:
    """Return what a card says in words: name -> text; facts that it does not state are left out."""
    facts = {
        "system": card.system,
        "network": ", ".join(f"{name}={value}" for name, value in card.network.items()),
        "subsets": _subsets(card),
        "scans": f"{_OPERATIVE[card.operative]}, in the space of the {card.space}",
        "label scheme": card.label_scheme or "not known",
        "training data": card.data or "not described",
        "training cases": f"{len(card.trained_on)}" if card.trained_on else "not named",
        "synthetic images only": "yes" if card.synthetic_only else "",
        "preprocessing": ", ".join(f"{name}={value}" for name, value in card.preprocessing if value),
        "window": "x".join(map(str, card.window)),
        "licence": card.licence or "not stated",
        "origin": card.origin,
        "written by": f"anymri {card.anymri}",
    }
    return {name: text for name, text in facts.items() if text}


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
