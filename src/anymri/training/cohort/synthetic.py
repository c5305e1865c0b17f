"""Synthetic training cases: made when they are needed, never written; case k follows from the seed and k alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import overload

import numpy as np

from anymri.data.cache import CachedCase, in_memory
from anymri.data.preprocessing import Preprocessing, preprocess
from anymri.errors import ConfigurationError
from anymri.synthesis.realistic.generator import VERSION, generate
from anymri.synthesis.realistic.study import as_study
from anymri.systems.recipes.schema import Recipe, Split

# Patches of a case, and the cases among which they alternate: so many are in memory.
PATCHES_PER_CASE, AT_ONCE = 4, 16
# Share of easy cases, see `generate`, for random and for trained weights; the first falls to the second.
EASY_AT_FIRST, EASY = 0.8, 0.2
VALIDATION_CASES = 12
VALIDATION_SEEDS = 2**32  # added to the seed of the recipe


@dataclass(frozen=True)
class SyntheticCases(Sequence[CachedCase]):
    """Cases of a training.

    seed           seed of the recipe
    total          number of cases that the training uses
    preprocessing  that of the recipe; cases are made on its grid
    easy_at_first  share of easy cases at the beginning of the training
    """

    seed: int
    total: int
    preprocessing: Preprocessing
    easy_at_first: float = EASY_AT_FIRST
    _made: dict[int, CachedCase] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, recipe: Recipe, is_trained: bool = False) -> SyntheticCases:
        """Return the cases of a recipe; see `check`.

        is_trained  the training begins with trained weights, which need no more easy cases than at the end
        """
        cls.check(recipe)
        patches = max(stage.epochs * stage.patches_per_epoch for stage in recipe.stages)
        easy = EASY if is_trained else EASY_AT_FIRST
        return cls(recipe.seed, ceil(patches / PATCHES_PER_CASE), recipe.preprocessing, easy)

    @staticmethod
    def check(recipe: Recipe) -> None:
        """Raise `ConfigurationError` for settings that are about the files or the names of cases."""
        named = {
            "missing": any(recipe.missing_rates.values()),
            "split": recipe.split != Split(),
            "subsets": any(stage.fixes_subsets for stage in recipe.stages),
        }
        if wrong := [name for name, is_set in named.items() if is_set]:
            raise ConfigurationError(
                f"Synthetic cases have all modalities and no list of names, which {' and '.join(wrong)} would need.",
                "Leave these settings as they are, or write a cohort: anymri phantom --style realistic -o COHORT",
            )

    @property
    def description(self) -> str:
        """What determines the cases."""
        easy = f"{100 * self.easy_at_first:.0f} % easy at first"
        return f"generator {VERSION}, seed {self.seed}, cases 0 to {self.total - 1}, {easy}"

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, index: int) -> CachedCase: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[CachedCase]: ...
    def __getitem__(self, index: int | slice) -> CachedCase | Sequence[CachedCase]:
        """Return a case, made unless it is among the last ones."""
        if isinstance(index, slice):
            return [self[each] for each in range(self.total)[index]]
        if not 0 <= index < self.total:
            raise IndexError(index)
        if index not in self._made:
            share = self.easy_at_first + (EASY - self.easy_at_first) * index / self.total
            is_easy = np.random.default_rng([self.seed, index]).random() < share
            made = synthetic_case(self.seed, index, self.preprocessing, bool(is_easy))
            while len(self._made) >= AT_ONCE:
                del self._made[next(iter(self._made))]
            self._made[index] = made
        return self._made[index]

    def index_of(self, patch: int) -> int:
        """Return the case of a patch: cases of a block in turn, then those of the next block."""
        block, place = divmod(patch, AT_ONCE * PATCHES_PER_CASE)
        return min(block * AT_ONCE + place % AT_ONCE, self.total - 1)


def validation_cases(recipe: Recipe) -> list[CachedCase]:
    """Return cases that no training with this seed uses."""
    seed = VALIDATION_SEEDS + recipe.seed
    return [synthetic_case(seed, index, recipe.preprocessing) for index in range(VALIDATION_CASES)]


def synthetic_case(seed: int, index: int, preprocessing: Preprocessing, easy: bool = False) -> CachedCase:
    """Return a preprocessed case, made on the grid of the network; see `generate`."""
    spacing = preprocessing.coarsening
    made = generate(seed, index, float(spacing), easy=easy)
    name = f"synthetic-{seed}-{index}"
    return in_memory(name, preprocess(as_study(made, name), preprocessing.model_copy(update={"coarsening": 1})))
