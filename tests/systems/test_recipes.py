"""Recipes of all systems: sources of their numbers, and deviations from them."""

import re
from pathlib import Path

import pytest

from anymri.systems import registry
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage

RECIPES = [
    pytest.param(recipe, id=f"{system}-{name}")
    for system in registry.names()
    for name, recipe in registry.spec(system).recipes.items()
]
PUBLISHED = [name for name in registry.names() if registry.spec(name).convert is not None]
SHEETS = Path(__file__).parents[2] / "docs" / "sheets"


def has_setting(recipe, keys):
    """Return whether `--set` finds a setting by these keys in a recipe."""
    if keys[0] in {stage.name for stage in recipe.stages}:
        return keys[1] in Stage.model_fields and (len(keys) == 2 or keys[2] in Optimiser.model_fields)
    if keys[0] in Recipe.model_fields:
        value = getattr(recipe, keys[0])
        return len(keys) == 1 or keys[1] in (value if isinstance(value, dict) else type(value).model_fields)
    return keys[0] in Stage.model_fields and (len(keys) == 1 or keys[1] in Optimiser.model_fields)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_names_existing_settings_as_sourced(recipe):
    assert recipe.source and all(recipe.sources.values())
    unknown = [name for name in recipe.sources if not has_setting(recipe, name.split("."))]
    assert not unknown


@pytest.mark.parametrize("recipe", RECIPES)
def test_sections_named_as_sources_exist(recipe):
    """Sources read like `sheet mam, Loss`, `protocol sheet, section 5` and `sheet m3ae, sections 2 and 6`."""
    for source in (recipe.source, *recipe.sources.values()):
        for before, after, rest in re.findall(r"(?:(\w+) )?sheet(?: (\w+))?,([^;]*)", source):
            sheet = (SHEETS / f"{after or before}.md").read_text(encoding="utf-8")
            headings = re.findall(r"^##+ (.*)$", sheet, re.MULTILINE)
            for number in re.findall(r"sections? (\d+)(?: and (\d+))?", rest):
                assert all(any(h.startswith(f"{n}.") for h in headings) for n in number if n), source
            named = re.match(r" ([A-Z][^,:]*)", rest)
            assert not named or any(h.startswith(named[1]) for h in headings), source


@pytest.mark.parametrize("system", PUBLISHED)
def test_reference_recipe_names_its_sheet_and_each_deviation_once(system):
    recipe = registry.spec(system).recipes["reference"]
    assert "sheet" in recipe.source and system in recipe.source
    assert "Deviation" not in recipe.about
    assert recipe.deviations and all(item.endswith(".") and len(item) > 20 for item in recipe.deviations)
    assert len({*recipe.deviations}) == len(recipe.deviations)
