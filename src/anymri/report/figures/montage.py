"""Montage of one case with several segmentations, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from anymri.errors import ConfigurationError, ModalityError
from anymri.evaluation.metrics import dice
from anymri.modalities import ALL, REFERENCE_ORDER, Subset
from anymri.regions import RC, region_mask
from anymri.report.figures.slices import (
    Plane,
    box_of_interest,
    contour_key,
    draw_contours,
    draw_slice,
    intensity_window,
    proportions,
    slices_with_most_tumour,
)
from anymri.report.figures.style import INK, REGION_COLOURS, TEXT_POINTS, new_figure, plain

_IN_ONE_ROW, _WRAPPED_COLUMNS = 5, 4  # the truth and 15 subsets make four rows of four
_TRUTH = "truth"
_PANEL_INCHES, _TITLE_INCHES, _LEGEND_INCHES = 1.9, 0.55, 0.4


def montage(
    scans: Mapping[str, NDArray[Any]],
    truth: NDArray[np.uint8] | None,
    segmentations: Mapping[str, NDArray[np.uint8]],
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    subset: str | None = None,
) -> Figure:
    """Return one case, segmented from several subsets or by several systems, as contours of the regions on scans.

    scans          modality -> (X, Y, Z) in LPS, any intensities; non-finite voxels are shown black
    truth          (X, Y, Z) uint8 classes 0 to 4, or None; shown in the first panel, Dice with it in the other titles
    segmentations  subset ("T1c+FLAIR") -> (X, Y, Z) uint8 classes; or name of a system, if all used one `subset`
    spacing_mm     size of a voxel along X, Y, Z
    subset         subset that all systems used

    Up to five panels show an axial, a coronal and a sagittal slice each, more panels only the axial one, in rows of
    four. All show the same slices: those with the most tumour in the truth, or else in all segmentations together.
    A segmentation is drawn on a scan of its subset. Raises `ModalityError` if there is none.
    """
    shown = ALL if subset is None else Subset.parse(subset)
    panels = [] if truth is None else [_Panel(_TRUTH, _underlay(scans, shown), truth)]
    for name, classes in segmentations.items():
        used = Subset.parse(name if subset is None else subset)
        panels.append(_Panel(str(used) if subset is None else name, _underlay(scans, used), classes))
    if not panels:
        raise ConfigurationError("There is no segmentation to show.", "Give the truth or at least one segmentation.")
    box = box_of_interest([*scans.values(), *(panel.classes for panel in panels)])
    tumours = [truth] if truth is not None else [panel.classes for panel in panels]
    slices = slices_with_most_tumour([classes[box] for classes in tumours])
    planes: tuple[Plane, ...] = ("axial", "coronal", "sagittal") if len(panels) <= _IN_ONE_ROW else ("axial",)
    figure, grid = _panel_grid(len(panels), planes, scans[panels[0].modality][box].shape, spacing_mm)
    for panel, column in zip(panels, grid, strict=False):
        column[0].set_title(_panel_title(panel, truth), fontsize=TEXT_POINTS, color=INK)
        scan = scans[panel.modality][box]
        for axes, plane in zip(column, planes, strict=True):
            draw_slice(axes, plane, slices[plane], scan, intensity_window(scan), spacing_mm)
            draw_contours(axes, plane, slices[plane], panel.classes[box])
    _region_legend(figure, [panel.classes for panel in panels])
    return figure


@dataclass(frozen=True)
class _Panel:
    """Segmentation in a montage: its name, the modality under it, its classes (X, Y, Z)."""

    name: str
    modality: str
    classes: NDArray[np.uint8]


def _panel_grid(
    panels: int, planes: Sequence[Plane], shape: tuple[int, ...], spacing_mm: tuple[float, float, float]
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with room for slices of these proportions, and the axes of each panel, one per plane."""
    shares = proportions(shape, spacing_mm)
    columns = panels if panels <= _IN_ONE_ROW else _WRAPPED_COLUMNS
    blocks = math.ceil(panels / columns)
    ratios = [shares[plane] for plane in planes] * blocks
    height = _PANEL_INCHES * sum(ratios) + _TITLE_INCHES * blocks + _LEGEND_INCHES
    figure = new_figure(_PANEL_INCHES * columns, height)
    grid = figure.subplots(len(ratios), columns, squeeze=False, gridspec_kw={"height_ratios": ratios})
    for axes in grid.flat:
        axes.set_axis_off()
    rows = grid.reshape(blocks, len(planes), columns)
    return figure, [list(rows[block, :, column]) for block in range(blocks) for column in range(columns)]


def _region_legend(figure: Figure, maps: Sequence[NDArray[np.uint8]]) -> None:
    """Draw the legend of WT, TC and ET, and of the cavity if a map has one."""
    shown = [region for region in REGION_COLOURS if region != "RC" or any((classes == RC).any() for classes in maps)]
    handles = [contour_key(region, region) for region in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=TEXT_POINTS)


def _underlay(scans: Mapping[str, NDArray[Any]], subset: Subset) -> str:
    """Return the modality to show under a subset: the first of `REFERENCE_ORDER` that it has."""
    for modality in REFERENCE_ORDER:
        if modality in subset and modality in scans:
            return modality
    raise ModalityError(
        f"There is no scan to show under {subset}: the scans are {', '.join(scans) or 'none'}.",
        "Give the scans that the segmentations were made from.",
    )


def _panel_title(panel: _Panel, truth: NDArray[np.uint8] | None) -> str:
    """Return what the panel shows, on which scan, and its Dice over the whole volume or that it is empty."""
    lines = [plain(panel.name), f"on {panel.modality}"]
    if not panel.classes.any():
        lines.append("no tumour")
    elif truth is not None and panel.name != _TRUTH:
        values = {r: dice(region_mask(panel.classes, r), region_mask(truth, r)) for r in ("WT", "TC", "ET")}
        lines.append("Dice " + " ".join(f"{region} {100 * value:.0f}" for region, value in values.items()))
    return "\n".join(lines)
