"""Card of the weights of a training."""

from __future__ import annotations

from typing import Any

from anymri.systems.recipes.schema import Recipe, Stage
from anymri.training.cohort.find import Cohort
from anymri.weights.card import WeightsCard


def card_of(recipe: Recipe, cohort: Cohort, stage: Stage) -> WeightsCard:
    """Return the card of the weights in a stage."""
    return WeightsCard(
        system=recipe.system,
        network=network_arguments(recipe, cohort),
        preprocessing=recipe.preprocessing,
        window=stage.crop,
        **recipe.window_settings,
        label_scheme=cohort.scheme.name,
        subsets=_only_subsets(recipe, stage),
        synthetic_only=cohort.is_synthetic,
        trained_on=cohort.training_names,
        origin=f"anymri train, stage {stage.name}",
    )


def _only_subsets(recipe: Recipe, stage: Stage) -> list[str] | None:
    """Return the subsets that dedicated stages up to this one train on; None if one of them draws its subsets."""
    subsets = [each.single_subset for each in recipe.stages[: recipe.stages.index(stage) + 1]]
    return None if None in subsets else sorted({str(subset) for subset in subsets})


def network_arguments(recipe: Recipe, cohort: Cohort) -> dict[str, Any]:
    """Return the arguments of the network."""
    return {**recipe.network, "num_classes": cohort.scheme.num_classes}
