"""Slices of volumes in radiological orientation.

On axial and coronal slices the patient's left is on the reader's right; on sagittal slices anterior is on the left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from anymri.regions import region_mask
from anymri.report.figures.style import REGION_COLOURS

Plane = Literal["sagittal", "coronal", "axial"]
PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")  # across each axis of an (X, Y, Z) array
# Letters at the left, right, top and bottom edge of a slice.
_EDGES: Mapping[Plane, str] = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
# Regions share borders: outer lines are wider and that of ET has gaps, so that all are visible where they coincide.
_CONTOURS: Mapping[str, tuple[float, Any]] = {  # width in points, dashes
    "WT": (2.0, "solid"),
    "TC": (1.4, "solid"),
    "ET": (0.9, (0, (2.2, 1.6))),
    "RC": (1.0, "solid"),
}
_MARGIN = 6  # voxels


def box_of_interest(volumes: Sequence[NDArray[Any]]) -> tuple[slice, slice, slice]:
    """Return the box around all voxels that are not background (0 or non-finite) in some volume, with a margin."""
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


def slices_with_most_tumour(maps: Sequence[NDArray[np.uint8]]) -> dict[Plane, int]:
    """Return plane -> index of the slice with the most tumour in all maps (X, Y, Z); the middle without tumour."""
    chosen: dict[Plane, int] = {}
    for axis, plane in enumerate(PLANES):
        area = sum(_project(region_mask(classes, "WT"), axis) for classes in maps)
        chosen[plane] = int(np.argmax(area)) if np.any(area) else maps[0].shape[axis] // 2
    return chosen


def proportions(shape: tuple[int, ...], spacing_mm: Sequence[float]) -> dict[Plane, float]:
    """Return plane -> height over width of the slices of a volume (X, Y, Z)."""
    x, y, z = (count * size for count, size in zip(shape, spacing_mm, strict=True))
    return {"axial": y / x, "coronal": z / x, "sagittal": z / y}


def draw_slice(
    axes: Axes,
    plane: Plane,
    index: int,
    volume: NDArray[Any],
    window: tuple[float, float],
    spacing_mm: Sequence[float],
    colours: str = "gray",
) -> None:
    """Draw one slice of a volume (X, Y, Z) in LPS with letters at its edges; non-finite voxels are black.

    window      intensities of black and white
    spacing_mm  size of a voxel along X, Y, Z
    """
    axis = PLANES.index(plane)
    across, down = (other for other in range(3) if other != axis)
    low, high = window
    axes.imshow(
        np.nan_to_num(volume.take(index, axis).T, nan=low, posinf=low, neginf=low),
        cmap=colours,
        vmin=low,
        vmax=high,
        # y runs to posterior, which is down on an axial slice; z runs to superior, which is up on the others.
        origin="upper" if plane == "axial" else "lower",
        aspect=spacing_mm[down] / spacing_mm[across],
    )
    for letter, (x, y) in zip(_EDGES[plane], ((0.03, 0.5), (0.97, 0.5), (0.5, 0.97), (0.5, 0.03)), strict=True):
        axes.text(x, y, letter, transform=axes.transAxes, ha="center", va="center", fontsize=6, color="#BBBBBB")


def draw_contours(axes: Axes, plane: Plane, index: int, classes: NDArray[np.uint8]) -> None:
    """Draw the borders of the regions of a map of classes (X, Y, Z) on one of its slices."""
    axis = PLANES.index(plane)
    tissue: NDArray[np.uint8] = classes.take([index], axis).squeeze(axis).T
    for region, colour in REGION_COLOURS.items():
        mask = region_mask(tissue, region)
        if mask.any() and not mask.all():
            width, dashes = _CONTOURS[region]
            axes.contour(mask, levels=[0.5], colors=colour, linewidths=width, linestyles=[dashes])


def contour_key(region: str, label: str) -> Line2D:
    """Return the entry of a legend for the line of a region."""
    width, dashes = _CONTOURS[region]
    return Line2D([], [], color=REGION_COLOURS[region], linewidth=width, linestyle=dashes, label=label)


def intensity_window(scan: NDArray[Any]) -> tuple[float, float]:
    """Return the intensities of black and white: 1st and 99.5th percentile of the voxels that are not background."""
    brain = scan[np.isfinite(scan) & (scan != 0)]
    if not brain.size:
        return 0.0, 1.0
    low, high = np.percentile(brain, (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _project(mask: NDArray[np.bool_], axis: int) -> NDArray[np.int_]:
    """Return the number of voxels of the mask in each slice across `axis`."""
    counts: NDArray[np.int_] = np.count_nonzero(mask, axis=tuple({0, 1, 2} - {axis}))
    return counts
