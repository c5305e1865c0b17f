"""Files that `anymri segment` adds to the folder of a result on request: picture, page, names of labels, DICOM."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anymri.errors import InputWarning

if TYPE_CHECKING:
    from anymri.inference.result import Result


def check_extras(preview: bool = False, page: bool = False, viewers: bool = False, dicom: bool = False) -> None:
    """Raise `MissingExtraError` for an extra that the files need; call it before the work."""
    from anymri.extras import need

    if preview or page:
        need("report", "pandas", "matplotlib", "jinja2", purpose="The picture or page of a case")
    if dicom:
        need("dicom", "pydicom", "highdicom", purpose="Writing DICOM")


def write_added_files(
    result: Result,
    folder: Path,
    preview: bool = False,
    page: bool = False,
    viewers: bool = False,
    dicom: bool = False,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write what was requested into the folder of a saved result, and return the paths.

    preview  preview.png: slices with the outlines of the regions
    page     case.html, with the picture
    viewers  names and colours of the labels for 3D Slicer and ITK-SNAP
    dicom    segmentation.dcm and measurements.dcm, if the scan whose grid the result has is a DICOM series
    notes    warnings that the page shows
    """
    written: list[Path] = []
    picture = None
    if preview or page:
        from anymri.report.case_montage import result_montage

        picture = result_montage(result)
    if preview and picture is not None:
        from anymri.report.case_montage import write_preview

        written.append(write_preview(folder, picture))
    if page:
        from anymri.report.case_page import write_case_page

        written.append(write_case_page(folder, picture, notes))
    if viewers:
        from anymri.export.viewers import write_viewer_files

        written += write_viewer_files(folder, int(result.card.network["num_classes"]))
    if dicom:
        written += _write_dicom(result, folder)
    return written


def _write_dicom(result: Result, folder: Path) -> list[Path]:
    """Write the segmentation and the report; note why not if the result is not on the grid of a DICOM series."""
    from anymri.export.dicom_result import SEGMENTATION, series_of, write_dicom

    if result.space not in series_of(result):
        warnings.warn(
            f"No DICOM was written, because the result has the grid of {result.space}, which is not a DICOM series.",
            InputWarning,
            stacklevel=3,
        )
        return []
    written = write_dicom(result, folder)
    if folder / SEGMENTATION not in written:
        warnings.warn(f"No {SEGMENTATION} was written: no tumour was found.", InputWarning, stacklevel=3)
    return written
