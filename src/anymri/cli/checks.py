"""Checks of options before torch is imported, which takes seconds: a typing error is reported at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from anymri.errors import ConfigurationError


def check_computation(device: str, lane: str = "torch") -> None:
    """Raise an `AnymriError` for an unknown device or lane, or for a lane whose packages are not installed."""
    from anymri.extras import need
    from anymri.inference.choices import OPENVINO, OPENVINO_PACKAGES, check_device, check_lane

    check_device(device)
    check_lane(lane)
    if lane == OPENVINO:
        need("export", *OPENVINO_PACKAGES, purpose="The lane openvino")


def check_several(combine: str, flips: str, engine: str, lane: str) -> None:
    """Raise an `AnymriError` for an unknown combination, axis or engine, or if one needs a package that is missing."""
    from anymri.extras import need
    from anymri.inference.choices import check_combination, check_engine, check_flips

    check_combination(combine)
    check_flips(flips)
    check_engine(engine, lane)
    if combine == "staple":
        need("prepare", "SimpleITK", purpose="STAPLE")
    if engine == "ray":
        need("cluster", "ray", purpose="The engine ray")


def check_space(space: str | None) -> None:
    """Raise `ConfigurationError` if a space is neither `prepared` nor any alias of a modality."""
    from anymri.errors import check_known
    from anymri.modalities import MODALITIES, find_modality

    if space not in (None, "prepared") and find_modality(space) is None:
        check_known("space", space, (*MODALITIES, "prepared"))


def check_weights(weights: Iterable[Path]) -> None:
    """Raise `WeightsError` if there are no weights at a path or of a name."""
    from anymri.weights.locate import find_weights

    for each in weights:
        find_weights(each)


def check_metrics(names: Iterable[str] | None) -> None:
    """Raise `ConfigurationError` for an unknown metric."""
    if names is not None:
        from anymri.evaluation.metrics import choose

        choose(names)


def check_system(system: str, recipe: str | None) -> None:
    """Raise an `AnymriError` for an unknown system, or for a recipe that its card does not name."""
    from anymri.systems.registry import card, check_recipe

    recipes = card(system).recipes
    if recipe is not None and recipes:
        check_recipe(system, recipe, recipes)


def check_loggers(names: Iterable[str]) -> None:
    """Raise an `AnymriError` for an unknown logger, or one whose package is not installed."""
    from anymri.errors import check_known
    from anymri.extras import need

    for name in names:
        check_known("logger", name, ("mlflow", "wandb"))
        need(name, name)


def check_file(option: str, path: Path | None) -> None:
    """Raise `ConfigurationError` unless the file that an option names exists."""
    if path is not None and not path.is_file():
        raise ConfigurationError(f"{option} {path}: there is no such file.", "Check the path.")
