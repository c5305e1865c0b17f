"""What commands about systems return."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymri.cli.results import Result
from anymri.systems.card import Card


@dataclass(frozen=True)
class SystemCards(Result):
    """The cards of all systems, or of the one that was named."""

    systems: list[Card]


@dataclass(frozen=True)
class Citations(Result):
    """BibTeX entries as one text."""

    bibtex: str


@dataclass(frozen=True)
class RecipeDifference:
    """How the recipe `corrected` differs from `reference` in one key, and why."""

    key: str
    reference: str
    corrected: str
    reason: str


@dataclass(frozen=True)
class ResolvedRecipe(Result):
    """A recipe as the values of its YAML; or, with --diff, how two recipes differ.

    deviations  deviations of both recipes from the authors' code, with --diff
    """

    system: str
    recipe: dict[str, Any] | None = None
    differences: list[RecipeDifference] | None = None
    deviations: list[str] | None = None


@dataclass(frozen=True)
class Converted(Result):
    """Weights from an authors' checkpoint, and what of it was used and skipped, as text."""

    weights: Path
    system: str
    summary: str


@dataclass(frozen=True)
class Exported(Result):
    """Weights or a cohort in the format of other programs.

    files     files that were written; of a cohort those beside its images
    cases     names of the cases of a cohort; null for weights
    left_out  names of cases that the format cannot hold; null for weights
    """

    folder: Path
    format: str
    files: list[Path]
    cases: list[str] | None = None
    left_out: list[str] | None = None
