"""Places of settings in the plain values of a recipe, by their keys in `--set`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anymri.systems.recipes.schema import Recipe, Stage


def targets_of(recipe: dict[str, Any], keys: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]] | None:
    """Return the recipe or its stages, in which a setting is, and the keys that lead to it there; None for neither.

    keys  `seed`; `network`, `width`; `epochs` (of all stages); or `train`, `epochs` (of one), which may lack the last
    """
    stages = {stage["name"]: stage for stage in recipe["stages"]}
    if keys[0] in Recipe.model_fields:
        return [recipe], list(keys)
    if keys[0] in stages:
        return [stages[keys[0]]], list(keys[1:])
    return (list(stages.values()), list(keys)) if keys[0] in Stage.model_fields else None


def nested(keys: Sequence[str], value: Any) -> dict[str, Any]:
    """Return a value under keys, each inside the one before: {"network": {"width": 4}}."""
    for key in reversed(keys):
        value = {key: value}
    found: dict[str, Any] = value
    return found


def merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Change nested values in place; a mapping changes only the keys that it has."""
    for key, change in changes.items():
        if isinstance(change, dict) and isinstance(values.get(key), dict):
            merge(values[key], change)
        else:
            values[key] = change
