"""The page of two time points: volumes, their change with intervals, and a picture of both on the same slices.

Like the page of a case it shows the names of the cases, and no names of files or folders.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from anymri.analysis.reading import read_provenance
from anymri.data.image import to_lps
from anymri.files import read_text, write_text
from anymri.report import follow_up_text as text
from anymri.report.case_montage import CONVENTION, REGION_WORDS
from anymri.report.case_text import provenance
from anymri.report.figures import as_png
from anymri.report.figures.slices import (
    PLANES,
    box_of_interest,
    contour_key,
    draw_contours,
    draw_slice,
    intensity_window,
    proportions,
    slices_with_most_tumour,
)
from anymri.report.figures.style import INK, TEXT_POINTS, new_figure
from anymri.report.pages import Picture, html_table, render
from anymri.report.redaction import sentence

PAGE = "follow-up.html"
_PANEL_INCHES, _LEGEND_INCHES = 2.3, 1.0


def write_follow_up_page(folder: Path, picture: Figure, warnings: Sequence[str] = ()) -> Path:
    """Write follow-up.html into a folder with follow-up.json and provenance.json, and return its path.

    picture   see `follow_up_figure`
    warnings  sentences of the preparation and the segmentation; paths in them are shortened to names of files
    """
    compared: Mapping[str, Any] = json.loads(read_text(folder / "follow-up.json"))
    record = read_provenance(folder)
    places = text.places_grid(compared)
    page = render(
        "follow_up.html.j2",
        title=f"Brain tumour of {compared['first']} and {compared['second']}",
        findings=text.findings(compared),
        regions=html_table(text.regions_grid(compared)),
        places=None if places is None else html_table(places),
        warnings=[sentence(warning, record.get("inputs", {})) for warning in warnings],
        picture=Picture(
            f"data:image/png;base64,{base64.b64encode(as_png(picture)).decode('ascii')}",
            "The same slices at both time points, those with the most tumour in both together.",
            "Axial, coronal and sagittal slices at the first and the second time point with outlines of the regions.",
        ),
        registration=text.registration(compared),
        limits=text.limits(),
        provenance=provenance(record),
        created=str(record.get("created", ""))[:10],
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def follow_up_figure(
    scans: Sequence[NDArray[Any]], maps: Sequence[NDArray[np.uint8]], affine: NDArray[np.float64], modality: str
) -> Figure:
    """Return the first and the second time point as rows, and a sagittal, a coronal and an axial slice as columns.

    scans     two volumes (X, Y, Z) of one modality on one grid, any intensities
    maps      their classes (X, Y, Z) uint8 on this grid
    affine    (4, 4): voxel indices to RAS+ millimetres
    """
    shown = [to_lps(scan, affine)[0] for scan in scans]
    tumours, lps = [to_lps(each, affine)[0] for each in maps], to_lps(maps[0], affine)[1]
    box = box_of_interest([*shown, *tumours])
    shown, tumours = [scan[box] for scan in shown], [each[box] for each in tumours]
    spacing = np.linalg.norm(lps[:3, :3], axis=0).tolist()
    slices, shares = slices_with_most_tumour(tumours), proportions(shown[0].shape, spacing)
    height = 2 * _PANEL_INCHES * max(shares.values()) + _LEGEND_INCHES
    figure = new_figure(_PANEL_INCHES * len(PLANES), height)
    grid: NDArray[Any] = figure.subplots(2, len(PLANES), squeeze=False)
    for name, row, scan, classes in zip(("first", "second"), grid, shown, tumours, strict=True):
        window = intensity_window(scan)
        row[0].set_ylabel(f"{name}, {modality}", fontsize=TEXT_POINTS, color=INK)
        for axes, plane in zip(row, PLANES, strict=True):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            draw_slice(axes, plane, slices[plane], scan, window, spacing)
            draw_contours(axes, plane, slices[plane], classes)
    for axes, plane in zip(grid[0], PLANES, strict=True):
        axes.set_title(plane, fontsize=TEXT_POINTS, color=INK)
    legend = figure.legend(
        handles=[contour_key(region, f"{region}, {REGION_WORDS[region]}") for region in ("WT", "TC", "ET")],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=TEXT_POINTS,
        title=CONVENTION,
        title_fontsize=TEXT_POINTS,
    )
    legend.get_title().set_color(INK)
    return figure
