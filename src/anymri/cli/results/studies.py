"""What commands about trainings and evaluations return."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anymri.cli.results import Result


@dataclass(frozen=True)
class Training(Result):
    """A run folder with the weights to use, and the last validation: region -> Dice in 0..1 (null without one)."""

    run: Path
    weights: Path
    validation: dict[str, float] | None = None


@dataclass(frozen=True)
class MeanMetric:
    """Mean over cases of a metric; null if no case has a value.

    cases  number of cases that have a value
    """

    subset: str
    region: str
    metric: str
    mean: float | None
    cases: int


@dataclass(frozen=True)
class Evaluated(Result):
    """An evaluation folder with its means over cases.

    metrics           CSV file with one row per case, subset, region and metric
    table             Markdown table; null without the extra `report`
    seen_in_training  evaluated cases that the weights were trained on
    """

    folder: Path
    metrics: Path
    table: Path | None
    cases: int
    means: list[MeanMetric]
    seen_in_training: list[str]


@dataclass(frozen=True)
class MadeTable(Result):
    """A table: its format, and the file that has it, or else its text."""

    format: str
    file: Path | None
    text: str | None


@dataclass(frozen=True)
class Plots(Result):
    """The files of plots."""

    folder: Path
    files: list[Path]


@dataclass(frozen=True)
class Page(Result):
    """An HTML page."""

    page: Path


@dataclass(frozen=True)
class RegionVerdict:
    """Our mean Dice of a region in 0..1 beside the published one, in words."""

    region: str
    mean_dice: float | None
    words: str


@dataclass(frozen=True)
class Reproduction(Result):
    """The plan of a reproduction, and what it found.

    page             HTML page; null with --dry-run
    plan             name -> text of each fact
    notes            what to know about the plan
    is_reproduction  whether data, split and scale are those of the authors
    """

    page: Path | None
    plan: dict[str, str]
    notes: list[str]
    verdicts: list[RegionVerdict]
    is_reproduction: bool


@dataclass(frozen=True)
class Demo(Result):
    """The folder of a demo, its run, its evaluation, and its page."""

    folder: Path
    run: Path
    evaluation: Path
    page: Path
