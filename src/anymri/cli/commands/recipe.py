"""`anymri recipe`: a recipe as YAML."""

from __future__ import annotations

from typing import Annotated

import typer

from anymri.cli.options import Assignments, SystemName
from anymri.text import visible


def recipe(
    system: SystemName,
    name: Annotated[
        str | None, typer.Option("--recipe", help="Recipe of the system, e.g. published, nano; default: published.")
    ] = None,
    assignments: Assignments = None,
) -> None:
    """Print a recipe as YAML, with the source of each number.

    It also lists what deviates from the sources. `anymri train --config` reads it, edited or not.
    """
    from anymri.training.configuration import recipe_to_yaml, resolve_recipe

    text = recipe_to_yaml(resolve_recipe(system, name, assignments or []))
    print("# Numbers come from `source`; those listed in `sources` come from there. Sheets: docs/sheets.")  # noqa: T201
    print(visible(text), end="")  # noqa: T201  for a file
