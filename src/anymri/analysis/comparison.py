"""Several evaluations side by side: the table of 15 subsets, the table of averages, and their statistics.

Every mean is over the cases that all evaluations have scored, so that columns are comparable; the average row is
computed from the rows above it. Published results are shown in italics and are not part of any comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd

from anymri.analysis.grid import Cell, Grid, Group
from anymri.analysis.published import Published
from anymri.analysis.reading import StoredEvaluation, doubts, protocol_notes, read_evaluations
from anymri.analysis.statistics import DECIMALS, SIGNIFICANT, PairedTest, compare_systems
from anymri.analysis.tables import MEAN, MODALITY_COLUMNS, SUBSET_NAMES, conventions, signs
from anymri.errors import RunError
from anymri.evaluation.metrics import METRICS
from anymri.evaluation.metrics.printing import NOTHING, explain, format_value, heading, lower_is_better, published_name
from anymri.evaluation.rows import PLACES, SCORED
from anymri.text import count

WORSE = "†"


class NothingSharedError(RunError):
    """Evaluations that do not have any scored case and subset in common."""


@dataclass(frozen=True)
class MetricComparison:
    """Comparison of evaluations by one metric.

    metric       name of the metric
    metrics      name of an evaluation -> rows of its `metrics.csv`
    conventions  how the metric was computed, and by which protocol
    doubts       why the evaluations may not be comparable
    """

    metric: str
    metrics: Mapping[str, pd.DataFrame]
    conventions: Sequence[str]
    doubts: Sequence[str] = ()

    @cached_property
    def common(self) -> dict[str, pd.DataFrame]:
        """Name -> scored rows of the metric, for the cases, subsets and regions that all evaluations have scored."""
        keys = ["case", "subset", "region"]
        scored = {
            name: rows[(rows["metric"] == self.metric) & (rows["status"] == SCORED)].set_index(keys).sort_index()
            for name, rows in self.metrics.items()
        }
        shared = None
        for rows in scored.values():
            shared = rows.index if shared is None else shared.intersection(rows.index)
        return {name: rows.loc[shared].reset_index() for name, rows in scored.items()}

    @cached_property
    def tables(self) -> dict[tuple[str, str], pd.DataFrame]:
        """Values of the common rows by name and region, as `case_table`s; NaN where a region is not scored."""
        keys = next(iter(self.common.values()))  # the same for all
        cases, subsets = (pd.Categorical(keys[column]) for column in ("case", "subset"))
        found = {}
        for region in self.regions:
            rows = np.flatnonzero(keys["region"] == region)
            place = (cases.codes[rows], subsets.codes[rows])
            for name, each in self.common.items():
                values = np.full((len(cases.categories), len(subsets.categories)), np.nan)
                values[place] = each["value"].to_numpy()[rows]
                found[name, region] = pd.DataFrame(values, cases.categories, subsets.categories)
        return found

    @cached_property
    def cases(self) -> list[str]:
        """Names of the cases that all evaluations have scored on a common subset."""
        return sorted(next(iter(self.common.values()))["case"].unique())

    @cached_property
    def regions(self) -> list[str]:
        """Regions, or reconstructed modalities, that all evaluations have scored."""
        found = set(next(iter(self.common.values()))["region"].unique())
        return [place for place in PLACES if place in found]

    @cached_property
    def subsets(self) -> list[str]:
        """Names of the subsets that all evaluations have scored, in the order of the tables."""
        found = set(next(iter(self.common.values()))["subset"].unique())
        return [subset for subset in SUBSET_NAMES if subset in found]

    @cached_property
    def means(self) -> dict[str, dict[tuple[str, str], float]]:
        """Name -> (row, region) -> mean over cases, NaN without cases; the row `mean` is that of the subsets."""
        keys = next(iter(self.common.values()))  # the same for all
        values = pd.DataFrame({name: rows["value"].to_numpy() for name, rows in self.common.items()})
        by_place = values.groupby([keys["subset"], keys["region"]]).mean()
        made = {}
        for name in self.common:
            table = by_place[name].unstack().reindex(index=SUBSET_NAMES, columns=self.regions).astype(float)
            table.loc[MEAN] = table.mean()
            numbers = table.to_numpy(dtype=float)
            places = product(enumerate([*SUBSET_NAMES, MEAN]), enumerate(self.regions))
            made[name] = {(row, region): float(numbers[i, j]) for (i, row), (j, region) in places}
        return made

    def best(self, row: str, region: str) -> list[str]:
        """Return the evaluations with the best mean as printed, several if equal; none if there is only one."""
        means = {name: mean for name, each in self.means.items() if not isnan(mean := each[row, region])}
        if len(means) < 2:
            return []
        extreme = (min if lower_is_better(self.metric) else max)(means.values())
        return [n for n, v in means.items() if format_value(v, self.metric) == format_value(extreme, self.metric)]

    @cached_property
    def tests(self) -> dict[tuple[str, str, frozenset[str]], PairedTest]:
        """Paired tests by (row, region, both names), corrected over all rows, regions and pairs."""
        if len(self.common) < 2:
            return {}
        groups = {**{subset: [subset] for subset in self.subsets}, MEAN: self.subsets}
        tests = compare_systems(self.tables, groups)
        return {(test.group, test.region, frozenset((test.first, test.second))): test for test in tests}

    def is_worse(self, name: str, row: str, region: str) -> bool:
        """Return whether a value differs significantly from the best of its row."""
        best = self.best(row, region)
        if not best or name in best:
            return False
        test = self.tests.get((row, region, frozenset((name, best[0]))))
        return test is not None and test.p_adjusted < SIGNIFICANT

    def notes(self) -> list[str]:
        """Return sentences on what the numbers are means of, and what the signs mean."""
        notes = [f"The last row is the mean of the {count(len(self.subsets), 'subset')} above that have a value."]
        notes += self.conventions
        if len(self.metrics) > 1:
            notes.append(
                f"Bold: best of the row. {WORSE} differs from it in a paired Wilcoxon test, p < {SIGNIFICANT:g} after "
                f"Holm's correction over all {count(len(self.tests), 'test')} of the table."
            )
        return [*notes, *self.not_shared, *self.doubts]

    @cached_property
    def not_shared(self) -> list[str]:
        """Sentences on cases and subsets that are not compared, because another system does not have them."""
        cases = {name: set(rows.loc[rows["status"] == SCORED, "case"].unique()) for name, rows in self.metrics.items()}
        shared = set.intersection(*cases.values())
        sentences = [
            f"{name} has {count(len(each - shared), 'case')} that another system does not have; only the {len(shared)} "
            "common to all count here."
            for name, each in cases.items()
            if each - shared
        ]
        numbers = next(iter(self.common.values())).groupby("subset")["case"].nunique()
        fewer = [f"{subset} ({numbers[subset]})" for subset in self.subsets if numbers[subset] < len(self.cases)]
        if fewer:
            sentences.append(f"Some subsets are scored for fewer than {len(self.cases)} cases: {', '.join(fewer)}.")
        return sentences


def read_comparison(evaluations: Sequence[Path], metric: str | None = None) -> MetricComparison:
    """Return the comparison of evaluation folders by one metric, by default Dice as all have it; see `compare`."""
    found = read_evaluations(evaluations)
    return compare(found, metric or _dice_of_all(found.values()))


def _dice_of_all(evaluations: Iterable[StoredEvaluation]) -> str:
    """Return `dice`, or else another Dice that all evaluations have, as by the protocol of the authors."""
    shared = set.intersection(*(each.metric_names for each in evaluations))
    return next((name for name in METRICS if published_name(name) == "dice" and name in shared), "dice")


def compare(evaluations: Mapping[str, StoredEvaluation], metric: str) -> MetricComparison:
    """Return the comparison of evaluations by one metric.

    Raises `RunError` if one does not have the metric, or if they computed it by different conventions, and
    `NothingSharedError` if they do not have any scored case and subset in common.
    """
    by_convention: dict[str, Path] = {}
    for each in evaluations.values():
        if metric not in each.metric_names:
            raise RunError(
                f"{each.folder} does not have the metric {metric}; it has {', '.join(sorted(each.metric_names))}.",
                f"Evaluate again with --metrics {metric} into a new folder, or choose another with --metric.",
            )
        by_convention[" ".join(conventions(each.provenance, [metric]))] = each.folder
    if len(by_convention) > 1:
        raise RunError(
            f"{' and '.join(map(str, by_convention.values()))} computed {metric} by different conventions.",
            "Evaluate them again with one version of anymri.",
        )
    comparison = MetricComparison(
        metric,
        {name: each.metrics for name, each in evaluations.items()},
        [*(text for text in by_convention if text), *protocol_notes(evaluations)],
        doubts(list(evaluations.values())),
    )
    if next(iter(comparison.common.values())).empty:
        folders = [str(each.folder) for each in evaluations.values()]
        if len(folders) == 1:
            raise NothingSharedError(
                f"{folders[0]} does not have any scored case of {metric}.",
                "The column status of its metrics.csv names the reasons.",
            )
        raise NothingSharedError(
            f"{', '.join(folders)} do not have any scored case and subset of {metric} in common.",
            "Evaluate them on one cohort.",
        )
    return comparison


def subset_grid(comparison: MetricComparison, quoted: Sequence[Published] = (), only: str | None = None) -> Grid:
    """Return the 15-row table of the papers: the regions of each system, and the average row.

    only  a region: then each system has one column, for this region
    """
    regions = comparison.regions if only is None else [only]
    names = [*comparison.metrics, *(each.label for each in quoted)]
    groups = [Group(name, regions) for name in names] if only is None else [Group("", names)]
    rows = []
    for row in [*SUBSET_NAMES, MEAN]:
        left = [MEAN, "", "", ""] if row == MEAN else signs(row)
        cells = [Cell(text) for text in left]
        cells += [_cell(comparison, name, row, region) for name in comparison.metrics for region in regions]
        cells += [_quoted_cell(each, comparison.metric, row, region) for each in quoted for region in regions]
        rows.append(cells)
    return Grid(
        title=_title(comparison),
        first=MODALITY_COLUMNS,
        groups=groups,
        rows=rows,
        reading=[f"{explain(comparison.metric)}."],
        notes=[*comparison.notes(), *(note for each in quoted for note in each.notes(comparison.metric))],
        total=True,
    )


def average_grid(comparison: MetricComparison, quoted: Sequence[Published] = ()) -> Grid:
    """Return one row per system: averages over the subsets, and differences from the first system."""
    regions = comparison.regions
    first = next(iter(comparison.metrics))
    rows = []
    for name in comparison.metrics:
        cells = [Cell(name), *(_cell(comparison, name, MEAN, region) for region in regions)]
        for region in regions:
            difference = round(comparison.means[name][MEAN, region] - comparison.means[first][MEAN, region], DECIMALS)
            sign = "+" if difference > 0 else ""
            cells.append(Cell(NOTHING if name == first else sign + format_value(difference, comparison.metric)))
        rows.append(cells)
    for each in quoted:
        means = [_quoted_cell(each, comparison.metric, MEAN, region) for region in regions]
        rows.append([Cell(each.label, quoted=True), *means, *(Cell(NOTHING) for _ in regions)])
    notes = [*comparison.notes()[1:], *(note for each in quoted for note in each.notes(comparison.metric))]
    return Grid(
        title=_title(comparison),
        first=("system",),
        groups=[Group("mean", regions), Group(f"against {first}", regions)],
        rows=rows,
        reading=[f"{explain(comparison.metric)}, means over {count(len(comparison.subsets), 'subset')}."],
        notes=notes,
    )


def _title(comparison: MetricComparison) -> str:
    return f"{heading(comparison.metric)} of {', '.join(comparison.metrics)} on {count(len(comparison.cases), 'case')}"


def _cell(comparison: MetricComparison, name: str, row: str, region: str) -> Cell:
    text = format_value(comparison.means[name][row, region], comparison.metric)
    marks = WORSE if comparison.is_worse(name, row, region) else ""
    return Cell(text, best=name in comparison.best(row, region), marks=marks)


def _quoted_cell(each: Published, metric: str, row: str, region: str) -> Cell:
    return Cell(format_value(each.value(metric, row, region), metric), quoted=True)
