"""`anymri recipe`: a recipe as YAML."""

from __future__ import annotations

from typing import Annotated

import typer

from anymri.cli.console import console
from anymri.cli.options import Assignments, SystemName
from anymri.text import visible


def recipe(
    system: SystemName,
    name: Annotated[
        str | None, typer.Option("--recipe", help="Recipe of the system, e.g. reference, nano; default: corrected.")
    ] = None,
    assignments: Assignments = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Print how the recipe `corrected` differs from `reference`, and why.")
    ] = False,
) -> None:
    """Print a recipe as YAML, with the source of each number.

    It also lists what deviates from the sources. `anymri train --config` reads it, edited or not.
    """
    if diff:
        _print_differences(system)
        return
    from anymri.training.configuration import recipe_to_yaml, resolve_recipe

    text = recipe_to_yaml(resolve_recipe(system, name, assignments or []))
    print("# Numbers come from `source`; those listed in `sources` come from there. Sheets: docs/sheets.")  # noqa: T201
    print(visible(text), end="")  # noqa: T201  for a file


def _print_differences(system: str) -> None:
    from anymri.systems.recipes.corrections import differences
    from anymri.systems.registry import spec

    recipes = spec(system).recipes
    found = differences(system, recipes)
    for key, before, after, reason in found:
        console.print(f"{key}: {before} -> {after}\n    {reason}", soft_wrap=True)
    if not found:
        console.print("The recipes do not differ.")
    if kept := recipes["reference"].deviations:
        console.print("\nBoth deviate from the authors' code in:")
        for deviation in kept:
            console.print(f"    {deviation}", soft_wrap=True)
