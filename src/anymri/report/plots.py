"""All plots that a set of evaluations allows, for `anymri plot` and for the page of `anymri report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from anymri.analysis.comparison import MetricComparison, NothingSharedError, compare
from anymri.analysis.published import Published
from anymri.analysis.reading import StoredEvaluation
from anymri.analysis.statistics import CONFIDENCE, by_number_of_modalities, caution
from anymri.analysis.tables import MEAN, SUBSET_NAMES, metrics_in, subset_table
from anymri.errors import RunError
from anymri.evaluation.metrics.printing import heading, lower_is_better, unit
from anymri.regions import REGIONS
from anymri.report import figures
from anymri.report.figures.calibration import FEWEST_VOXELS
from anymri.report.figures.style import region_title
from anymri.text import count


@dataclass(frozen=True)
class Plot:
    """Figure with its texts.

    name         name of its files, without suffix
    caption      how to read it
    description  alternative text for readers who cannot see it
    """

    name: str
    figure: Figure
    caption: str
    description: str


def compare_all(evaluations: Mapping[str, StoredEvaluation]) -> dict[str, MetricComparison]:
    """Return metric -> comparison by it, Dice and HD95 first, for all metrics with scored cases in common.

    Raises `RunError` if there is no such metric.
    """
    first = next(iter(evaluations.values()))
    shared = [m for m in metrics_in(first.metrics) if all(m in each.metric_names for each in evaluations.values())]
    if not shared:
        computed = "; ".join(f"{name}: {', '.join(sorted(each.metric_names))}" for name, each in evaluations.items())
        raise RunError(
            f"The evaluations have no metric in common ({computed}).", "Evaluate them again with the same --metrics."
        )
    compared, empty = {}, []
    for metric in shared:
        try:
            compared[metric] = compare(evaluations, metric)
        except NothingSharedError as error:
            empty.append(error)
    if not compared:
        raise empty[0]
    return compared


def all_plots(evaluations: Mapping[str, StoredEvaluation], quoted: Sequence[Published] = ()) -> list[Plot]:
    """Return the plots of every metric that evaluations are comparable by, and their reliability curves if any."""
    plots = [plot for comparison in compare_all(evaluations).values() for plot in metric_plots(comparison, quoted)]
    return [*plots, *reliability_plots(evaluations)]


def metric_plots(comparison: MetricComparison, quoted: Sequence[Published] = ()) -> Iterator[Plot]:
    """Yield the plots of one metric: heat maps, by number of modalities, contributions of modalities, cases."""
    metric, name = comparison.metric, heading(comparison.metric)
    quoted = [each for each in quoted if each.has(metric)]
    shown = f"the {_cases(comparison)} that all systems have" if len(comparison.metrics) > 1 else _cases(comparison)
    yield from _heat_maps(comparison, quoted, shown)
    groups = by_number_of_modalities(comparison.subsets)
    axes = "" if unit(metric) == "fraction" else " Each region has a separate axis."
    apart = " Open markers are published results, of other cases." if quoted else ""
    few = "".join(f" {sentence}" for sentence in caution(len(comparison.cases)))
    if len(groups) > 1:
        yield Plot(
            f"by_number_{metric}",
            figures.by_number(comparison, quoted),
            f"{name} by the number of modalities present: means over {shown}, with {CONFIDENCE:.0%} bootstrap "
            f"intervals over cases.{axes}{apart}{few}",
            f"Mean {name} of each system against the number of modalities present, a panel for each region.",
        )
    if comparison.subsets == SUBSET_NAMES and not lower_is_better(metric):
        yield Plot(
            f"contributions_{metric}",
            figures.contributions(comparison),
            f"Contribution of each modality to {name}: Shapley values, the mean gain over all orders in which the "
            f"modalities can be added, from none, with {CONFIDENCE:.0%} bootstrap intervals over cases.{few}",
            f"Bars of the {name} that each modality adds, for each system and region.",
        )
    yield Plot(
        f"cases_{metric}",
        figures.case_strips(comparison),
        f"{name} of every case, its mean over the subsets with that many modalities. Lines: medians.{axes}",
        f"A dot for the {name} of each case, by system, region and number of modalities present.",
    )


def reliability_plots(evaluations: Mapping[str, StoredEvaluation]) -> Iterator[Plot]:
    """Yield the reliability curves of each system, or of one system by the number of modalities present."""
    found = {name: each.reliability for name, each in evaluations.items() if each.reliability is not None}
    if not found:
        return
    rows = _shared_bins(found)
    of = "of each system, all subsets together"
    if len(rows) == 1:
        (only,) = rows.values()
        groups = by_number_of_modalities(only["subset"].unique())
        rows = {size: only[only["subset"].isin(subsets)] for size, subsets in groups.items()}
        of = f"of {next(iter(found))}, by the number of modalities present"
    missing = sorted(set(evaluations) - set(found))
    without = f" Evaluated without calibration: {', '.join(missing)}." if missing else ""
    yield Plot(
        "reliability",
        figures.reliability_curves(rows),
        f"Reliability {of}: share of the voxels of the brain that is in a region, against the predicted probability. "
        "On the dashed line probabilities are right; below it the network is overconfident. Bins of fewer than "
        f"{FEWEST_VOXELS} voxels are not drawn above.{without}",
        "Observed frequency against mean probability, a panel for each region, with the share of voxels below.",
    )


def _heat_maps(comparison: MetricComparison, quoted: Sequence[Published], shown: str) -> Iterator[Plot]:
    metric, name = comparison.metric, heading(comparison.metric)
    if len(comparison.metrics) == 1 and not quoted:
        (rows,) = comparison.common.values()
        yield Plot(
            f"heat_map_{metric}",
            figures.subset_heatmap(subset_table(rows, metric), metric),
            f"{name} by subset and region; darker is better.",
            f"Heat map of the mean {name} for each subset and region, with the numbers of the table.",
        )
        return
    # No subset lets all modalities be reconstructed, so there is no mean over them.
    averaged = len(comparison.regions) > 1 and comparison.regions[0] in REGIONS
    regions = [MEAN, *comparison.regions] if averaged else comparison.regions
    apart = " Rows in italics are published results, of other cases, and have no colour." if quoted else ""
    for region in regions:
        what = "mean of the regions" if region == MEAN else region_title(region)
        yield Plot(
            f"heat_map_{metric}_{region}",
            figures.system_heatmap(comparison, region, quoted),
            f"{name}, {what}, by system and subset: means over {shown}. Darker is better.{apart}",
            f"Heat map of the mean {name} for each system and subset, with the numbers of the tables.",
        )


def _cases(comparison: MetricComparison) -> str:
    return count(len(comparison.cases), "case")


def _shared_bins(found: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the rows of the cases and subsets that all have."""
    keys = ["case", "subset", "region"]
    indexed = {name: rows.set_index(keys) for name, rows in found.items()}
    shared = set.intersection(*(set(rows.index) for rows in indexed.values()))
    return {name: rows[rows.index.isin(list(shared))].reset_index() for name, rows in indexed.items()}
