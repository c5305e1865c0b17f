"""The recipe `corrected` of a system: its recipe `reference` with what a user of the authors' code would correct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anymri.data.preprocessing import Preprocessing
from anymri.errors import ConfigurationError
from anymri.systems.recipes.places import merge, nested, targets_of
from anymri.systems.recipes.schema import Recipe


@dataclass(frozen=True)
class Correction:
    """One setting in which `corrected` differs from `reference`.

    key     setting as `--set` names it: network.first_skip, subsets (of all stages), warmup.subsets (of one)
    value   value in `corrected`
    reason  why, in a sentence
    """

    key: str
    value: Any
    reason: str


# Of systems whose authors cut the scans as IM-Fuse does, and what is corrected of it.
IM_FUSE_BOX = Preprocessing(drop_last_slice=True, minimum_box=128)
WHOLE_BOX = (
    Correction(
        "preprocessing.drop_last_slice", False, "The authors' box lacks the last slice of the brain on each axis."
    ),
    Correction(
        "preprocessing.minimum_box", None, "A small box needs no voxels from around it: windows and patches are padded."
    ),
)
BLENDED_PROBABILITIES = Correction(
    "window_values",
    "probabilities",
    "Probabilities are averaged, as in most systems, so that tables compare networks and not ways of blending.",
)
FULL_PRECISION = Correction(
    "precision", "32-true", "Half precision needs a GPU, and float32 gives the same weights on every device."
)
DICE_OF_LABEL_MAPS = Correction(
    "validation.dice", "label_maps", "The best weights are chosen by the Dice that evaluation reports."
)
WHOLE_VOLUMES = Correction(
    "validation.patches", None, "Whole volumes show false positives far from a tumour; patches do not."
)
ALL_SUBSETS_IN_TURN = Correction(
    "validation.subsets", "in_turn", "Each validation covers the 15 subsets alike, so that validations can be compared."
)


def linear(augmentation: str) -> Correction:
    """Return the correction of an augmentation that resamples by cubic splines."""
    return Correction(
        "augmentation", augmentation, "Images are resampled linearly: a patch is ready in a quarter of the time."
    )


def corrected(reference: Recipe, corrections: Sequence[Correction]) -> Recipe:
    """Return the recipe `corrected` of a recipe `reference`."""
    values = reference.model_dump()
    values["about"] = f"{reference.about} Corrected: anymri recipe {reference.system} --diff."
    for correction in corrections:
        targets, keys = _place(values, correction.key)
        for target in targets:
            merge(target, nested(keys, correction.value))
    values["corrections"] = {correction.key: correction.reason for correction in corrections}
    return Recipe.model_validate(values)


def differences(system: str, recipes: Mapping[str, Recipe]) -> list[tuple[str, Any, Any, str]]:
    """Return key, value in `reference`, value in `corrected` and reason of each correction of a system.

    Raises `ConfigurationError` if the system has no such recipes, because nobody has published it.
    """
    if "reference" not in recipes:
        raise ConfigurationError(
            f"{system} has no recipe `reference` to compare with: nobody has published it.",
            f"Show one of its recipes: anymri recipe {system} --recipe {next(iter(recipes))}",
        )
    found = recipes["corrected"]
    both = [recipe.model_dump(mode="json") for recipe in (recipes["reference"], found)]
    return [(key, *(_value(values, key) for values in both), reason) for key, reason in found.corrections.items()]


def _place(values: dict[str, Any], key: str) -> tuple[list[dict[str, Any]], list[str]]:
    place = targets_of(values, key.split("."))
    assert place is not None, f"a recipe has no {key}"
    return place


def _value(values: dict[str, Any], key: str) -> Any:
    """Return a setting, of all stages that of the last one."""
    targets, keys = _place(values, key)
    value: Any = targets[-1]
    for each in keys:
        value = value[each] if isinstance(value, dict) and each in value else None
    return value
