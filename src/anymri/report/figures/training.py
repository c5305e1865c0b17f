"""Learning curve of a training."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from anymri.report.figures.style import INK, LINE_COLOURS, SOFT, TEXT_POINTS, line_looks, new_figure, tidy


def learning_curve(log: pd.DataFrame, validation: pd.DataFrame | None) -> Figure:
    """Return the losses over epochs, and below them the Dice of the validation cases if there is any.

    log, validation  tables of `reading.read_run`; epochs are numbered through all stages, whatever the stages count
    """
    figure = new_figure(7.5, 3.4 if validation is None else 5.6)
    axes = figure.subplots(1 if validation is None else 2, 1, sharex=True, squeeze=False)[:, 0]
    epochs = np.arange(1, len(log) + 1)
    _plot_losses(axes[0], epochs, log)
    if validation is not None:
        _plot_validation(axes[1], epochs, log, validation)
    for panel in axes:
        _mark_stages(panel, log["stage"], named=panel is axes[0])
        if panel.get_lines():
            panel.legend(fontsize=TEXT_POINTS, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[-1].set_xlabel("epoch", fontsize=TEXT_POINTS, color=INK)
    axes[-1].set_xlim(0.5, len(log) + 0.5)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure


def _plot_losses(axes: Axes, epochs: NDArray[np.int_], log: pd.DataFrame) -> None:
    losses = {column.removeprefix("loss/"): log[column] for column in log.columns if column.startswith("loss/")}
    for (name, values), (colour, dash) in zip(losses.items(), line_looks(len(losses)), strict=True):
        total = name == "total"
        axes.plot(
            epochs, values, dash, marker=".", ms=3, label=name, color=INK if total else colour, lw=1.8 if total else 1.0
        )
    smallest = min((values.min() for values in losses.values()), default=0)
    if smallest > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    tidy(axes, "loss, mean over the epoch" + (" (log)" if smallest > 0 else ""))


def _plot_validation(axes: Axes, epochs: NDArray[np.int_], log: pd.DataFrame, validation: pd.DataFrame) -> None:
    keys = ["stage", "epoch"]
    placed = validation.merge(log[keys].assign(position=epochs), on=keys, how="inner")
    for region, rows in placed.groupby("region", sort=False):
        name, percent = str(region), 100 * rows["dice"]
        size, width = 4 if len(rows) > 1 else 7, 1.8 if name == "mean" else 1.0  # a single point has no line
        axes.plot(rows["position"], percent, "o-", ms=size, lw=width, label=name, color=LINE_COLOURS[name])
    axes.set_ylim(0, 100)
    tidy(axes, "validation Dice (percent)")


def _mark_stages(axes: Axes, stages: pd.Series, *, named: bool) -> None:
    """Draw a line where a stage begins, with its name above if `named`; nothing if there is only one stage."""
    names = stages.tolist()
    begins = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    for begin in begins if len(begins) > 1 else []:
        axes.axvline(begin + 0.5, color="#999999", linewidth=0.8, linestyle=":")
        if named:
            where = (begin + 0.5, 1.02)
            axes.text(*where, names[begin], transform=axes.get_xaxis_transform(), fontsize=TEXT_POINTS, color=SOFT)
