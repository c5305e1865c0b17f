"""DICOM measurement reports (SR): volumes and diameters in the form of TID 1500, which refers to the segmentation.

A structure that is a segment of the SEG is a group of TID 1411, which refers to that segment and has its tracking
identifiers. Any other structure is a group of TID 1501 without a region: the whole tumour where segments are classes,
and all structures if no tumour was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri._version import __version__
from anymri.errors import ImageError
from anymri.export.codes import (
    ABNORMAL,
    BRAIN,
    LONG_AXIS,
    MILLILITRE,
    MILLIMETRE,
    MRI,
    PERPENDICULAR_AXIS,
    SIDES,
    STRUCTURES,
    SUM_OF_VOXELS,
    VOLUME,
    Code,
)
from anymri.export.dicom_seg import MANUFACTURER, MODEL, name_of
from anymri.export.dicom_sources import new_uids, silent, source_files
from anymri.extras import need
from anymri.files import replacing
from anymri.prepare.dicom.series import Series

if TYPE_CHECKING:
    from highdicom.sr import Comprehensive3DSR, Measurement, MeasurementReport
    from pydicom.dataset import Dataset

# The report names its author by this UID, which is the same in all reports of a version.
_DEVICE = ("anymri", __version__)


@dataclass(frozen=True)
class Measured:
    """Measurements of one structure.

    volume_ml         volume in millilitres
    longest_mm        largest axial diameter of the largest lesion, in millimetres; None if it was not measured
    perpendicular_mm  largest diameter perpendicular to it, in the same slice; None if it was not measured
    side              `left`, `right` or `both`; others, and None, are not reported
    """

    volume_ml: float
    longest_mm: float | None = None
    perpendicular_mm: float | None = None
    side: str | None = None


def measured_from(measurements: Mapping[str, Any]) -> dict[str, Measured]:
    """Return name of a structure -> what a report contains, of the content of measurements.json.

    measurements  with the keys `regions` and `classes`; a structure of both is taken from the regions, which have more
    """
    found = {**measurements.get("classes", {}), **measurements.get("regions", {})}
    measured = {}
    for name in STRUCTURES:
        if name in found:
            values = found[name]
            largest: Mapping[str, Any] = max(
                values.get("lesions", ()), key=lambda lesion: lesion["volume_ml"], default={}
            )
            diameters = largest.get("longest_mm"), largest.get("perpendicular_mm")
            measured[name] = Measured(values["volume_ml"], *diameters, side=values.get("side"))
    return measured


def write_sr(
    path: Path,
    measurements: Mapping[str, Measured],
    series: Series,
    seg: Path | None,
    *,
    algorithm: str = "anymri",
    version: str = __version__,
    series_number: int = 9802,
    others: Sequence[Series] = (),
    identity: str = "",
) -> Path:
    """Write measurements as DICOM structured report (Comprehensive 3D SR, TID 1500) and return the path.

    measurements   name of `anymri.export.codes.STRUCTURES` -> measurements, at least one
    series         the series that the segmentation was made for
    seg            segmentation that `write_seg` wrote for this series; None if no tumour was found
    algorithm      name of the system or weights, at most 64 characters
    version        version of them
    series_number  number of the new series
    identity       text from which the UIDs of series and object follow; by default they are new in every call
    others         the other series that the segmentation was made from, which the report lists as evidence

    The report is complete, preliminary and not verified by a person. **The file identifies the patient**, as the one of
    `write_seg` does. Raises `ImageError` if headers lack what the report needs or the segmentation is of another
    series, `OutputError` if the file cannot be written, `MissingExtraError` without highdicom.
    """
    need("dicom", "pydicom", "highdicom", purpose="Writing a DICOM measurement report")
    if not measurements:
        raise ValueError("a report needs the measurements of at least one structure")
    segmentation = None if seg is None else _read_seg(seg, series)
    evidence = [file for one in (series, *others) for file in source_files(one)]
    if segmentation is not None:
        evidence.append(segmentation)
    try:
        with silent():
            groups = [
                _group(name, values, segmentation, series, (name_of(algorithm), name_of(version)))
                for name, values in measurements.items()
            ]
            dataset = document_of(report_of(groups), evidence, series_number, identity=identity)
    except Exception as error:  # headers may be wrong in any element
        raise ImageError(
            f"The headers of {series.title} do not allow a DICOM measurement report.",
            "Use measurements.json instead; --debug shows the reason.",
        ) from error
    with replacing(path) as temporary, silent():
        dataset.save_as(temporary, enforce_file_format=True)
    return path


def _read_seg(file: Path, series: Series) -> Dataset:
    """Return a segmentation without its pixels; raise `ImageError` if it was not made for the series."""
    from pydicom import dcmread

    with silent():
        dataset = dcmread(file, stop_before_pixels=True)
        referenced = {str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence", ())}
    if referenced != {series.series_uid}:
        raise ImageError(
            f"The segmentation {file} was not made for {series.title}.", "Give the segmentation of this series."
        )
    return dataset


def _group(
    name: str, measured: Measured, segmentation: Dataset | None, series: Series, algorithm: tuple[str, str]
) -> Any:
    """Return the measurement group of a structure: TID 1411 if it is a segment, else TID 1501."""
    from highdicom import sr
    from pydicom.uid import generate_uid

    structure = STRUCTURES[name]
    side = SIDES.get(measured.side or "")
    content: dict[str, Any] = {
        "finding_category": ABNORMAL.concept(),
        "finding_type": structure.type.concept(),
        "finding_sites": [sr.FindingSite(BRAIN.concept(), laterality=None if side is None else side.concept())],
        "algorithm_id": sr.AlgorithmIdentification(*algorithm),
        "measurements": _numbers(measured),
    }
    segment = _segment(segmentation, structure.label)
    if segment is None or segmentation is None:
        tracking = sr.TrackingIdentifier(uid=generate_uid(), identifier=f"anymri {name}")
        return sr.MeasurementsAndQualitativeEvaluations(tracking_identifier=tracking, **content)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=segment.SegmentNumber,
            source_series=sr.SourceSeriesForSegmentation(series.series_uid),
        ),
        **content,
    )


def _segment(segmentation: Dataset | None, label: str) -> Dataset | None:
    """Return the description of the segment of a structure, None if the segmentation does not have it."""
    segments = () if segmentation is None else segmentation.SegmentSequence
    return next((each for each in segments if each.SegmentLabel == label), None)


def _numbers(measured: Measured) -> list[Measurement]:
    values: list[tuple[Code, float | None, Code, Code | None]] = [
        (VOLUME, measured.volume_ml, MILLILITRE, SUM_OF_VOXELS),
        (LONG_AXIS, measured.longest_mm, MILLIMETRE, None),
        (PERPENDICULAR_AXIS, measured.perpendicular_mm, MILLIMETRE, None),
    ]
    return [number_of(name, value, unit, method) for name, value, unit, method in values if value is not None]


def number_of(name: Code, value: float, unit: Code, method: Code | None = None, **more: Any) -> Measurement:
    """Return a measurement as a content item.

    more  further arguments of `highdicom.sr.Measurement`
    """
    from highdicom.sr import Measurement

    concept = None if method is None else method.concept()
    return Measurement(name=name.concept(), value=round(float(value), 4), unit=unit.concept(), method=concept, **more)


def report_of(groups: Sequence[Any]) -> MeasurementReport:
    """Return the content of a report (TID 1500) with these measurement groups; its author is this version."""
    from highdicom import sr
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=list(_DEVICE)),
        name=MODEL,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL,
        serial_number=__version__,
    )
    observer = sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=MRI.concept(),
        imaging_measurements=groups,
    )


def document_of(
    report: MeasurementReport,
    evidence: Sequence[Dataset],
    number: int,
    description: str = "brain tumour measurements",
    identity: str = "",
) -> Comprehensive3DSR:
    """Return the object of a report, whose patient and study are those of the first dataset of the evidence.

    number, description  of the new series
    identity             text from which its UIDs follow; by default they are new in every call
    """
    from highdicom.sr import Comprehensive3DSR
    from pydicom.uid import ExplicitVRLittleEndian

    uids = new_uids(identity, "report")
    return Comprehensive3DSR(
        evidence=evidence,
        content=report[0],
        series_instance_uid=uids[0],
        series_number=number,
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        series_description=f"Research: {description} (anymri)",
        is_complete=True,
        is_final=False,
        is_verified=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
