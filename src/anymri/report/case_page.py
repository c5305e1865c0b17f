"""The page of one segmented case, which a clinician reads in a minute.

It is made from the files of a result folder, measurements.json and provenance.json, and a picture that is passed in.
Beside the names of the case and of the weights, which the user chose, it shows no names of files or folders, because
these can be names of patients.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from anymri.analysis.reading import read_metrics, read_provenance
from anymri.analysis.tables import MEAN, regions_in, subset_table
from anymri.errors import RunError
from anymri.files import TextError, read_text, write_text
from anymri.report import case_text
from anymri.report.case_steps import steps
from anymri.report.figures import as_png
from anymri.report.pages import Picture, html_table, render
from anymri.report.redaction import sentence

PAGE = "case.html"


def write_case_page(folder: Path | str, picture: Figure | bytes | None = None, warnings: Sequence[str] = ()) -> Path:
    """Write case.html into the folder of a result, and return its path.

    folder    folder that `anymri segment` wrote, with measurements.json and provenance.json
    picture   picture of the case, see `anymri.report.case_montage`
    warnings  sentences of the preparation and the segmentation; paths in them are shortened to names of files

    Raises `RunError` if the folder is not a result.
    """
    target = Path(folder)
    measured, provenance = read_measurements(target), read_provenance(target)
    inputs = provenance.get("inputs", {})
    page = render(
        "case.html.j2",
        title=f"Brain tumour segmentation of {measured['case']}",
        findings=case_text.findings(measured),
        regions=html_table(case_text.regions_grid(measured)),
        warnings=[sentence(warning, inputs) for warning in warnings],
        picture=None if picture is None else _embedded(picture, measured),
        lesions=None if (grid := case_text.lesions_grid(measured)) is None else html_table(grid),
        scans=case_text.scans(measured, inputs),
        missing=case_text.missing(measured),
        gains=None if (gains := case_text.gains_grid(measured)) is None else html_table(gains),
        steps=steps(provenance["configuration"].get("preparation", ()), inputs),
        limits=case_text.limits(measured, provenance),
        provenance=case_text.provenance(provenance),
        created=str(provenance.get("created", ""))[:10],
    )
    write_text(target / PAGE, page)
    return target / PAGE


def read_measurements(folder: Path) -> dict[str, Any]:
    """Return the content of measurements.json of a result; raise `RunError` if it is not there or damaged."""
    file = folder / "measurements.json"
    fix = "Give a folder that `anymri segment` wrote, or segment the case again."
    if not file.is_file():
        raise RunError(f"{folder} does not contain {file.name}.", fix)
    try:
        content = json.loads(read_text(file))
    except (TextError, ValueError, OSError, RecursionError) as error:
        raise RunError(f"{file} cannot be read as JSON.", fix) from error
    if not isinstance(content, dict) or not isinstance(content.get("regions"), dict):
        raise RunError(f"{file} does not have the measurements of a case.", fix)
    return content


def dice_by_subset(evaluation: Path | str) -> dict[str, dict[str, float]]:
    """Return subset -> region -> mean Dice over cases, of a folder that `anymri evaluate` wrote.

    For `Result.save`, which writes what each missing modality would bring. Subsets and regions without a value are left
    out. Raises `RunError` if the folder is not an evaluation.
    """
    table = subset_table(read_metrics(Path(evaluation)), "dice").drop(MEAN)
    regions = [region for region in regions_in(table) if region in case_text.REGION_NAMES]
    means: dict[str, dict[str, float]] = {}
    for region in regions:
        for subset, value in table[region].dropna().items():
            means.setdefault(str(subset), {})[region] = float(value)
    return means


def _embedded(picture: Figure | bytes, measured: Mapping[str, Any]) -> Picture:
    """Return a figure, or the bytes of a PNG, as an image inside the page."""
    image = as_png(picture) if isinstance(picture, Figure) else picture
    found = "the outlines of the regions" if measured["regions"]["WT"]["volume_ml"] else "no tumour"
    slices = "Slices with the most tumour; the axial one is that of the largest diameters, where there are any."
    return Picture(
        f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}",
        slices,
        f"Axial, coronal and sagittal slices of the scans with {found}.",
    )
