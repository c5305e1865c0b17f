"""Assignments: `--set key=value` applied to a recipe, and places in a recipe by the keys that were typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anymri.errors import ConfigurationError, did_you_mean
from anymri.systems.recipes.places import merge, nested, targets_of
from anymri.systems.recipes.schema import Recipe, Stage
from anymri.systems.registry import card
from anymri.text import shortened, shown
from anymri.training import plain_yaml
from anymri.training.fields import Location

# The longest are as in `stage.optimiser.module_rates.prefix.of.a.parameter`.
_MOST_KEYS = 16
# Fields of a recipe that are not settings of the training.
_DESCRIPTIONS = ("system", "about", "source", "sources", "deviations", "corrections")


def read_assignment(assignment: str) -> tuple[list[str], Any]:
    """Return `a.b=1` as its keys, none of them empty, and its value, read as YAML."""
    keys = _keys(assignment)
    try:
        return keys, plain_yaml.read(assignment.partition("=")[2])
    except plain_yaml.YAMLTextError as error:
        raise ConfigurationError(
            f"--set {shortened(assignment)}: the value cannot be read as YAML, because {error}.",
            f"Correct it; text with special characters needs quotes: --set {shortened('.'.join(keys))}=\"'...'\"",
        ) from error


def _keys(assignment: str) -> list[str]:
    path, separator, _ = assignment.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise ConfigurationError(f"--set {shortened(assignment)} is not an assignment.", "Write it as --set key=value.")
    if len(keys) > _MOST_KEYS:
        raise ConfigurationError(
            f"--set {shortened(assignment)} has more than {_MOST_KEYS} keys.",
            "Name a field of the recipe; all fields: anymri recipe SYSTEM",
        )
    return keys


def assign(recipe: dict[str, Any], assignment: str) -> None:
    """Apply `seed=1`, `network.width=4`, `epochs=2` (to all stages) or `train.epochs=2` (to one) to a recipe."""
    keys, value = read_assignment(assignment)
    typed = ".".join(keys)
    if keys[0] == "stages":
        raise ConfigurationError(
            f"--set {shortened(assignment)} cannot replace the list of stages.",
            "Set a field of one stage, as in --set train.epochs=2, or write the stages in a file for --config.",
        )
    if keys[0] in _DESCRIPTIONS:
        raise ConfigurationError(
            f"--set {shortened(assignment)} cannot change {keys[0]}, which says what the recipe is.",
            "Name the system as the argument of the command, and write descriptions in a file for --config.",
        )
    place = targets_of(recipe, keys)
    if place is None:
        known = [
            *(name for name in Recipe.model_fields if name not in ("stages", *_DESCRIPTIONS)),
            *Stage.model_fields,
            *(stage["name"] for stage in recipe["stages"]),
        ]
        hint = did_you_mean(keys[0], known, suffix=_dotted(keys[1:]))
        raise ConfigurationError(f"A recipe has no {shown(keys[0])} to set.", f"{hint}Known: {', '.join(known)}.")
    targets, keys = place
    if not keys:
        raise ConfigurationError(
            f"--set {shortened(assignment)} names a stage without a field.",
            f"Name both, as in --set {typed}.epochs=2",
        )
    if keys[0] == "network" and len(keys) > 1 and keys[1] not in (options := card(recipe["system"]).switches):
        raise ConfigurationError(
            f"The network of {recipe['system']} has no option {shown(keys[1])}, as in --set {shortened(assignment)}.",
            f"{did_you_mean(keys[1], options, 'network.', _dotted(keys[2:]))}Its options are {', '.join(options)}; "
            f"see: anymri systems {recipe['system']}",
        )
    for target in targets:
        merge(target, nested(keys, value))
    merge(recipe, {"sources": {typed: "--set"}})


def typed_name(recipe: Mapping[str, Any], where: Location, assignments: Sequence[str]) -> str:
    """Return the place of a value in a recipe as `--set` names it, with its stage unless all were set at once."""
    path = [str(part) for part in where]
    if len(where) < 2 or where[0] != "stages":
        return ".".join(path)
    path[:2] = [recipe["stages"][where[1]]["name"]]
    typed = map(_keys, assignments)
    return ".".join(path[1:] if any(path[1 : 1 + len(keys)] == keys for keys in typed) else path)


def _dotted(keys: Sequence[str]) -> str:
    return "".join(f".{key}" for key in keys)
