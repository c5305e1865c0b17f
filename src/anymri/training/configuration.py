"""Training configuration: from a recipe's name, a YAML file and `--set` to one set of checked values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from anymri.data.cache import default_folder
from anymri.errors import ConfigurationError, LabelError, did_you_mean
from anymri.files import TextError, read_text
from anymri.regions import label_scheme
from anymri.systems.blueprint import blueprint
from anymri.systems.crops import plain
from anymri.systems.recipes.places import merge
from anymri.systems.recipes.schema import Recipe
from anymri.systems.registry import spec
from anymri.text import listed, shortened, shown
from anymri.training import plain_yaml
from anymri.training.assignments import Location, assign, typed_name
from anymri.weights.locate import find_weights

M = TypeVar("M", bound=BaseModel)
# Largest number of problems in one error.
_MOST_PROBLEMS = 8
# In place of a cohort: cases that are made in training, and their label scheme.
SYNTHETIC, SYNTHETIC_SCHEME = "synthetic", "brats2023"


def _dotted(where: Location) -> str:
    return ".".join(map(str, where))


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
    cache: Path = Field(default_factory=default_folder)
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
            Recipe, values["recipe"], str(file), lambda where: _dotted(("recipe", *where))
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
        return f"--{option}" if options.get(str(where[0])) is not None else _dotted(where)

    configuration = validated(TrainingConfiguration, values, "The configuration", typed)
    if configuration.recipe.system != system:
        raise ConfigurationError(
            f"{file} is a configuration of {configuration.recipe.system}, not of {system}.",
            f"Train that system: anymri train {configuration.recipe.system} --config {file}",
        )
    _check_network(configuration.recipe)
    return configuration


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; raise `ConfigurationError` if it cannot be read or has none."""
    if not file.is_file():
        raise ConfigurationError(
            f"{file} does not exist or is not a file.",
            "Check the path; to write such a file: anymri recipe SYSTEM > FILE",
        )
    try:
        values = plain_yaml.read(read_text(file))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}.", "Check its permissions.") from error
    except (TextError, plain_yaml.YAMLTextError) as error:
        raise ConfigurationError(
            f"{file} cannot be read as YAML, because {error}.",
            "Correct it; all fields of a recipe: anymri recipe SYSTEM",
        ) from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{file} is not a mapping.", "Write it as `recipe: {seed: 1}` and so on.")
    return values


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


def validated(kind: type[M], values: Any, source: str, name_of: Callable[[Location], str] = _dotted) -> M:
    """Return values as a typed model; raise `ConfigurationError` naming each field that does not fit.

    source   where the values are from, for the error
    name_of  function of a place to the name by which errors call it
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems: dict[str, None] = {}
        for each in _of_best_alternatives(error.errors()):
            where, given = _field_names(each["loc"]), each["input"]
            name = name_of(where) if where else ""
            reason = each["msg"].removeprefix("Value error, ").removesuffix(".")
            reason = reason[:1].lower() + reason[1:]
            if each["type"] == "extra_forbidden":
                known, last = _fields_at(kind, where[:-1]), str(where[-1])
                hint = did_you_mean(last, known, name.removesuffix(last)).strip()
                meant = hint.replace("Did", "did", 1) or f"known: {', '.join(known)}"
                reason = f"there is no such field; {meant}"
            elif not isinstance(given, dict | list | tuple | BaseModel):
                reason += f" (given: {shown(given)})"
            problems[f"{shortened(name)}: {shortened(reason, 300)}" if name else shortened(reason, 300)] = None
        text = listed(list(problems), _MOST_PROBLEMS, "; ")
        raise ConfigurationError(
            f"{source} does not fit: {text}{'' if text.endswith('?') else '.'}",
            "Correct these fields; all fields of a recipe: anymri recipe SYSTEM",
        ) from error


def _of_best_alternatives(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Return the errors without those of other types of a union: a number that is too large is no faulty dictionary."""
    by_place: dict[Location, list[ErrorDetails]] = {}
    for error in errors:
        by_place.setdefault(_field_names(error["loc"]), []).append(error)
    kept: list[ErrorDetails] = []
    for same in by_place.values():
        fitting = [each for each in same if not each["type"].endswith(("_type", "_parsing"))]
        kept += fitting or same[:1]
    return kept


def _recipe(system: str, name: str | None) -> Recipe:
    recipes = spec(system).recipes
    if name is None:
        return recipes.get("corrected") or next(iter(recipes.values()))
    if name not in recipes:
        raise ConfigurationError(
            f"{system} has no recipe {shown(name)}.",
            f"{did_you_mean(name, recipes)}Choose one of {', '.join(recipes)}; see: anymri systems {system}",
        )
    return recipes[name]


def _fields_at(kind: type[BaseModel], where: Location) -> list[str]:
    """Return the fields of the model at a place inside a model."""
    for part in where:
        if isinstance(part, str) and part in kind.model_fields:
            annotation = kind.model_fields[part].annotation
            candidates = [annotation, *get_args(annotation)]
            kind = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), kind)
    return list(kind.model_fields)


def _field_names(where: Location) -> Location:
    """Return a place without the alternatives of a union, which pydantic adds to it."""
    words = ("str", "float", "int", "dict", "constrained", "function", "literal", "tuple")
    end = (n for n, part in enumerate(where) if n and isinstance(part, str) and part.startswith(words))
    return where[: next(end, len(where))]


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
