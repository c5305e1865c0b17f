"""`anymri systems`: cards of the systems."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

import typer
from rich.table import Table

from anymri.cli.console import output
from anymri.cli.options import complete_system
from anymri.cli.results.systems import SystemCards


def systems(
    name: Annotated[
        str | None, typer.Argument(help="System whose whole card is shown.", autocompletion=complete_system)
    ] = None,
) -> SystemCards:
    """List the systems, or show the card of one."""
    from anymri.systems.registry import card, names

    cards = [card(name)] if name else [card(each) for each in names()]
    if name:
        values = {each.name: getattr(cards[0], each.name) for each in fields(cards[0])}
        stated = {key: value for key, value in values.items() if value not in (None, "", (), {})}
        for key, value in stated.items():
            output.print(key.replace("_", " "), style="bold")
            output.print("\n".join(f"  {line}" for line in _lines(value)))
    else:
        table = Table("system", "what", "paper", "presets", "parameters", "GMAC, 15 subsets of 128³", box=None)
        for each in cards:
            macs = each.gmacs.get("15 subsets")
            table.add_row(
                each.name,
                each.title,
                each.paper.short if each.paper else "",
                ", ".join(each.presets),
                f"{each.parameters:,}",
                f"{macs:,.0f}" if macs else "",
            )
        output.print(table)
    return SystemCards(cards)


def _lines(value: object) -> list[str]:
    """Return a field of a card as lines to print."""
    if isinstance(value, dict):
        return [f"{name}: {_plain(each)}" for name, each in value.items()]
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else [_plain(value)]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    # Years have no separator of thousands.
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)
