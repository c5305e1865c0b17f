"""Means as coloured cells with their numbers: subset by region of one evaluation, system by subset of several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from anymri.analysis.comparison import MetricComparison
from anymri.analysis.published import Published
from anymri.analysis.tables import MEAN, MODALITY_COLUMNS, SUBSET_NAMES, regions_in
from anymri.evaluation.metrics.printing import format_value, lower_is_better, unit
from anymri.modalities import Subset
from anymri.report.figures.style import (
    INK,
    SMALL_POINTS,
    TEXT_POINTS,
    axis_label,
    colour_limits,
    new_figure,
    plain,
    region_title,
    scaled,
    text_on,
    title,
)

_GAP = 0.25  # between columns of different numbers of modalities, in columns
_CELL_INCHES, _ROW_INCHES, _DOT_INCHES = 0.46, 0.27, 0.17


def subset_heatmap(table: pd.DataFrame, metric: str) -> Figure:
    """Return a `subset_table` as coloured cells with numbers and a colour bar, without subsets without values."""
    regions = regions_in(table)
    rows = [name for name in table.index if name != MEAN and table.loc[name, regions].notna().any()]
    values = table.loc[rows, regions].to_numpy(dtype=float)
    figure = new_figure(3.1 + 0.85 * len(regions), 0.8 + 0.27 * len(rows))
    axes = figure.subplots()
    scale = _scale(values, metric)
    _draw_cells(axes, values, list(range(len(regions) + 1)), metric, scale)
    _draw_bar(figure, [axes], scale, metric)
    axes.set_xticks(np.arange(len(regions)) + 0.5, regions)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.xaxis.tick_top()
    _without_frame(axes)
    title(axes, axis_label(metric))
    return figure


def system_means(comparison: MetricComparison, region: str, quoted: Sequence[Published] = ()) -> pd.DataFrame:
    """Return one row per system and one column per subset and for their mean, fractions or mm; NaN without a value.

    region  a region of the comparison, or `mean` of all regions
    quoted  published results, whose rows follow as `NAME (quoted)`
    """
    regions = comparison.regions if region == MEAN else [region]
    columns = [*SUBSET_NAMES, MEAN]
    rows = {
        name: [float(np.mean([means[column, each] for each in regions])) for column in columns]
        for name, means in comparison.means.items()
    }
    for each in quoted:
        rows[each.label] = [float(np.mean([each.value(comparison.metric, c, r) for r in regions])) for c in columns]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def system_heatmap(comparison: MetricComparison, region: str = MEAN, quoted: Sequence[Published] = ()) -> Figure:
    """Return systems by subset as coloured cells with numbers and a colour bar; bold is the best of a column.

    region  a region of the comparison, or `mean` of all regions
    quoted  published results, in rows without colour: they were measured on other cases
    """
    means = system_means(comparison, region, quoted)
    means = means.drop(columns=[name for name in SUBSET_NAMES if name not in comparison.subsets])
    values, measured = means.to_numpy(dtype=float), len(comparison.means)
    groups = _groups(list(means.columns))
    longest = max(map(len, means.index))
    width = 0.075 * longest + _CELL_INCHES * (len(means.columns) + _GAP * len(groups)) + 1.1
    height = _ROW_INCHES * len(means) + _DOT_INCHES * len(MODALITY_COLUMNS) + 0.8
    figure = new_figure(width, height)
    ratios = [_ROW_INCHES * len(means), _DOT_INCHES * len(MODALITY_COLUMNS)]
    cells, dots = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": ratios})
    scale = _scale(values[:measured], comparison.metric)
    _draw_bar(figure, [cells, dots], scale, comparison.metric)
    for number, (first, last) in enumerate(groups):
        edges = [i + _GAP * number for i in range(first, last + 1)]
        _draw_cells(cells, values[:measured, first:last], edges, comparison.metric, scale, best=measured > 1)
        _draw_quoted(cells, values[measured:, first:last], edges, measured, comparison.metric)
        _draw_dots(dots, [str(name) for name in means.columns[first:last]], edges)
        what = _group_name(str(means.columns[first]), last - first)
        middle = (edges[0] + edges[-1]) / 2
        cells.text(middle, -0.2, what, ha="center", va="bottom", fontsize=TEXT_POINTS, color=INK)
    cells.set_ylim(len(means), 0)
    cells.set_xlim(0, len(means.columns) + _GAP * (len(groups) - 1))
    cells.set_yticks(np.arange(len(means)) + 0.5, map(plain, means.index))
    for label in cells.get_yticklabels()[measured:]:
        label.set_style("italic")
    cells.tick_params(bottom=False, labelbottom=False)
    dots.set_ylim(len(MODALITY_COLUMNS), 0)
    dots.set_yticks(np.arange(len(MODALITY_COLUMNS)) + 0.5, MODALITY_COLUMNS)
    dots.set_xticks([])
    for axes in (cells, dots):
        _without_frame(axes)
    what = f"mean of {', '.join(comparison.regions)}" if region == MEAN else region_title(region)
    figure.suptitle(f"{axis_label(comparison.metric)}, {what}", fontsize=10, color=INK)
    return figure


def _groups(columns: Sequence[str]) -> list[tuple[int, int]]:
    """Return first and last + 1 of the columns with one number of modalities each, and of the mean."""
    sizes = [0 if name == MEAN else len(Subset.parse(name)) for name in columns]
    ends = [0, *(i for i, (a, b) in enumerate(pairwise(sizes), start=1) if a != b), len(sizes)]
    return list(pairwise(ends))


def _group_name(first: str, columns: int) -> str:
    if first == MEAN:
        return MEAN
    size = len(Subset.parse(first))
    return str(size) if columns == 1 else f"{size} modalit{'y' if size == 1 else 'ies'}"


def _scale(values: NDArray[np.float64], metric: str) -> Normalize:
    """Return the scale of the colours, of values as stored."""
    factor = scaled(metric)
    low, high = colour_limits(metric, (factor * values).ravel().tolist())
    return Normalize(low / factor, high / factor)


def _colours(metric: str) -> Colormap:
    """Return the colours from low to high values: darker is better."""
    return mpl.colormaps["viridis" if lower_is_better(metric) else "viridis_r"].with_extremes(bad="#EEEEEE")


def _draw_bar(figure: Figure, beside: list[Axes], scale: Normalize, metric: str) -> None:
    """Draw the colour bar with its numbers and unit beside axes."""
    factor = scaled(metric)
    printed = Normalize(factor * (scale.vmin or 0.0), factor * (scale.vmax or 1.0))
    bar = figure.colorbar(ScalarMappable(printed, _colours(metric)), ax=beside, fraction=0.04, pad=0.02, aspect=30)
    shown = "percent" if unit(metric) == "fraction" else unit(metric)
    bar.set_label(f"{shown}, darker is better", fontsize=SMALL_POINTS, color=INK)
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=5))
    bar.ax.tick_params(labelsize=SMALL_POINTS, labelcolor=INK, length=2, color=INK)
    bar.ax.spines["outline"].set_visible(False)


def _draw_cells(
    axes: Axes, values: NDArray[np.float64], edges: Sequence[float], metric: str, scale: Normalize, best: bool = False
) -> None:
    """Draw coloured cells from the top, columns between `edges`, with numbers; the best of a column bold if `best`."""
    mesh: Any = axes.pcolormesh(
        np.asarray(edges), np.arange(len(values) + 1), np.ma.masked_invalid(values), cmap=_colours(metric), norm=scale,
        edgecolors="w", linewidth=1,
    )  # fmt: skip
    colours = mesh.cmap(mesh.norm(values))
    extreme = np.fmin.reduce(values) if lower_is_better(metric) else np.fmax.reduce(values)
    for (row, column), value in np.ndenumerate(values):
        text = format_value(value, metric)
        bold = best and text == format_value(extreme[column], metric) and np.isfinite(value)
        axes.text(
            (edges[column] + edges[column + 1]) / 2,
            row + 0.5,
            text,
            ha="center",
            va="center",
            fontsize=TEXT_POINTS,
            color=text_on(colours[row, column]) if np.isfinite(value) else INK,
            weight="bold" if bold else "normal",
            in_layout=False,  # inside the axes in any case, and its size need not be computed
        )
    if axes.get_ylim()[0] < axes.get_ylim()[1]:
        axes.invert_yaxis()


def _draw_quoted(axes: Axes, values: NDArray[np.float64], edges: Sequence[float], above: int, metric: str) -> None:
    """Draw published numbers in italics, without colour, below `above` rows."""
    for (row, column), value in np.ndenumerate(values):
        where = ((edges[column] + edges[column + 1]) / 2, above + row + 0.5)
        text = format_value(value, metric)
        axes.text(
            *where, text, ha="center", va="center", fontsize=TEXT_POINTS, color=INK, style="italic", in_layout=False
        )


def _draw_dots(axes: Axes, names: Sequence[str], edges: Sequence[float]) -> None:
    """Draw which modalities the columns have, as in the tables of papers; nothing under the mean."""
    middles = {name: (edges[i] + edges[i + 1]) / 2 for i, name in enumerate(names) if name != MEAN}
    places = [
        (middle, row + 0.5, modality in Subset.parse(name))
        for name, middle in middles.items()
        for row, modality in enumerate(MODALITY_COLUMNS)
    ]
    for filled, face, edge in ((True, INK, INK), (False, "white", "#AAAAAA")):
        x, y = ([place[axis] for place in places if place[2] == filled] for axis in (0, 1))
        axes.plot(x, y, "o", ms=4.5, mew=0.8, mfc=face, mec=edge, in_layout=False)


def _without_frame(axes: Axes) -> None:
    axes.tick_params(length=0, labelsize=TEXT_POINTS, labelcolor=INK)
    axes.spines[:].set_visible(False)
