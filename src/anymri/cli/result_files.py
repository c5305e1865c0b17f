"""What a command adds to the folder of a result: files for viewers, a picture and a page, DICOM objects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.errors import AnymriWarning
from anymri.extras import need

if TYPE_CHECKING:
    from anymri.inference.result import Result

_REPORT = ("pandas", "matplotlib", "jinja2")
_DICOM = ("pydicom", "highdicom")


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collect the warnings of anymri that are issued, which are still shown."""
    notes: list[str] = []
    show: Callable[..., Any] = warnings.showwarning

    def keep(message: Warning | str, category: type[Warning], *where: Any, **rest: Any) -> None:
        if issubclass(category, AnymriWarning):
            notes.append(str(message))
        show(message, category, *where, **rest)

    warnings.showwarning = keep
    try:
        yield notes
    finally:
        warnings.showwarning = show


def check_page(page: bool | None) -> bool:
    """Return whether a picture and a page are made: if asked for, or by default with the extra `report`.

    Raises `MissingExtraError` if they are asked for and cannot be made.
    """
    if page:
        need("report", *_REPORT, purpose="The page of a case")
    return all(map(find_spec, _REPORT)) if page is None else page


def add_files(result: Result, folder: Path, *, page: bool = True, notes: Sequence[str] = ()) -> None:
    """Write beside a saved result what other programs and people read.

    labels.ctbl, labels-itksnap.txt        names and colours of the label values
    preview.png, case.html                 with `page`
    segmentation.dcm, measurements.dcm     if the scan whose grid the result has is a DICOM series, with the extra
                                           `dicom`

    notes  warnings about the case, for the page
    """
    from anymri.export.viewers import write_viewer_files

    write_viewer_files(folder, result.card.network["num_classes"])
    if page:
        from anymri.report.case_montage import case_montage, write_preview
        from anymri.report.case_page import write_case_page

        lines = result.measurements.largest_diameters_mm
        picture = case_montage(result.scans(), result.classes, result.reference.affine, result.subset, lines)
        write_preview(folder, picture)
        write_case_page(folder, picture, notes)
    if all(map(find_spec, _DICOM)):
        _add_dicom(result, folder)


def _add_dicom(result: Result, folder: Path) -> None:
    raw = None if result.preparation is None else result.preparation.raw
    scan = None if raw is None else raw.scans.get(result.space)
    if raw is None or scan is None or scan.series is None:
        return
    from anymri.export.dicom_seg import write_seg
    from anymri.export.dicom_sr import measured_from, write_sr

    made_by = {"algorithm": result.card.system}
    measured = measured_from(result.measurements.as_json())
    series = scan.series
    others = [raw.scans[m].series for m in result.subset if m in raw.scans and m != result.space]
    seg = write_seg(folder / "segmentation.dcm", result.classes, series, **made_by)
    write_sr(
        folder / "measurements.dcm", measured, series, seg, others=[each for each in others if each], **made_by
    )
