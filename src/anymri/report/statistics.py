"""Statistics of evaluations as tables: intervals by number of modalities, paired tests, the worth of each modality."""

from __future__ import annotations

import math

from anymri.evaluation.statistics import (
    CONFIDENCE,
    RESAMPLES,
    Interval,
    bootstrap_mean,
    by_number_of_modalities,
    case_values,
    compare_systems,
    modality_contributions,
)
from anymri.modalities import MODALITIES
from anymri.report.comparing import Systems
from anymri.report.grid import NOTHING, Cell, Grid, Group
from anymri.report.tables import SUBSET_NAMES, count, explain, format_value, heading, lower_is_better, unit

_INTERVAL = f"{CONFIDENCE:.0%} bootstrap intervals over cases ({RESAMPLES} samples, percentiles)"


def statistics_grids(systems: Systems) -> list[Grid]:
    """All tables of statistics that the evaluations allow; a distance of no modality at all would be no number."""
    grids = [interval_grid(systems)]
    if len(systems.scores) > 1:
        grids.append(test_grid(systems))
    if systems.subsets == SUBSET_NAMES and not lower_is_better(systems.metric):
        grids.append(contribution_grid(systems))
    return grids


def interval_grid(systems: Systems) -> Grid:
    """Mean and interval of each system and region by the number of modalities that are present."""
    rows = []
    for name, scores in systems.common.items():
        for label, subsets in by_number_of_modalities(systems.subsets).items():
            found = [
                bootstrap_mean(case_values(scores, systems.metric, region, subsets).to_numpy(dtype=float))
                for region in systems.regions
            ]
            rows.append([Cell(name), Cell(label), *(Cell(_shown(each, systems.metric)) for each in found)])
    return Grid(
        title=f"{heading(systems.metric)} by number of modalities present",
        first=("system", "present"),
        groups=[Group("", systems.regions)],
        rows=rows,
        reading=[f"{explain(systems.metric)}."],
        notes=[f"{_INTERVAL}; a case counts if it is scored on all subsets of that size."],
    )


def test_grid(systems: Systems) -> Grid:
    """Every two systems, paired over their common cases."""
    groups = by_number_of_modalities(systems.subsets)
    rows = []
    tests = compare_systems(systems.common, systems.metric, groups, systems.regions)
    for test in tests:
        words = [f"{test.first} - {test.second}", test.region, test.group]
        numbers = [
            str(test.cases),
            format_value(test.difference, systems.metric),
            f"{test.p_value:.2g}",
            f"{test.p_adjusted:.2g}",
            f"{test.rank_biserial:.2f}",
            NOTHING if math.isnan(test.cohens_dz) else f"{test.cohens_dz:.2f}",
        ]
        rows.append([Cell(text) for text in [*words, *numbers]])
    shown = "percent" if unit(systems.metric) == "fraction" else unit(systems.metric)
    return Grid(
        title=f"Paired differences of {heading(systems.metric)}",
        first=("systems", "region", "present"),
        groups=[Group("", ("cases", "difference", "p", "p Holm", "rank-biserial", "Cohen's dz"))],
        rows=rows,
        reading=[f"Mean difference in {shown}, first minus second, over the cases that all have."],
        notes=[
            "p: Wilcoxon's signed-rank test, two-sided, of each case's mean over the subsets of that size; "
            f"p Holm: corrected over all {count(len(tests), 'test')} of this table.",
            "Effect sizes: matched-pairs rank-biserial correlation (1 if the first is larger in every case, -1 if in "
            "none) and Cohen's dz (mean difference over its standard deviation).",
        ],
    )


def contribution_grid(systems: Systems) -> Grid:
    """The Shapley value of each modality, for each system and region."""
    rows = []
    for name, scores in systems.common.items():
        for region in systems.regions:
            found = modality_contributions(scores, systems.metric, region)
            worths = [_shown(found[modality], systems.metric) for modality in MODALITIES]
            rows.append([Cell(name), Cell(region), *map(Cell, worths), Cell(str(found[MODALITIES[0]].cases))])
    return Grid(
        title=f"What each modality adds to {heading(systems.metric)}",
        first=("system", "region"),
        groups=[Group("", (*MODALITIES, "cases"))],
        rows=rows,
        reading=["Shapley values: mean gain over all orders in which the modalities could be added to none (worth 0)."],
        notes=[f"{_INTERVAL}; cases that are scored on all 15 subsets. The four add up to the mean with all four."],
    )


def _shown(interval: Interval, metric: str) -> str:
    if not interval.cases:
        return NOTHING
    value, low, high = (format_value(v, metric) for v in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"
