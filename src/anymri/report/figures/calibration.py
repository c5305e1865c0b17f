"""Reliability curves of probabilities."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from anymri.regions import REGIONS
from anymri.report.figures.style import INK, SOFT, TEXT_POINTS, Style, new_figure, plain, styles, tidy, title

# Bins with fewer voxels, of all cases together, are too uncertain: they are not drawn in the curve.
FEWEST_VOXELS = 100


def reliability_curves(rows: Mapping[str, pd.DataFrame]) -> Figure:
    """Return the reliability curves, one column of panels per region, with the share of voxels per bin below.

    The share has a logarithmic axis because nearly all of a brain is far from any tumour.

    rows  name of a curve -> rows of `reliability.csv`, of any cases and subsets: their voxels count together
    """
    pooled = {name: pool_bins(each) for name, each in rows.items()}
    found = {region for table in pooled.values() for region in table.index.get_level_values("region")}
    regions = [region for region in REGIONS if region in found]
    looks = styles(rows)
    figure = new_figure(2.5 * len(regions) + 1.8, 4.1)
    panels = figure.subplots(2, len(regions), sharex=True, sharey="row", squeeze=False, height_ratios=[2.6, 1])
    for column, region in enumerate(regions):
        curves, counts = panels[:, column]
        curves.plot([0, 100], [0, 100], color=SOFT, lw=0.8, ls="--")
        for name, table in pooled.items():
            bins = table[table.index.get_level_values("region") == region]
            if len(bins):
                _draw(curves, counts, bins, looks[name], name)
        title(curves, region)
        tidy(curves, grid="both")
        tidy(counts)
        curves.set_aspect("equal")
        curves.set_xlim(0, 100)
        curves.set_ylim(0, 100)
        curves.set_yticks([0, 25, 50, 75, 100])
        counts.set_yscale("log")
        counts.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        counts.yaxis.set_minor_formatter(NullFormatter())
        counts.set_xticks([0, 25, 50, 75])  # a 100 would run into the next panel's 0
        counts.set_xlabel("mean probability (percent)", fontsize=TEXT_POINTS, color=INK)
    panels[0, 0].set_ylabel("voxels in the region (percent)", fontsize=TEXT_POINTS, color=INK)
    panels[1, 0].set_ylabel("share of voxels\n(percent, log)", fontsize=TEXT_POINTS, color=INK)
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=TEXT_POINTS)
    return figure


def pool_bins(rows: pd.DataFrame) -> pd.DataFrame:
    """Return per region and bin: voxels, mean confidence, mean frequency, and share of the voxels of the region."""
    filled = rows[rows["voxels"] > 0]
    weighted = filled[["region", "bin", "voxels"]].assign(
        confidence=filled["confidence"] * filled["voxels"], frequency=filled["frequency"] * filled["voxels"]
    )
    sums = weighted.groupby(["region", "bin"]).sum()
    voxels = sums["voxels"]
    return pd.DataFrame(
        {
            "voxels": voxels,
            "confidence": sums["confidence"] / voxels,
            "frequency": sums["frequency"] / voxels,
            "share": voxels / voxels.groupby("region").transform("sum"),
        }
    )


def _draw(curves: Axes, counts: Axes, bins: pd.DataFrame, look: Style, name: str) -> None:
    filled = bins[bins["voxels"] >= FEWEST_VOXELS]
    (curve,) = curves.plot(
        100 * filled["confidence"], 100 * filled["frequency"], label=plain(name), color=look.colour, lw=1.0
    )
    curve.set(marker=look.marker, markersize=4.0, clip_on=False)
    counts.plot(100 * bins["confidence"], 100 * bins["share"], color=look.colour, lw=1.0)
