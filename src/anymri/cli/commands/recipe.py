"""`anymri recipe`: a recipe as YAML."""

from __future__ import annotations

from typing import Annotated

import typer

from anymri.cli.checks import check_system
from anymri.cli.console import output
from anymri.cli.options import Assignments, SystemName
from anymri.cli.results.systems import RecipeDifference, ResolvedRecipe


def recipe(
    system: SystemName,
    name: Annotated[
        str | None, typer.Option("--recipe", help="Recipe of the system, e.g. reference, nano; default: corrected.")
    ] = None,
    assignments: Assignments = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Print how the recipe `corrected` differs from `reference`, and why.")
    ] = False,
) -> ResolvedRecipe:
    """Print a recipe as YAML, with the source of each number.

    It also lists what deviates from the sources. `anymri train --config` reads it, edited or not.
    """
    check_system(system, name)
    if diff:
        return _print_differences(system)
    from anymri.training.configuration import recipe_to_yaml, resolve_recipe

    resolved = resolve_recipe(system, name, assignments or [])
    output.write("# Numbers come from `source`; those listed in `sources` come from there. Sheets: docs/sheets.\n")
    output.write(recipe_to_yaml(resolved))
    return ResolvedRecipe(system, recipe=resolved.model_dump(mode="json"))


def _print_differences(system: str) -> ResolvedRecipe:
    from anymri.systems.recipes.corrections import differences
    from anymri.systems.registry import spec

    recipes = spec(system).recipes
    found = differences(system, recipes)
    for key, before, after, reason in found:
        output.print(f"{key}: {before} -> {after}\n    {reason}", soft_wrap=True)
    if not found:
        output.print("The recipes do not differ.")
    if kept := recipes["reference"].deviations:
        output.print("\nBoth deviate from the authors' code in:")
        for deviation in kept:
            output.print(f"    {deviation}", soft_wrap=True)
    differing = [RecipeDifference(key, f"{before}", f"{after}", reason) for key, before, after, reason in found]
    return ResolvedRecipe(system, differences=differing, deviations=list(kept))
