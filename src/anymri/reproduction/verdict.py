"""Our values beside published ones: differences with intervals, and in words where the published value is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
import pandas as pd

from anymri.analysis.grid import Cell, Grid, Group
from anymri.analysis.published import Published
from anymri.analysis.statistics import CONFIDENCE, Interval, bootstrap_mean, case_table, case_values
from anymri.analysis.tables import MEAN, MODALITY_COLUMNS, SUBSET_NAMES, signs
from anymri.evaluation.metrics.printing import NOTHING, explain, format_value
from anymri.modalities import SUBSETS
from anymri.text import count

REGIONS = ("WT", "TC", "ET")
# Row of the mean over `REGIONS`, where a paper prints nothing else.
ALL = "mean of WT, TC, ET"


@dataclass(frozen=True)
class Verdict:
    """Published mean over the 15 subsets beside ours.

    region     region, or `ALL`
    ours       mean over cases with its interval, as a fraction
    published  published mean, as a fraction; NaN if there is none
    """

    region: str
    ours: Interval
    published: float

    @property
    def words(self) -> str:
        """Where the published value is."""
        if isnan(self.published) or isnan(self.ours.value):
            return NOTHING
        if self.published < self.ours.low:
            return "published value below our interval"
        return f"published value {'above' if self.published > self.ours.high else 'inside'} our interval"


def verdicts(metrics: pd.DataFrame, metric: str, published: Published | None) -> list[Verdict]:
    """Return the verdict of each region that was published, and of the mean of all where only that was.

    metrics    rows of `metrics.csv`
    published  results that may be compared; None without any
    """
    by_region = {region: case_values(case_table(metrics, metric, region), region, SUBSET_NAMES) for region in REGIONS}
    found = [
        Verdict(region, bootstrap_mean(values.to_numpy(dtype=float)), _published(published, metric, MEAN, region))
        for region, values in by_region.items()
    ]
    if published is not None and published.overall_dice is not None:
        values = pd.DataFrame(by_region).dropna().mean(axis="columns")
        found.append(Verdict(ALL, bootstrap_mean(values.to_numpy(dtype=float)), published.overall_dice / 100))
    return found


def verdict_grid(found: Sequence[Verdict], metric: str, published: Published | None, no_meaning: str) -> Grid:
    """Return one row per region: ours, its interval, the published value, the difference, the verdict in words.

    no_meaning  why the verdicts mean nothing, after each of them; empty if they do
    """
    rows = []
    for each in found:
        difference = _difference(each.ours, each.published)
        words = each.words + (f" (no meaning: {no_meaning})" if no_meaning and each.words != NOTHING else "")
        texts = (
            _with_interval(each.ours, metric),
            _value(each.published, metric),
            _with_interval(difference, metric, "+"),
        )
        rows.append([Cell(each.region), Cell(texts[0]), Cell(texts[1], quoted=True), Cell(texts[2]), Cell(words)])
    columns = ("ours", published.label if published else "published", "ours minus published", "verdict")
    return Grid(
        f"Means over the {len(SUBSETS)} subsets, with {CONFIDENCE:.0%} bootstrap intervals over "
        f"{count(_cases(found), 'test case')}",
        ("region",),
        [Group("", columns)],
        rows,
        reading=[f"{explain(metric)}."],
        notes=published.notes(metric) if published else (),
    )


def subset_differences(metrics: pd.DataFrame, metric: str, published: Published | None) -> Grid:
    """Return the 15 rows and their mean: ours with its interval per region, and beside it what is published.

    Without published rows there are only ours.
    """
    tables = {region: case_table(metrics, metric, region) for region in REGIONS}
    has_rows = published is not None and published.has(metric)
    rows = []
    for row in [*SUBSET_NAMES, MEAN]:
        cells = [Cell(text) for text in ([MEAN, "", "", ""] if row == MEAN else signs(row))]
        for region, table in tables.items():
            subsets = SUBSET_NAMES if row == MEAN else [row]
            ours = bootstrap_mean(case_values(table, region, subsets).to_numpy(dtype=float))
            cells.append(Cell(_with_interval(ours, metric)))
            if has_rows:
                value = _published(published, metric, row, region)
                cells += [Cell(_value(value, metric), quoted=True), Cell(_value(ours.value - value, metric, "+"))]
        rows.append(cells)
    columns = ("ours", "published", "difference") if has_rows else ("ours",)
    return Grid(
        f"The {len(SUBSETS)} subsets, with {CONFIDENCE:.0%} bootstrap intervals over the test cases",
        MODALITY_COLUMNS,
        [Group(region, columns) for region in REGIONS],
        rows,
        reading=[f"{explain(metric)}."],
        notes=published.notes(metric) if published and has_rows else (),
        total=True,
    )


def _published(published: Published | None, metric: str, row: str, region: str) -> float:
    return float("nan") if published is None else published.value(metric, row, region)


def _difference(ours: Interval, published: float) -> Interval:
    return Interval(ours.value - published, ours.low - published, ours.high - published, ours.cases)


def _value(value: float, metric: str, sign: str = "") -> str:
    text = format_value(value, metric)
    return f"+{text}" if sign and text != NOTHING and not text.startswith("-") and np.sign(value) > 0 else text


def _with_interval(interval: Interval, metric: str, sign: str = "") -> str:
    if isnan(interval.value):
        return NOTHING
    low, high = (_value(value, metric, sign) for value in (interval.low, interval.high))
    return f"{_value(interval.value, metric, sign)} [{low}, {high}]"


def _cases(found: Sequence[Verdict]) -> int:
    return min((each.ours.cases for each in found), default=0)
