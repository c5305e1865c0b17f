"""From a recipe's name, a YAML file and `--set` to one resolved training configuration."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anymri.data.cache import default_folder
from anymri.errors import ConfigurationError
from anymri.systems.recipes.schema import Recipe, Stage
from anymri.systems.registry import build, spec

M = TypeVar("M", bound=BaseModel)


class TrainingConfiguration(BaseModel):
    """All that decides a training; saved as `config.yaml` in its run folder.

    cache    where preprocessed cases are kept; runs on the same data and preprocessing share it
    loggers  what hears of each epoch beside log.csv and TensorBoard
    """

    model_config = ConfigDict(extra="forbid")

    data: Path
    label_scheme: str
    device: str = "auto"
    cache: Path = Field(default_factory=default_folder)
    loggers: tuple[Literal["mlflow", "wandb"], ...] = ()
    recipe: Recipe

    def to_yaml(self) -> str:
        """The configuration as YAML that `--config` understands."""
        return _yaml(self.model_dump(mode="json"))


def resolve(
    system: str,
    recipe: str,
    options: Mapping[str, Any],
    file: Path | None = None,
    assignments: Sequence[str] = (),
) -> TrainingConfiguration:
    """A recipe, then what a YAML file changes, then command-line options, then `--set key=value`.

    options  data, label_scheme, device, cache and loggers where given (None is skipped)
    file     YAML with any of these and recipe; only what differs need be there
    """
    chosen = _recipe(system, recipe)
    changes = {} if file is None else read_yaml(file)
    # A file that names its system is a saved configuration, whole in itself: nothing of another recipe may leak in.
    is_whole = isinstance(changes.get("recipe"), dict) and "system" in changes["recipe"]
    values: dict[str, Any] = {} if is_whole else {"recipe": chosen.model_dump()}
    _merge(values, changes)
    values |= {name: value for name, value in options.items() if value is not None}
    for assignment in assignments:
        _assign(values["recipe"], assignment)
    missing = [f"--{name.replace('_', '-')}" for name in ("data", "label_scheme") if name not in values]
    if missing:
        raise ConfigurationError(f"Training needs {' and '.join(missing)}.", "Add what is missing, or use --config.")
    configuration = validated(TrainingConfiguration, values, "The configuration")
    if configuration.recipe.system != system:
        raise ConfigurationError(
            f"{file} is a configuration of {configuration.recipe.system}, not of {system}.",
            "Name the system that the file is for.",
        )
    _check_network(configuration.recipe)
    return configuration


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file} cannot be read as YAML ({error}).", "Give a YAML file.") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{file} holds no mapping.", "Write it as `recipe: {seed: 1}` and so on.")
    return values


def resolve_recipe(system: str, recipe: str, assignments: Sequence[str] = ()) -> Recipe:
    """A recipe by name with what `--set key=value` changes, checked as before a training."""
    values = _recipe(system, recipe).model_dump()
    for assignment in assignments:
        _assign(values, assignment)
    resolved = validated(Recipe, values, "The recipe")
    _check_network(resolved)
    return resolved


def recipe_to_yaml(recipe: Recipe) -> str:
    """A recipe as YAML that `--config` understands."""
    return _yaml({"recipe": recipe.model_dump(mode="json")})


def validated(kind: type[M], values: Mapping[str, Any], source: str) -> M:
    """Values as a typed configuration or recipe; raises `ConfigurationError` naming each field that does not fit."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" + (f" (given: {e['input']!r})" if e["loc"] else "")
            for e in error.errors()
        )
        raise ConfigurationError(
            f"{source} does not fit: {problems}.", "Correct these fields; the others are fine."
        ) from error


def read_assignment(assignment: str) -> tuple[list[str], Any]:
    """`a.b=1` as its keys, none of them empty, and its value, read as YAML."""
    path, separator, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise ConfigurationError(f"--set {assignment} is no assignment.", "Write it as --set key=value.")
    try:
        return keys, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"--set {assignment}: the value is no YAML.", "Quote it.") from error


def _recipe(system: str, name: str) -> Recipe:
    recipes = spec(system).recipes
    if name not in recipes:
        raise ConfigurationError(f"{system} has no recipe {name!r}.", f"Choose one of {', '.join(recipes)}.")
    return recipes[name]


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, width=100, allow_unicode=True)


def _check_network(recipe: Recipe) -> None:
    """Raises `ConfigurationError` if a stage's patches do not fit the network, or it names parts that the network does
    not have: before any case is read."""
    with torch.device("meta"):
        system = build(recipe.system, recipe.network).train()
    for stage in recipe.stages:
        usable = system.usable_side(stage.crop)
        if stage.crop != usable:
            other = f", or --set network.crop={stage.crop}" if system.crop else ""
            raise ConfigurationError(
                f"The patches of {stage.crop} voxels a side in stage {stage.name} do not fit {recipe.system}: "
                f"{system.crop_rule()}.",
                f"Choose --set {stage.name}.crop={usable}{other}.",
            )
        for part in (*stage.frozen, *stage.optimiser.module_rates, *stage.optimiser.zero_gradient_updates):
            if not any(name.startswith(part) for name, _ in system.named_parameters()):
                known = sorted({name.split(".")[0] for name, _ in system.named_parameters()})
                raise ConfigurationError(
                    f"{recipe.system} has no part {part!r}, which stage {stage.name} names.",
                    f"Its parts are {', '.join(known)}.",
                )


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, change in changes.items():
        if isinstance(change, dict) and isinstance(values.get(key), dict):
            _merge(values[key], change)
        else:
            values[key] = change


def _assign(recipe: dict[str, Any], assignment: str) -> None:
    """Applies `seed=1`, `network.width=4`, `epochs=2` (to all stages) or `train.epochs=2` (to one) to a recipe."""
    keys, value = read_assignment(assignment)
    stages = {stage["name"]: stage for stage in recipe["stages"]}
    if keys[0] in Recipe.model_fields:
        targets = [recipe]
    elif keys[0] in stages:
        targets = [stages[keys.pop(0)]]
    elif keys[0] in Stage.model_fields:
        targets = list(stages.values())
    else:
        known = [*Recipe.model_fields, *Stage.model_fields, *stages]
        close = difflib.get_close_matches(keys[0], known, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise ConfigurationError(f"A recipe has no {keys[0]!r} to set.", f"{hint}Known: {', '.join(known)}.")
    change: Any = value
    for key in reversed(keys[1:]):
        change = {key: change}
    for target in targets:
        _merge(target, {keys[0]: change})
    _merge(recipe, {"sources": {assignment.partition("=")[0].strip(): "--set"}})
