"""DICOM measurement report (SR, TID 1500) of two time points: volumes of both, and their change with its interval.

Each structure has one group (TID 1501) per time point, with the same tracking UID and the context of the time point
(TID 1502). The change is in the group of the second one. DICOM does not have a code for a change of volume, so that its
two concepts have codes of ours, of the scheme 99ANYMRI. The interval is that of `anymri.inference.change`, as ranges of
upper and lower uncertainty around the change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anymri._version import __version__
from anymri.errors import ImageError
from anymri.export.codes import ABNORMAL, BRAIN, MILLILITRE, STRUCTURES, SUM_OF_VOXELS, VOLUME, Code
from anymri.export.dicom_seg import name_of
from anymri.export.dicom_sources import silent, source_files
from anymri.export.dicom_sr import document_of, number_of, report_of
from anymri.extras import need
from anymri.files import replacing
from anymri.prepare.dicom.series import Series

CHANGE = Code("VOL-CHANGE", "99ANYMRI", "Change of volume since the first time point")
RELATIVE_CHANGE = Code("VOL-CHANGE-REL", "99ANYMRI", "Relative change of volume since the first time point")
PERCENT = Code("%", "UCUM", "percent")


def write_follow_up_sr(
    path: Path,
    regions: Mapping[str, Mapping[str, Any]],
    first: Sequence[Series],
    second: Sequence[Series],
    *,
    algorithm: str = "anymri",
    version: str = __version__,
    series_number: int = 9803,
) -> Path:
    """Write the comparison of two time points as DICOM structured report (Comprehensive 3D SR) and return the path.

    regions        name of `anymri.export.codes.STRUCTURES` -> values, as `regions` of follow-up.json
    first, second  the series that were used at each time point; the report belongs to the study of the second one
    algorithm      name of the system or weights, at most 64 characters
    version        version of them
    series_number  number of the new series; its UIDs are new in every call

    The report is complete, preliminary and not verified by a person. **The file identifies the patient.** Raises
    `ImageError` if headers lack what the report needs, `OutputError` if the file cannot be written,
    `MissingExtraError` without highdicom.
    """
    need("dicom", "pydicom", "highdicom", purpose="Writing a DICOM measurement report")
    evidence = [file for one in (*second, *first) for file in source_files(one)]
    try:
        with silent():
            groups = [
                group
                for name, values in regions.items()
                for group in _groups(name, values, (name_of(algorithm), name_of(version)))
            ]
            dataset = document_of(report_of(groups), evidence, series_number, "brain tumour follow-up")
    except Exception as error:  # headers may be wrong in any element
        raise ImageError(
            f"The headers of {second[0].title} do not allow a DICOM measurement report.",
            "Use follow-up.json instead; --debug shows the reason.",
        ) from error
    with replacing(path) as temporary, silent():
        dataset.save_as(temporary, enforce_file_format=True)
    return path


def _groups(name: str, values: Mapping[str, Any], algorithm: tuple[str, str]) -> list[Any]:
    """Return the groups of one structure: of the first and of the second time point."""
    from highdicom import sr
    from pydicom.uid import generate_uid

    structure, uid = STRUCTURES[name], generate_uid()
    groups = []
    for order, time_point in enumerate(("first", "second"), start=1):
        numbers = [number_of(VOLUME, values[time_point]["volume_ml"], MILLILITRE, SUM_OF_VOXELS)]
        if order == 2:
            numbers.append(_change(CHANGE, values["change_ml"], values["change_interval_ml"], MILLILITRE))
            if values["change_percent"] is not None:
                interval = values["change_interval_percent"]
                numbers.append(_change(RELATIVE_CHANGE, values["change_percent"], interval, PERCENT))
        groups.append(
            sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=sr.TrackingIdentifier(uid=uid, identifier=f"anymri {name}"),
                time_point_context=sr.TimePointContext(time_point=str(order), time_point_order=order),
                finding_category=ABNORMAL.concept(),
                finding_type=structure.type.concept(),
                finding_sites=[sr.FindingSite(BRAIN.concept())],
                algorithm_id=sr.AlgorithmIdentification(*algorithm),
                measurements=numbers,
            )
        )
    return groups


def _change(name: Code, value: float, interval: Sequence[float] | None, unit: Code) -> Any:
    """Return a change as a content item; its interval as what is possible above and below it."""
    from highdicom.sr import MeasurementProperties

    properties = None
    if interval is not None:
        low, high = interval
        properties = MeasurementProperties(
            upper_measurement_uncertainty=round(high - value, 4), lower_measurement_uncertainty=round(value - low, 4)
        )
    return number_of(name, value, unit, properties=properties)
