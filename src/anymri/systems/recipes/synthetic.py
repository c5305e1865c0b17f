"""Recipes for synthetic cases: brains at 2 mm that are made in training, see `--data synthetic`."""

from __future__ import annotations

from typing import Any

from anymri.data.preprocessing import Preprocessing
from anymri.systems.recipes.schema import Optimiser, Recipe, Stage

PREPROCESSING = Preprocessing(normalisation="zscore_background_zero", coarsening=2)


def on_synthetic_cases(system: str, about: str, network: dict[str, Any], stages: list[Stage]) -> Recipe:
    """Return a recipe for synthetic cases."""
    return Recipe(
        system=system,
        about=about,
        source="ours; schedule after two prototypes (docs/weights.md)",
        network=network,
        preprocessing=PREPROCESSING,
        precision="bf16-if-fast",
        window_values="logits",
        stages=stages,
    )


def synthetic_stage(learning_rate: float, **settings: Any) -> Stage:
    """Return a stage whose crops are mostly around tumours.

    settings  settings of the stage, beside these or in place of them
    """
    chosen: dict[str, Any] = {
        "batch_size": 2,
        "foreground_oversampling": 0.8,
        "augmentation": "flip",
        "optimiser": Optimiser(name="adamw", learning_rate=learning_rate, second_moment=0.99, clip_norm=3.0),
        "averaging": 0.99,
        "schedule": "warm_cosine_by_step",
        "steps_per_epoch": 100,
    }
    return Stage(**chosen | settings)
