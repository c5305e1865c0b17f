"""Plan of a reproduction: what is trained on which cases, how, and what differs from the authors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anymri.errors import ConfigurationError
from anymri.inference.device import pick_device
from anymri.reproduction.dataset import PHANTOMS, DataSet, read_data_set
from anymri.reproduction.lists import CaseLists, draw_lists, list_files, read_lists
from anymri.systems.blueprint import blueprint
from anymri.systems.card import Card
from anymri.systems.crops import plain
from anymri.systems.recipes.schema import Recipe
from anymri.systems.registry import card, spec
from anymri.text import count
from anymri.training.configuration import TrainingConfiguration, resolve

Scale = Literal["full", "small"]
RECIPE = "reference"
FULL_PRECISION = "The precision is 32-true instead of 16-mixed, which needs a GPU."
# Crop and length of a training at small scale: minutes on two CPU cores for any system.
_SMALL_SIDE = 48
_SMALL: dict[str, Any] = {
    "epochs": 2,
    "steps_per_epoch": 4,
    "batch_size": 1,
    "last_batch": None,
    "accumulate": 1,
    "validation_epochs": 2,
    "discriminator_width": 8,
    "patch_margins": [0, 0, 0],
    "augmented_from": None,
}
# Patches of a validation that does not take whole volumes.
_SMALL_PATCHES = 4


@dataclass(frozen=True)
class Plan:
    """Plan of a reproduction.

    notes  sentences on what differs from the authors' training because of data, machine or scale
    """

    card: Card
    scale: Scale
    data: DataSet
    lists: CaseLists
    output: Path
    configuration: TrainingConfiguration
    notes: Sequence[str]

    @property
    def is_reproduction(self) -> bool:
        """Whether the results may be compared with published ones: data of the right year, at full scale."""
        kind = self.data.kind
        return self.scale == "full" and kind is not None and kind.year == self.card.data_year

    @property
    def run(self) -> Path:
        """Run folder of the training."""
        return self.output / "run"

    @property
    def steps(self) -> int:
        """Number of optimiser steps of all stages."""
        return sum(stage.steps for stage in self.configuration.recipe.stages)

    def settings(self) -> dict[str, Any]:
        """Return what must be the same when the command is run again, for JSON."""
        return {
            "system": self.card.name,
            "scale": self.scale,
            "data": str(self.data.path.absolute()),
            "label_scheme": self.data.scheme,
            "cases": self.lists.record(),
        }

    def facts(self) -> dict[str, str]:
        """Return name -> value of what is done, for terminal and page."""
        lists, recipe = self.lists, self.configuration.recipe
        numbers = f"{len(lists.train)} to train on, "
        numbers += "" if lists.test_chooses else f"{len(lists.validation)} to validate on, "
        stages = [
            f"{count(s.epochs, 'epoch')} of {count(s.steps_per_epoch, 'step')}, crop {plain(s.crop)}"
            for s in recipe.stages
        ]
        return {
            "System": f"{self.card.name}: {self.card.title}",
            "Data": f"{self.data.name} in {self.data.path}, {count(len(self.data.cases), 'labelled case')}, "
            f"label scheme {self.data.scheme}",
            "Cases": f"{numbers}{len(lists.test)} to test{' and to choose the weights' if lists.test_chooses else ''}",
            "Split": lists.source,
            "Recipe": f"{RECIPE}{' at small scale' if self.scale == 'small' else ''}; {recipe.source}",
            "Training": f"{count(self.steps, 'step')}: {'; then '.join(stages)}",
            "Device": f"{pick_device(self.configuration.device)}, precision {recipe.precision}",
        }


def make_plan(
    system: str,
    data: Path,
    output: Path,
    *,
    scale: Scale = "full",
    lists: Path | None = None,
    scheme: str | None = None,
    anyway: bool = False,
    device: str = "auto",
    cache: Path | None = None,
) -> Plan:
    """Return the plan of a reproduction; nothing is written.

    Raises an `AnymriError` for a system without authors, for data that are not those of its recipe (unless `anyway`),
    and for lists that do not fit.
    """
    about, recipes = card(system), spec(system).recipes
    if RECIPE not in recipes or about.split is None:
        raise ConfigurationError(
            f"{system} cannot be reproduced: it has no recipe `{RECIPE}`, or its card no `split` of authors.",
            f"Train it by a recipe of its own: anymri train {system} --recipe {next(iter(recipes))}",
        )
    found = read_data_set(data, scheme, anyway)
    notes = [*_year_notes(about, found, scale, anyway), *found.missing]
    divided = read_lists(lists, found, about.split) if lists else draw_lists(found, about.split)
    if divided.test_chooses:
        notes.append("The test cases also choose the weights, as those of the authors do.")
    changes = _small(about, recipes[RECIPE]) if scale == "small" else []
    if recipes[RECIPE].precision == "16-mixed" and pick_device(device).type != "cuda":
        changes.append("precision=32-true")
        notes.append(FULL_PRECISION)
    files = list_files(output.absolute() / "lists", divided)
    changes += [f"split.{part}={json.dumps(str(file))}" for part, file in files.items() if part != "manifest"]
    options = {
        "data": data.absolute(),
        "label_scheme": found.scheme,
        "device": device,
        "cache": cache and cache.absolute(),
    }
    configuration = resolve(system, RECIPE, options, assignments=changes)
    return Plan(about, scale, found, divided, output, configuration, notes)


def _year_notes(about: Card, data: DataSet, scale: Scale, anyway: bool) -> list[str]:
    """Return a sentence if the data are not of the year of the recipe; raise `ConfigurationError` unless `anyway`."""
    if data.kind is not None and data.kind.year == about.data_year:
        return []
    what = f"The recipe of {about.name} is for BraTS {about.data_year}; the data are {data.name}"
    if not anyway and not (scale == "small" and data.kind is PHANTOMS):
        raise ConfigurationError(
            f"{what} ({data.path}).",
            f"Give BraTS {about.data_year}; or continue with --anyway, and the page says that it is another training.",
        )
    return [f"{what}."]


def _small(about: Card, recipe: Recipe) -> list[str]:
    """Return the assignments that make a recipe small."""
    network = {**recipe.network, **about.presets.get("nano", {})}
    crop = blueprint(about.name, network).usable_crop((_SMALL_SIDE,) * 3)
    changes = {f"network.{name}": value for name, value in network.items()} | _SMALL | {"crop": plain(crop)}
    if recipe.validation.patches:
        changes["validation.patches"] = _SMALL_PATCHES
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]
