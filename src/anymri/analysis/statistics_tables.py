"""Statistics of evaluations as tables: intervals by number of modalities, paired tests, modality contributions."""

from __future__ import annotations

import math

from anymri.analysis.comparison import MetricComparison
from anymri.analysis.grid import Cell, Grid, Group
from anymri.analysis.statistics import (
    CONFIDENCE,
    FEWEST_CASES,
    RESAMPLES,
    Interval,
    bootstrap_mean,
    by_number_of_modalities,
    case_values,
    caution,
    compare_systems,
    modality_contributions,
)
from anymri.analysis.tables import SUBSET_NAMES
from anymri.evaluation.metrics.printing import NOTHING, explain, format_value, heading, lower_is_better, unit
from anymri.modalities import MODALITIES
from anymri.text import count

_INTERVAL = f"{CONFIDENCE:.0%} bootstrap intervals over cases ({RESAMPLES} samples, percentiles)"


def statistics_grids(comparison: MetricComparison) -> list[Grid]:
    """Return all tables of statistics that the evaluations allow.

    Contributions need metrics whose value without any modality is 0, which distances do not have.
    """
    grids = [interval_grid(comparison)]
    if len(comparison.metrics) > 1:
        grids.append(test_grid(comparison))
    if comparison.subsets == SUBSET_NAMES and not lower_is_better(comparison.metric):
        grids.append(contribution_grid(comparison))
    return grids


def interval_grid(comparison: MetricComparison) -> Grid:
    """Return mean and interval of each system and region by the number of modalities present."""
    rows, fewest = [], len(comparison.cases)
    for name in comparison.common:
        for label, subsets in by_number_of_modalities(comparison.subsets).items():
            values = [case_values(comparison.tables[name, region], region, subsets) for region in comparison.regions]
            found = [bootstrap_mean(each.to_numpy(dtype=float)) for each in values]
            fewest = min([fewest, *(each.cases for each in found if each.cases)])
            rows.append([*_system(comparison, name), Cell(label), *(Cell(_shown(i, comparison.metric)) for i in found)])
    return Grid(
        title=f"{heading(comparison.metric)} by number of modalities present",
        first=(*_system_column(comparison), "present"),
        groups=[Group("", comparison.regions)],
        rows=rows,
        reading=[f"{explain(comparison.metric)}."],
        notes=[f"{_INTERVAL}; a case counts if it is scored on all subsets of that size.", *caution(fewest)],
    )


def test_grid(comparison: MetricComparison) -> Grid:
    """Return the tests of every two systems, paired over their common cases."""
    groups = by_number_of_modalities(comparison.subsets)
    rows = []
    tests = compare_systems(comparison.tables, groups)
    for test in tests:
        words = [f"{test.first} - {test.second}", test.region, test.group]
        numbers = [
            str(test.cases),
            format_value(test.difference, comparison.metric),
            f"{test.p_value:.2g}",
            f"{test.p_adjusted:.2g}",
            f"{test.rank_biserial:z.2f}",
            NOTHING if math.isnan(test.cohens_dz) else f"{test.cohens_dz:z.2f}",
        ]
        rows.append([Cell(text) for text in [*words, *numbers]])
    shown = "percent" if unit(comparison.metric) == "fraction" else unit(comparison.metric)
    return Grid(
        title=f"Paired differences of {heading(comparison.metric)}",
        first=("systems", "region", "present"),
        groups=[Group("", ("cases", "difference", "p", "p Holm", "rank-biserial", "Cohen's dz"))],
        rows=rows,
        reading=[f"Mean difference in {shown}, first minus second, over the cases of all systems."],
        notes=[
            "p: Wilcoxon's signed-rank test, two-sided, of each case's mean over the subsets of that size; "
            f"p Holm: corrected over all {count(len(tests), 'test')} of this table.",
            "Effect sizes: matched-pairs rank-biserial correlation (1 if the first is larger in every case, -1 if in "
            "none) and Cohen's dz (mean difference over its standard deviation).",
            *caution(min((test.cases for test in tests), default=FEWEST_CASES)),
        ],
    )


def contribution_grid(comparison: MetricComparison) -> Grid:
    """Return the Shapley value of each modality, for each system and region."""
    rows, fewest = [], len(comparison.cases)
    for name in comparison.common:
        for region in comparison.regions:
            found = modality_contributions(comparison.tables[name, region])
            values = [_shown(found[modality], comparison.metric) for modality in MODALITIES]
            cases = found[MODALITIES[0]].cases
            fewest = min(fewest, cases or fewest)
            rows.append([*_system(comparison, name), Cell(region), *map(Cell, values), Cell(str(cases))])
    return Grid(
        title=f"Contribution of each modality to {heading(comparison.metric)}",
        first=(*_system_column(comparison), "region"),
        groups=[Group("", (*MODALITIES, "cases"))],
        rows=rows,
        reading=["Shapley values: mean gain over all orders in which modalities can be added, from none (value 0)."],
        notes=[
            f"{_INTERVAL}; cases that are scored on all 15 subsets. The four add up to the mean with all four.",
            *caution(fewest),
        ],
    )


def _system_column(comparison: MetricComparison) -> tuple[str, ...]:
    """Return the name of the column of systems; none if there is one system, whose name the page has already."""
    return ("system",) if len(comparison.common) > 1 else ()


def _system(comparison: MetricComparison, name: str) -> list[Cell]:
    """Return the cell of a row's system, or none, as `_system_column`."""
    return [Cell(name)] * len(_system_column(comparison))


def _shown(interval: Interval, metric: str) -> str:
    if not interval.cases:
        return NOTHING
    value, low, high = (format_value(v, metric) for v in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"
