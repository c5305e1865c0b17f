"""Picture of one segmented case: its scans in three planes with the outlines of the regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from anymri.data.image import Image, to_lps
from anymri.files import replacing
from anymri.modalities import MODALITIES, REFERENCE_ORDER, Subset
from anymri.regions import RC, region_mask
from anymri.report.figures.slices import (
    PLANES,
    Plane,
    box_of_interest,
    contour_key,
    draw_contours,
    draw_slice,
    intensity_window,
    proportions,
    slices_with_most_tumour,
)
from anymri.report.figures.style import FAINT, INK, REGION_COLOURS, SOFT, TEXT_POINTS, as_png, new_figure

PREVIEW = "preview.png"
# What the outlines enclose, for readers who do not know the names of the regions.
REGION_WORDS = {
    "WT": "whole tumour with oedema",
    "TC": "tumour core",
    "ET": "enhancing tumour",
    "RC": "resection cavity",
}
CONVENTION = "Radiological convention: the patient's right is on the left of axial and coronal slices."

_ROWS: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
_PANEL_INCHES, _TITLE_INCHES, _LEGEND_INCHES = 1.9, 0.35, 0.75
_SCALE_MM = 50.0
# A line is drawn on a slice if both ends are within this distance of it, in slices.
_ON_SLICE = 0.51


class Measured(Protocol):
    """Measurements of a result: ends of the largest diameters in RAS+ millimetres."""

    @property
    def largest_diameters_mm(self) -> Sequence[Sequence[Sequence[float]]]:
        """Ends of both diameters of the largest enhancing lesion; none without a lesion."""


class Segmented(Protocol):
    """A result of a case, as `anymri.inference.result.Result` is one."""

    @property
    def classes(self) -> NDArray[np.uint8]:
        """Label map, (x, y, z)."""

    @property
    def subset(self) -> Subset:
        """Modalities that it was made from."""

    @property
    def reference(self) -> Image:
        """Image whose geometry it has."""

    @property
    def measurements(self) -> Measured:
        """Its measurements."""

    def scans(self) -> Mapping[str, NDArray[Any]]:
        """Modality -> scan on its grid."""


def result_montage(result: Segmented) -> Figure:
    """Return the picture of a result, see `case_montage`."""
    lines = result.measurements.largest_diameters_mm
    return case_montage(result.scans(), result.classes, result.reference.affine, result.subset, lines)


def case_montage(
    scans: Mapping[str, NDArray[Any]],
    classes: NDArray[np.uint8],
    affine: NDArray[np.float64],
    used: Subset | None = None,
    diameters_mm: Sequence[Sequence[Sequence[float]]] = (),
) -> Figure:
    """Return up to four scans as columns, and an axial, a coronal and a sagittal slice of each as rows.

    scans         modality -> (X, Y, Z), any intensities, in the stored orientation of `affine`
    classes       (X, Y, Z) uint8 classes of `anymri.regions.CLASSES` on the same grid
    affine        (4, 4): voxel indices to RAS+ millimetres
    used          modalities that the label map was made from, by default all; the others are marked as not used
    diameters_mm  lines to draw on the axial slice of T1c, or of the first scan of FLAIR, T2 and T1 without it: each as
                  its two ends in RAS+ millimetres; the axial slice is theirs

    Slices are those with the most tumour, the middle ones without a tumour. They have their physical proportions and a
    bar of 50 mm. A missing modality is an empty box with its name.
    """
    from nibabel.affines import apply_affine

    shown = {modality: to_lps(scan, affine)[0] for modality, scan in scans.items()}
    tumour, lps = to_lps(classes, affine)
    box = box_of_interest([*shown.values(), tumour])
    tumour, spacing = tumour[box], np.linalg.norm(lps[:3, :3], axis=0).tolist()
    corner = np.array([side.start for side in box])
    lines = [apply_affine(np.linalg.inv(lps), np.array(ends)) - corner for ends in diameters_mm]
    slices = slices_with_most_tumour([tumour])
    if lines:
        slices["axial"] = int(np.clip(round(float(lines[0][:, 2].mean())), 0, tumour.shape[2] - 1))
    measured_on = next(m for m in REFERENCE_ORDER if m in shown and (used is None or m in used))
    figure, grid = _axes(tumour.shape, spacing)
    for column, modality in zip(grid.T, MODALITIES, strict=True):
        if modality not in shown:
            _draw_missing(column, modality, tumour.shape, spacing)
            continue
        is_used = used is None or modality in used
        column[0].set_title(modality if is_used else f"{modality} (not used)", fontsize=TEXT_POINTS, color=INK)
        scan = shown[modality][box]
        window = intensity_window(scan)
        for axes, plane in zip(column, _ROWS, strict=True):
            draw_slice(axes, plane, slices[plane], scan, window, spacing)
            draw_contours(axes, plane, slices[plane], tumour)
        if modality == measured_on:
            _draw_lines(column[0], [line for line in lines if np.ptp([*line[:, 2], slices["axial"]]) < _ON_SLICE])
    first = next(index for index, modality in enumerate(MODALITIES) if modality in shown)
    for axes, plane in zip(grid[:, first], _ROWS, strict=True):
        _draw_scale(axes, plane, tumour.shape, spacing)
    _draw_legend(figure, tumour, bool(lines))
    return figure


def write_preview(folder: Path | str, figure: Figure) -> Path:
    """Write the picture as preview.png into the folder of a result, and return its path."""
    path = Path(folder) / PREVIEW
    with replacing(path) as temporary:
        temporary.write_bytes(as_png(figure))
    return path


def _axes(shape: tuple[int, ...], spacing_mm: Sequence[float]) -> tuple[Figure, NDArray[Any]]:
    """Return a figure, and its axes: one row per plane, one column per modality."""
    shares = proportions(shape, spacing_mm)
    ratios = [shares[plane] for plane in _ROWS]
    height = _PANEL_INCHES * sum(ratios) + _TITLE_INCHES + _LEGEND_INCHES
    figure = new_figure(_PANEL_INCHES * len(MODALITIES) + 0.3, height)
    grid: NDArray[Any] = figure.subplots(len(_ROWS), len(MODALITIES), squeeze=False, height_ratios=ratios)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for axes, plane in zip(grid[:, 0], _ROWS, strict=True):
        axes.set_ylabel(plane, fontsize=TEXT_POINTS, color=INK)
    return figure, grid


def _draw_missing(column: Sequence[Axes], modality: str, shape: tuple[int, ...], spacing_mm: Sequence[float]) -> None:
    """Draw empty boxes of the size of the slices, the first one with the name of the modality."""
    column[0].set_title(f"{modality} (missing)", fontsize=TEXT_POINTS, color=SOFT)
    shares = proportions(shape, spacing_mm)
    for axes, plane in zip(column, _ROWS, strict=True):
        axes.set(xlim=(0, 1), ylim=(0, shares[plane]), aspect="equal")
        frame = Rectangle((0.02, 0.02), 0.96, shares[plane] - 0.04, fill=False, edgecolor=FAINT, linestyle="--")
        axes.add_patch(frame)
        axes.text(0.5, shares[plane] / 2, "not given", ha="center", va="center", fontsize=TEXT_POINTS, color=SOFT)


def _draw_lines(axes: Axes, lines: Sequence[NDArray[np.float64]]) -> None:
    for line in lines:
        axes.plot(line[:, 0], line[:, 1], color="white", linewidth=0.8, marker="|", markersize=3)


def _draw_scale(axes: Axes, plane: Plane, shape: tuple[int, ...], spacing_mm: Sequence[float]) -> None:
    """Draw a bar of 50 mm in the lower right corner of a slice."""
    across, down = (axis for axis in range(3) if axis != PLANES.index(plane))
    length = _SCALE_MM / spacing_mm[across]
    # y runs downwards on an axial slice, z upwards on the others.
    low = 0.03 * shape[down]
    end, row = 0.97 * shape[across], (shape[down] - 1 - low if plane == "axial" else low)
    axes.plot([end - length, end], [row, row], color="white", linewidth=1.5, solid_capstyle="butt")
    offset = -low / 2 if plane == "axial" else low / 2
    axes.text(end - length / 2, row + offset, "50 mm", ha="center", va="bottom", fontsize=6, color="white")


def _draw_legend(figure: Figure, classes: NDArray[np.uint8], has_lines: bool) -> None:
    """Draw what the outlines and lines are, and which side is which; or that there is no tumour."""
    regions = [region for region in REGION_COLOURS if region != "RC" or (classes == RC).any()]
    handles = [contour_key(region, f"{region}, {REGION_WORDS[region]}") for region in regions]
    if has_lines:
        handles.append(Line2D([], [], color=SOFT, marker="|", linewidth=0.8, label="largest diameters"))
    title = CONVENTION if region_mask(classes, "WT").any() else f"No tumour was found. {CONVENTION}"
    legend = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=TEXT_POINTS,
        title=title,
        title_fontsize=TEXT_POINTS,
    )
    legend.get_title().set_color(INK)
