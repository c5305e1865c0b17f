"""Training configuration: from a recipe's name, a YAML file and `--set` to one set of checked values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from anymri.errors import ConfigurationError, LabelError, did_you_mean
from anymri.files import cache_folder
from anymri.regions import label_scheme
from anymri.systems.blueprint import blueprint
from anymri.systems.crops import plain
from anymri.systems.recipes.places import merge
from anymri.systems.recipes.schema import Recipe
from anymri.systems.registry import check_recipe, spec
from anymri.text import shown
from anymri.training import plain_yaml
from anymri.training.assignments import assign, typed_name
from anymri.training.fields import Location, dotted, read_yaml, validated
from anymri.weights.locate import find_weights

# In place of a cohort: cases that are made in training, and their label scheme.
SYNTHETIC, SYNTHETIC_SCHEME = "synthetic", "brats2023"


def _trainable(name: str) -> str:
    scheme = label_scheme(name)
    if not scheme.trainable:
        raise LabelError(
            f"The label scheme {name} ({scheme.description}) does not separate enhancing tumour from the rest of the "
            "core.",
            "Train on a cohort with another scheme; anymri evaluate takes this one.",
        )
    return name


class TrainingConfiguration(BaseModel):
    """All settings of a training; saved as `config.yaml` in its run folder.

    data             cohort: a folder or a CSV manifest; or "synthetic", see `anymri.training.cohort.synthetic`
    label_scheme     name of a scheme of `anymri.regions.SCHEMES`; one that cannot be trained on raises `LabelError`.
                     That of synthetic cases is known
    initial_weights  weights of the same network to begin with; by default random ones
    cache            folder of preprocessed cases, shared by runs on the same data with the same preprocessing
    loggers          loggers beside log.csv and TensorBoard
    loss             name of the caller's loss in place of the objectives of the recipe; a record, never imported
    """

    model_config = ConfigDict(extra="forbid")

    data: Path
    label_scheme: Annotated[str, AfterValidator(_trainable)]
    initial_weights: Path | None = None
    device: str = "auto"
    cache: Path = Field(default_factory=lambda: cache_folder() / "patches")
    loggers: tuple[Literal["mlflow", "wandb"], ...] = ()
    loss: str | None = None
    recipe: Recipe

    @property
    def is_synthetic(self) -> bool:
        """Whether the cases are made in training."""
        return str(self.data) == SYNTHETIC

    def to_yaml(self) -> str:
        """Return the configuration as YAML for `--config`."""
        return plain_yaml.write(self.model_dump(mode="json"))


def path_options(
    data: Path | str | None, cache: Path | str | None, initial_weights: Path | str | None
) -> dict[str, Path | None]:
    """Return the options of `resolve` that are paths, absolute; `SYNTHETIC` stays, and weights become their file.

    Raises `WeightsError` if there are no such weights.
    """
    return {
        "data": None if data is None else Path(data) if str(data) == SYNTHETIC else Path(data).absolute(),
        "cache": None if cache is None else Path(cache).absolute(),
        "initial_weights": None if initial_weights is None else find_weights(Path(initial_weights)).absolute(),
    }


def resolve(
    system: str,
    recipe: str | None,
    options: Mapping[str, Any],
    file: Path | None = None,
    assignments: Sequence[str] = (),
) -> TrainingConfiguration:
    """Return the configuration of a recipe, changed by a YAML file, then by options, then by `--set key=value`.

    recipe       name of the recipe; by default "corrected", and without it the first
    options      data, label_scheme, initial_weights, device, cache and loggers where given (None is skipped)
    file         YAML with any of these and recipe; only what differs from the recipe is needed
    assignments  texts such as "seed=1", "network.width=4", "epochs=2" (all stages) or "whole.epochs=2" (one stage)

    Raises an `AnymriError` that names the option, key or field as it was typed, before any case is read.
    """
    chosen = _recipe(system, recipe)
    changes = {} if file is None else read_yaml(file)
    # A file that names its system is a saved configuration, complete by itself: the named recipe is not used.
    is_complete = isinstance(changes.get("recipe"), dict) and "system" in changes["recipe"]
    values: dict[str, Any] = {} if is_complete else {"recipe": chosen.model_dump()}
    merge(values, changes)
    if file is not None:
        values["recipe"] = validated(
            Recipe, values["recipe"], str(file), lambda where: dotted(("recipe", *where))
        ).model_dump()
    values |= {name: value for name, value in options.items() if value is not None}
    if str(values.get("data")) == SYNTHETIC:
        values.setdefault("label_scheme", SYNTHETIC_SCHEME)
    for assignment in assignments:
        assign(values["recipe"], assignment)
    missing = [f"--{name.replace('_', '-')}" for name in ("data", "label_scheme") if name not in values]
    if missing:
        raise ConfigurationError(f"Training needs {' and '.join(missing)}.", "Add what is missing, or use --config.")

    def typed(where: Location) -> str:
        if where[0] == "recipe":
            return typed_name(values["recipe"], where[1:], assignments)
        option = "logger" if where[0] == "loggers" else str(where[0]).replace("_", "-")
        return f"--{option}" if options.get(str(where[0])) is not None else dotted(where)

    configuration = validated(TrainingConfiguration, values, "The configuration", typed)
    if configuration.recipe.system != system:
        raise ConfigurationError(
            f"{file} is a configuration of {configuration.recipe.system}, not of {system}.",
            f"Train that system: anymri train {configuration.recipe.system} --config {file}",
        )
    _check_network(configuration.recipe)
    return configuration


def resolve_recipe(system: str, recipe: str | None, assignments: Sequence[str] = ()) -> Recipe:
    """Return a recipe, see `resolve`, with the changes of `--set key=value`, checked as before a training."""
    values = _recipe(system, recipe).model_dump()
    for assignment in assignments:
        assign(values, assignment)
    resolved = validated(Recipe, values, "The recipe", lambda where: typed_name(values, where, assignments))
    _check_network(resolved)
    return resolved


def recipe_to_yaml(recipe: Recipe) -> str:
    """Return a recipe as YAML for `--config`."""
    return plain_yaml.write({"recipe": recipe.model_dump(mode="json")})


def _recipe(system: str, name: str | None) -> Recipe:
    recipes = spec(system).recipes
    if name is None:
        return recipes.get("corrected") or next(iter(recipes.values()))
    check_recipe(system, name, recipes)
    return recipes[name]


def _check_network(recipe: Recipe) -> None:
    """Raise `ConfigurationError` if a stage's crop does not fit the network, or if it names modules that the network
    does not have."""
    system = blueprint(recipe.system, recipe.network).train()
    names = [name for name, _ in system.named_parameters()]
    modules = sorted({name.split(".")[0] for name in names})
    for stage in recipe.stages:
        usable = system.usable_crop(stage.crop)
        if stage.crop != usable:
            other = f", or --set network.crop={plain(stage.crop)}" if system.crop else ""
            raise ConfigurationError(
                f"The crop of {plain(stage.crop)} voxels in stage {stage.name} does not fit {recipe.system}: "
                f"{system.crop_rule()}.",
                f"Choose --set {stage.name}.crop={plain(usable)}{other}.",
            )
        for prefix in (*stage.frozen, *stage.optimiser.module_rates, *stage.optimiser.zero_gradient_updates):
            if not any(name.startswith(prefix) for name in names):
                raise ConfigurationError(
                    f"{recipe.system} has no module {shown(prefix)}, which stage {stage.name} names.",
                    f"{did_you_mean(prefix, modules)}Its modules are {', '.join(modules)}.",
                )
