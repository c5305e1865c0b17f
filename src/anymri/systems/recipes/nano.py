"""Stages of the nano recipes: small patches teach the tumour's tissues, large ones the healthy brain."""

from __future__ import annotations

from typing import Any

from anymri.systems.crops import as_sides
from anymri.systems.recipes.schema import Optimiser, Stage

FOR_A_LAPTOP = "For a laptop without a GPU: eight minutes on two cores at most (docs/leaderboard.md)."


def small_patches(epochs: int, **settings: Any) -> Stage:
    """Return a stage of 40 steps per epoch with small patches around tumours.

    settings  settings of the stage, in place of these
    """
    chosen: dict[str, Any] = {
        "name": "parts",
        "steps_per_epoch": 40,
        "batch_size": 2,
        "crop": 32,
        "foreground_oversampling": 0.8,
        "optimiser": Optimiser(learning_rate=1.5e-2),
        "schedule": "poly",
        # Too early for validation, and small windows are slow.
        "validation_epochs": None,
    }
    return Stage(epochs=epochs, **chosen | settings)


def large_patches(crop: int, epochs: int, steps_per_epoch: int, **settings: Any) -> Stage:
    """Return a stage with patches of most of a brain, its edges as often as its middle.

    settings  settings of the stage, in place of these
    """
    chosen: dict[str, Any] = {
        "name": "whole",
        "foreground_oversampling": 0.3,
        "patch_sampling": "around_voxels",
        "optimiser": Optimiser(learning_rate=5e-3),
        "schedule": "poly",
        "validation_epochs": epochs,
    }
    return Stage(crop=as_sides(crop), epochs=epochs, steps_per_epoch=steps_per_epoch, **chosen | settings)


def one_crop(crop: int, learning_rate: float, **first: Any) -> list[Stage]:
    """Return two stages for networks that take only one crop, of most of a brain: around tumours, then everywhere.

    first  settings of the first stage, in place of ours
    """
    return [
        small_patches(epochs=1, crop=crop, optimiser=Optimiser(learning_rate=learning_rate), **first),
        large_patches(
            crop,
            epochs=3,
            steps_per_epoch=16,
            batch_size=2,
            optimiser=Optimiser(learning_rate=learning_rate / 2),
        ),
    ]
