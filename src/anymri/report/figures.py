"""Pictures of a training, a table and a case, as matplotlib figures that own their canvas (no pyplot, no global state).

Scans are shown the radiological way: on axial and coronal slices the patient's left is on the reader's right; on
sagittal slices anterior is on the left.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from anymri.errors import ConfigurationError, ModalityError
from anymri.evaluation.metrics import dice
from anymri.modalities import MODALITIES, REFERENCE_ORDER, Subset
from anymri.regions import RC, region_mask
from anymri.report.tables import MEAN, format_value, heading, lower_is_better, regions_in, unit

# Sky blue, yellow, vermilion and green of Okabe and Ito (2008): told apart by the colour-blind, and visible on grey.
REGION_COLOURS = {"WT": "#56B4E9", "TC": "#F0E442", "ET": "#D55E00", "RC": "#009E73"}
# Lines on white: the yellow would vanish there.
_LINE_COLOURS = REGION_COLOURS | {"TC": "#B59F00", "mean": "#222222"}
_LOSS_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
# Inner regions share borders with outer ones: the outer line is wider, so that both are seen.
_CONTOUR_POINTS: Mapping[str, float] = {"WT": 1.0, "TC": 1.6, "ET": 0.8, "RC": 1.0}
_INK, _FAINT = "#222222", "#D9D9D9"

_Plane = Literal["sagittal", "coronal", "axial"]
_PLANES: tuple[_Plane, ...] = ("sagittal", "coronal", "axial")  # across each axis of an (x, y, z) array
# Letters at the left, right, top and bottom edge of a slice.
_EDGES: Mapping[_Plane, str] = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
_IN_ONE_ROW, _WRAPPED_COLUMNS = 5, 4  # the truth and 15 subsets make four rows of four
_TRUTH = "truth"
_PANEL_INCHES, _TITLE_INCHES, _LEGEND_INCHES = 1.9, 0.55, 0.4
_MARGIN = 6  # voxels
_PNG_DPI = 180


def as_svg(figure: Figure) -> bytes:
    """The figure as SVG, without date or random names: the same figure gives the same bytes."""
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "anymri"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def as_png(figure: Figure) -> bytes:
    """The figure as PNG at 180 dots per inch."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_PNG_DPI)
    return stream.getvalue()


def learning_curve(log: pd.DataFrame, validation: pd.DataFrame | None) -> Figure:
    """Losses over epochs, and below them the Dice of the validation cases if there is any.

    log, validation  as `reading.read_run` gives them. Epochs are counted through all stages, however each stage counts.
    """
    figure = _figure(7.5, 3.4 if validation is None else 5.6)
    axes = figure.subplots(1 if validation is None else 2, 1, sharex=True, squeeze=False)[:, 0]
    epochs = np.arange(1, len(log) + 1)
    _plot_losses(axes[0], epochs, log)
    if validation is not None:
        _plot_validation(axes[1], epochs, log, validation)
    for panel in axes:
        _mark_stages(panel, log["stage"], named=panel is axes[0])
    axes[-1].set_xlabel("epoch", fontsize=8, color=_INK)
    axes[-1].set_xlim(0.5, len(log) + 0.5)
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure


def subset_heatmap(table: pd.DataFrame, metric: str) -> Figure:
    """A `subset_table` as coloured cells with its numbers; darker is better."""
    rows, regions = [name for name in table.index if name != MEAN], regions_in(table)
    values = table.loc[rows, regions].to_numpy(dtype=float)
    figure = _figure(2.4 + 0.85 * len(regions), 0.8 + 0.27 * len(rows))
    axes = figure.subplots()
    colours = mpl.colormaps["viridis" if lower_is_better(metric) else "viridis_r"].with_extremes(bad="#EEEEEE")
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    mesh = axes.pcolormesh(np.ma.masked_invalid(values), cmap=colours, vmin=low, vmax=high, edgecolors="w", linewidth=1)
    for (row, column), value in np.ndenumerate(values):
        dark = np.isfinite(value) and np.dot(mesh.cmap(mesh.norm(value))[:3], (0.3, 0.6, 0.1)) < 0.5
        text = format_value(value, metric)
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=8, color="w" if dark else _INK)
    axes.set_xticks(np.arange(len(regions)) + 0.5, regions)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=8, labelcolor=_INK)
    axes.spines[:].set_visible(False)
    shown = "percent" if unit(metric) == "fraction" else unit(metric)
    axes.set_title(f"{heading(metric)} ({shown})", fontsize=10, color=_INK)
    return figure


def montage(
    scans: Mapping[str, NDArray[Any]],
    truth: NDArray[np.uint8] | None,
    segmentations: Mapping[str, NDArray[np.uint8]],
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Figure:
    """One case segmented from several subsets, side by side, as contours of the regions on the scan.

    scans          modality -> (x, y, z) in the orientation LPS, any intensities; non-finite voxels are shown black
    truth          (x, y, z) classes 0 to 4, or None; gets the first panel, and its Dice the titles of the others
    segmentations  subset ("T1c+FLAIR") -> (x, y, z) classes 0 to 4
    spacing_mm     size of a voxel along x, y, z

    Up to five panels show an axial, a coronal and a sagittal slice each, more panels only the axial one, in rows of
    four. All show the same slices: those with the most tumour in the truth, or else in all segmentations together.
    Under a subset lies a scan that belongs to it. Raises `ModalityError` if there is none.
    """
    panels = [] if truth is None else [_Panel(_TRUTH, _underlay(scans, MODALITIES), truth)]
    panels += [_Panel(name, _underlay(scans, Subset.parse(name)), classes) for name, classes in segmentations.items()]
    if not panels:
        raise ConfigurationError("There is no segmentation to show.", "Give the truth or at least one segmentation.")
    box = _box_of_interest([*scans.values(), *(panel.classes for panel in panels)])
    tumours = [truth] if truth is not None else [panel.classes for panel in panels]
    slices = _slices_with_most_tumour([classes[box] for classes in tumours])
    planes: tuple[_Plane, ...] = ("axial", "coronal", "sagittal") if len(panels) <= _IN_ONE_ROW else ("axial",)
    figure, grid = _panel_grid(len(panels), planes, scans[panels[0].modality][box].shape, spacing_mm)
    for panel, column in zip(panels, grid, strict=False):
        column[0].set_title(_panel_title(panel, truth), fontsize=8, color=_INK)
        for axes, plane in zip(column, planes, strict=True):
            _draw_slice(
                axes, plane, slices[plane], scans[panel.modality][box], panel.classes[box], spacing_mm=spacing_mm
            )
    _region_legend(figure, [panel.classes for panel in panels])
    return figure


@dataclass(frozen=True)
class _Panel:
    """One segmentation in a montage: its name (a subset, or the truth), the scan under it, its classes (x, y, z)."""

    name: str
    modality: str
    classes: NDArray[np.uint8]


def _panel_grid(
    panels: int, planes: Sequence[_Plane], shape: tuple[int, ...], spacing_mm: tuple[float, float, float]
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with room for slices of these proportions, and for each panel its axes, one per plane."""
    x, y, z = (count * size for count, size in zip(shape, spacing_mm, strict=True))
    proportions = {"axial": y / x, "coronal": z / x, "sagittal": z / y}
    columns = panels if panels <= _IN_ONE_ROW else _WRAPPED_COLUMNS
    blocks = math.ceil(panels / columns)
    ratios = [proportions[plane] for plane in planes] * blocks
    height = _PANEL_INCHES * sum(ratios) + _TITLE_INCHES * blocks + _LEGEND_INCHES
    figure = _figure(_PANEL_INCHES * columns, height)
    grid = figure.subplots(len(ratios), columns, squeeze=False, gridspec_kw={"height_ratios": ratios})
    for axes in grid.flat:
        axes.set_axis_off()
    rows = grid.reshape(blocks, len(planes), columns)
    return figure, [list(rows[block, :, column]) for block in range(blocks) for column in range(columns)]


def _region_legend(figure: Figure, maps: Sequence[NDArray[np.uint8]]) -> None:
    """Colours of WT, TC and ET, and of the cavity if a map has one."""
    shown = [region for region in REGION_COLOURS if region != "RC" or any((classes == RC).any() for classes in maps)]
    handles = [Line2D([], [], color=REGION_COLOURS[region], label=region) for region in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)


def _figure(width: float, height: float) -> Figure:
    """A white figure in inches with its own canvas."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _plot_losses(axes: Axes, epochs: NDArray[np.int_], log: pd.DataFrame) -> None:
    losses = {column.removeprefix("loss/"): log[column] for column in log.columns if column.startswith("loss/")}
    colours = iter(_LOSS_COLOURS * (1 + len(losses) // len(_LOSS_COLOURS)))
    for name, values in losses.items():
        total = name == "total"
        axes.plot(
            epochs, values, ".-", ms=3, label=name, color=_INK if total else next(colours), lw=1.8 if total else 1.0
        )
    smallest = min((values.min() for values in losses.values()), default=0)
    if smallest > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    _tidy(axes, "loss, mean over the epoch" + (" (log)" if smallest > 0 else ""))


def _plot_validation(axes: Axes, epochs: NDArray[np.int_], log: pd.DataFrame, validation: pd.DataFrame) -> None:
    keys = ["stage", "epoch"]
    placed = validation.merge(log[keys].assign(position=epochs), on=keys, how="inner")
    for region, rows in placed.groupby("region", sort=False):
        name = str(region)
        axes.plot(
            rows["position"],
            100 * rows["dice"],
            ".-",
            ms=4,
            lw=1.8 if name == "mean" else 1.0,
            label=name,
            color=_LINE_COLOURS[name],
        )
    axes.set_ylim(0, 100)
    _tidy(axes, "validation Dice (percent)")


def _tidy(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, fontsize=8, color=_INK)
    axes.tick_params(which="both", labelsize=8, labelcolor=_INK, color=_FAINT)
    axes.grid(axis="y", color=_FAINT, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    if axes.get_lines():
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _mark_stages(axes: Axes, stages: pd.Series, *, named: bool) -> None:
    """A line where a stage begins, with its name above if `named`; nothing if there is only one stage."""
    names = stages.tolist()
    begins = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    for begin in begins if len(begins) > 1 else []:
        axes.axvline(begin + 0.5, color="#999999", linewidth=0.8, linestyle=":")
        if named:
            where = (begin + 0.5, 1.02)
            axes.text(*where, names[begin], transform=axes.get_xaxis_transform(), fontsize=8, color="#666666")


def _underlay(scans: Mapping[str, NDArray[Any]], wanted: Any) -> str:
    """The modality to show under a subset: the first of `REFERENCE_ORDER` that it has."""
    for modality in REFERENCE_ORDER:
        if modality in wanted and modality in scans:
            return modality
    raise ModalityError(
        f"There is no scan to show under {wanted}: the scans are {', '.join(scans) or 'none'}.",
        "Give the scans that the segmentations were made from.",
    )


def _box_of_interest(volumes: Sequence[NDArray[Any]]) -> tuple[slice, slice, slice]:
    """The box around all voxels that are not background (0 or non-finite) in some volume, and a small margin."""
    inside = np.zeros(volumes[0].shape, dtype=bool)
    for volume in volumes:
        inside |= np.isfinite(volume) & (volume != 0)
    sides = []
    for axis in range(3):
        length: int = inside.shape[axis]
        used = np.flatnonzero(_project(inside, axis))
        low, high = (int(used[0]), int(used[-1]) + 1) if used.size else (0, length)
        sides.append(slice(max(low - _MARGIN, 0), min(high + _MARGIN, length)))
    return sides[0], sides[1], sides[2]


def _slices_with_most_tumour(maps: Sequence[NDArray[np.uint8]]) -> dict[_Plane, int]:
    """Plane -> index of its slice with the most tumour in all maps together; the middle if there is no tumour."""
    chosen: dict[_Plane, int] = {}
    for axis, plane in enumerate(_PLANES):
        area = sum(_project(region_mask(classes, "WT"), axis) for classes in maps)
        chosen[plane] = int(np.argmax(area)) if np.any(area) else maps[0].shape[axis] // 2
    return chosen


def _project(mask: NDArray[np.bool_], axis: int) -> NDArray[np.int_]:
    """Voxels of the mask in each slice across `axis`."""
    counts: NDArray[np.int_] = np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis}))
    return counts


def _draw_slice(
    axes: Axes,
    plane: _Plane,
    index: int,
    scan: NDArray[Any],
    classes: NDArray[np.uint8],
    *,
    spacing_mm: tuple[float, float, float],
) -> None:
    """One slice of an LPS scan with the contours of the regions."""
    axis = _PLANES.index(plane)
    across, down = (other for other in range(3) if other != axis)
    low, high = _intensity_window(scan)
    axes.imshow(
        np.nan_to_num(scan.take(index, axis).T, nan=low, posinf=low, neginf=low),
        cmap="gray",
        vmin=low,
        vmax=high,
        # y runs to posterior, which is down on an axial slice; z runs to superior, which is up on the others.
        origin="upper" if plane == "axial" else "lower",
        aspect=spacing_mm[down] / spacing_mm[across],
    )
    tissue: NDArray[np.uint8] = classes.take([index], axis).squeeze(axis).T
    for region, colour in REGION_COLOURS.items():
        mask = region_mask(tissue, region)
        if mask.any() and not mask.all():
            axes.contour(mask, levels=[0.5], colors=colour, linewidths=_CONTOUR_POINTS[region])
    for letter, (x, y) in zip(_EDGES[plane], ((0.03, 0.5), (0.97, 0.5), (0.5, 0.97), (0.5, 0.03)), strict=True):
        axes.text(x, y, letter, transform=axes.transAxes, ha="center", va="center", fontsize=6, color="#BBBBBB")


def _intensity_window(scan: NDArray[Any]) -> tuple[float, float]:
    """Black and white: 1st and 99.5th percentile of the voxels that are not background."""
    brain = scan[np.isfinite(scan) & (scan != 0)]
    if not brain.size:
        return 0.0, 1.0
    low, high = np.percentile(brain, (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _panel_title(panel: _Panel, truth: NDArray[np.uint8] | None) -> str:
    """What the panel shows, on which scan, and its Dice over the whole volume or that it is empty."""
    name = _TRUTH if panel.name == _TRUTH else str(Subset.parse(panel.name))
    lines = [name, f"on {panel.modality}"]
    if not panel.classes.any():
        lines.append("no tumour")
    elif truth is not None and name != _TRUTH:
        scores = {r: dice(region_mask(panel.classes, r), region_mask(truth, r)) for r in ("WT", "TC", "ET")}
        lines.append("Dice " + " ".join(f"{region} {100 * score:.0f}" for region, score in scores.items()))
    return "\n".join(lines)
