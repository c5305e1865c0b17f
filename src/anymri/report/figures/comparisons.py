"""Systems side by side: by number of modalities present, by contribution of each modality, case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from anymri.analysis.comparison import MetricComparison
from anymri.analysis.published import Published
from anymri.analysis.statistics import (
    Interval,
    bootstrap_mean,
    by_number_of_modalities,
    case_values,
    modality_contributions,
)
from anymri.evaluation.metrics.printing import heading, unit
from anymri.modalities import MODALITIES, Subset
from anymri.report.figures.style import (
    INK,
    LINE_COLOURS,
    TEXT_POINTS,
    TITLE_POINTS,
    axis_label,
    limits,
    new_figure,
    plain,
    region_title,
    scaled,
    styles,
    tidy,
    title,
)

# Share of the space between two numbers of modalities that systems side by side take.
_SPREAD = 0.66


def by_number(comparison: MetricComparison, quoted: Sequence[Published] = ()) -> Figure:
    """Return the mean of each system by the number of modalities present, one panel per region.

    Vertical lines are bootstrap intervals over cases.

    quoted  published results, drawn as open markers without interval: they were measured on other cases
    """
    groups = by_number_of_modalities(comparison.subsets)
    sizes = [len(Subset.parse(subsets[0])) for subsets in groups.values()]
    looks = styles([*comparison.common, *(each.label for each in quoted)])
    shifts = _SPREAD * (np.arange(len(looks)) - (len(looks) - 1) / 2) / max(len(looks), 2)
    figure = new_figure(2.6 * len(comparison.regions) + 1.8, 3.3)
    panels = figure.subplots(1, len(comparison.regions), sharey=_one_scale(comparison), squeeze=False)[0]
    shown: dict[str, list[float]] = {region: [] for region in comparison.regions}
    for region, axes in zip(comparison.regions, panels, strict=True):
        for name, shift in zip(looks, shifts, strict=True):
            if name in comparison.common:
                found = [_interval(comparison, name, region, subsets) for subsets in groups.values()]
                points = scaled(comparison.metric) * np.array([[i.value, i.low, i.high] for i in found])
            else:
                values = [_quoted_mean(quoted, name, comparison.metric, region, group) for group in groups.values()]
                points = scaled(comparison.metric) * np.array([[value] * 3 for value in values])
            look, at = looks[name], np.array(sizes) + shift
            axes.plot(
                at, points[:, 0], color=look.colour, lw=0.8, alpha=0.6, ls="-" if name in comparison.common else ":"
            )
            axes.vlines(at, points[:, 1], points[:, 2], color=look.colour, lw=1.1)
            face = look.colour if name in comparison.common else "white"
            (dots,) = axes.plot(
                at, points[:, 0], look.marker, label=plain(name), ms=4.5, mew=0.9, mec=look.colour, mfc=face
            )
            dots.set_clip_on(False)  # dots at the ends of the axes are drawn whole
            shown[region] += points.ravel().tolist()
        title(axes, region_title(region))
        tidy(axes)
        axes.set_xticks(sizes)
        axes.set_xlim(min(sizes) - 0.5, max(sizes) + 0.5)
        axes.set_xlabel("modalities present", fontsize=TEXT_POINTS, color=INK)
    for region, axes in zip(comparison.regions, panels, strict=True):
        axes.set_ylim(_ends(comparison, shown, region))
    panels[0].set_ylabel(axis_label(comparison.metric), fontsize=TEXT_POINTS, color=INK)
    if len(looks) > 1:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=TEXT_POINTS)
    return figure


def contributions(comparison: MetricComparison) -> Figure:
    """Return the Shapley values with bootstrap intervals: one panel per modality, one bar per region and system."""
    rows, regions = list(comparison.common), comparison.regions
    figure = new_figure(7.6, 0.9 + max(0.34, 0.11 * len(regions)) * len(rows))
    panels = figure.subplots(1, len(MODALITIES), sharex=True)
    thick = 0.8 / len(regions)
    bars = list(product(range(len(rows)), range(len(regions))))
    places = np.array([row - 0.4 + thick * (number + 0.5) for row, number in bars])
    colours = [LINE_COLOURS.get(regions[number], INK) for _, number in bars]
    contributed = [modality_contributions(comparison.tables[rows[row], regions[number]]) for row, number in bars]
    for modality, axes in zip(MODALITIES, panels, strict=True):
        found = [each[modality] for each in contributed]
        values, low, high = scaled(comparison.metric) * np.array([[i.value, i.low, i.high] for i in found]).T
        axes.barh(places, values, thick, color=colours)
        axes.hlines(places, low, high, color=INK, lw=0.9)
    for modality, axes in zip(MODALITIES, panels, strict=True):
        title(axes, modality)
        tidy(axes, grid="x")
        axes.axvline(0, color=INK, lw=0.8)
    _name_rows(panels, rows)
    what = "percentage points" if unit(comparison.metric) == "fraction" else unit(comparison.metric)
    figure.supxlabel(f"{heading(comparison.metric)} added ({what})", fontsize=TEXT_POINTS, color=INK)
    handles = [Patch(color=LINE_COLOURS.get(region, INK), label=region) for region in regions]
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=TEXT_POINTS)
    return figure


def case_strips(comparison: MetricComparison) -> Figure:
    """Return every case as a dot, its mean over the subsets with one number of modalities; one row per region.

    Vertical lines are medians of the cases.
    """
    groups = by_number_of_modalities(comparison.subsets)
    rows, looks = list(comparison.common), styles(comparison.common)
    height = 0.28 + 0.24 * len(rows)
    labels = 0 if _one_scale(comparison) else 0.2 * (len(comparison.regions) - 1)
    figure = new_figure(1.4 + 1.75 * len(groups), 0.7 + labels + height * len(comparison.regions))
    shape = len(comparison.regions), len(groups)
    panels = figure.subplots(*shape, sharex=True if _one_scale(comparison) else "row", squeeze=False)
    shown: dict[str, list[float]] = {region: [] for region in comparison.regions}
    for region, line in zip(comparison.regions, panels, strict=True):
        for subsets, axes in zip(groups.values(), line, strict=True):
            found = [scaled(comparison.metric) * _cases(comparison, name, region, subsets) for name in rows]
            for row, (name, values) in enumerate(zip(rows, found, strict=True)):
                axes.plot(
                    values,
                    row + spread(len(values)),
                    "o",
                    ms=np.sqrt(np.clip(240 / max(len(values), 1), 3, 14)),
                    color=looks[name].colour,
                    alpha=0.6,
                    mew=0,
                    rasterized=True,
                    in_layout=False,
                )
            medians = {row: np.median(values) for row, values in enumerate(found) if len(values)}
            places = np.array(list(medians))  # lines are behind the dots, and longer than their spread
            axes.vlines(list(medians.values()), places - 0.42, places + 0.42, color=INK, lw=1.4, zorder=0.9)
            shown[region] += np.concatenate(found).tolist()
            tidy(axes, grid="x")
    for group, axes in zip(groups, panels[0], strict=True):
        title(axes, group)
    for region, axes in zip(comparison.regions, panels[:, 0], strict=True):
        axes.set_ylabel(region_title(region), fontsize=TITLE_POINTS, color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        low, high = _ends(comparison, shown, region)
        axes.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))  # whole dots at the ends
    for line in panels:
        _name_rows(line, rows)
    figure.set_layout_engine("constrained", w_pad=0.08)  # numbers below neighbouring panels do not touch
    figure.supxlabel(f"{axis_label(comparison.metric)} of each case", fontsize=TEXT_POINTS, color=INK)
    return figure


def spread(count: int) -> NDArray[np.float64]:
    """Return positions across a strip, (count,) in -0.3..0.3, that differ much between neighbours (van der Corput)."""
    numbers, places, share = np.arange(1, count + 1), np.zeros(count), 0.5
    while numbers.any():
        places += share * (numbers % 2)
        numbers, share = numbers // 2, share / 2
    return 0.6 * (places - 0.5)


def _one_scale(comparison: MetricComparison) -> bool:
    """Return whether regions share an axis: fractions do, but distances of regions may differ by hundreds of mm."""
    return unit(comparison.metric) == "fraction"


def _ends(comparison: MetricComparison, shown: Mapping[str, Sequence[float]], region: str) -> tuple[float, float]:
    """Return the limits of the axis on which the values of a region are shown."""
    values = chain.from_iterable(shown.values()) if _one_scale(comparison) else shown[region]
    return limits(comparison.metric, values)


def _interval(comparison: MetricComparison, name: str, region: str, subsets: Sequence[str]) -> Interval:
    return bootstrap_mean(_cases(comparison, name, region, subsets, ordered=False))


def _cases(
    comparison: MetricComparison, name: str, region: str, subsets: Sequence[str], *, ordered: bool = True
) -> NDArray[np.float64]:
    """Return the mean over `subsets` of each case: in ascending order, or in the order of the names of the cases."""
    values = case_values(comparison.tables[name, region], region, subsets).to_numpy(dtype=float)
    return np.sort(values) if ordered else values


def _quoted_mean(quoted: Sequence[Published], label: str, metric: str, region: str, subsets: Sequence[str]) -> float:
    """Return the mean of the published rows of these subsets, as a fraction or in mm; NaN where none is published."""
    (each,) = (one for one in quoted if one.label == label)
    return float(np.mean([each.value(metric, subset, region) for subset in subsets]))


def _name_rows(panels: Sequence[Axes], rows: Sequence[str]) -> None:
    """Write the names of systems left of a row of panels; not that of a single one, which the page has already.

    The first system is at the top. Only the first panel has ticks: drawing them takes long.
    """
    for axes in panels:
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.5, -0.5)
    panels[0].set_yticks(range(len(rows)), map(plain, rows) if len(rows) > 1 else [""])
    panels[0].tick_params(axis="y", length=0, left=False)
