"""Stages of the nano recipe of RA-HVED."""

from __future__ import annotations

from typing import Any

from anymri.systems.recipes.nano import large_patches, small_patches
from anymri.systems.recipes.schema import Optimiser

_ADVERSARIAL: dict[str, Any] = {"objective": "adversarial", "discriminator_width": 8, "subsets": "by_size"}
# Small enough for two cores: first the reconstruction alone, then all losses with a discriminator.
NANO_STAGES = [
    small_patches(
        1, name="images", objective="pretraining", subsets="by_size", optimiser=Optimiser(learning_rate=5e-3)
    ),
    small_patches(4, optimiser=Optimiser(learning_rate=1e-2), **_ADVERSARIAL),
    large_patches(64, 3, steps_per_epoch=10, batch_size=2, **_ADVERSARIAL),
]
