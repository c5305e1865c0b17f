"""DICOM objects of a result: the segmentation and the measurement report, for the series whose grid it has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anymri._version import __version__
from anymri.export.dicom_seg import Kind, write_seg
from anymri.export.dicom_sr import measured_from, write_sr
from anymri.inference.result import Result
from anymri.prepare.dicom.series import Series

SEGMENTATION, LABELMAP, REPORT = "segmentation.dcm", "labelmap.dcm", "measurements.dcm"
_FILES: dict[Kind, str] = {"binary": SEGMENTATION, "labelmap": LABELMAP}


def series_of(result: Result) -> dict[str, Series]:
    """Return modality -> DICOM series, for the scans of a result that are DICOM series."""
    scans = {} if result.preparation is None else result.preparation.raw.scans
    return {modality: scan.series for modality, scan in scans.items() if scan.series is not None}


def write_dicom(
    result: Result,
    folder: Path,
    kinds: Sequence[Kind] = ("binary",),
    report: bool = True,
    version: str = __version__,
    identity: str = "",
) -> list[Path]:
    """Write the DICOM objects of a result into a folder, and return their files: none of a segmentation without tumour.

    kinds     kinds of the segmentation, see `write_seg`; the report refers to the first
    report    whether the report is written
    version   version of the weights that the objects name
    identity  text from which all UIDs follow, see `write_seg`

    Raises `KeyError` if the result is not on the grid of a DICOM series, see `series_of`, and the errors of `write_seg`
    and `write_sr`.
    """
    every = series_of(result)
    series = every[result.space]
    algorithm = f"anymri {result.card.system}"
    written = []
    for kind in kinds:
        file = folder / _FILES[kind]
        seg = write_seg(
            file, result.classes, series, kind=kind, algorithm=algorithm, version=version, identity=identity
        )
        written += [] if seg is None else [seg]
    if report:
        seg = written[0] if written else None
        others = [each for name, each in every.items() if each is not series and name in result.subset]
        measured = measured_from(result.measurements.as_json())
        written.append(
            write_sr(
                folder / REPORT,
                measured,
                series,
                seg,
                others=others,
                algorithm=algorithm,
                version=version,
                identity=identity,
            )
        )
    return written
