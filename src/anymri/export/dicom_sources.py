"""The images that a DICOM object was made from: what it copies from their headers, and how it refers to them.

Headers of hospitals lack elements or have values that the standard does not allow. So the objects are made from small
datasets that have only what they need, in valid form.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.errors import ImageError
from anymri.prepare.dicom.headers import frame_numbers, number, quiet, text_of, value_of
from anymri.prepare.dicom.series import Series

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
UTF_8 = "ISO_IR 192"
# A slice of a multi-frame file is recognised by its position; slices are never nearer to each other than this.
_SAME_POSITION_MM = 0.5
# Elements that every object has, empty where they are unknown.
_STUDY = ("StudyDate", "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName")
_NEVER_MISSING = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", *_STUDY)
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_SEXES = ("M", "F", "O")
# Groups of the patient, and of clinical trials and de-identification.
_PATIENT_GROUPS = (0x0010, 0x0012)
_ADVICE = "Use the label map in NIfTI instead, or give the series as the scanner wrote it."


@dataclass(frozen=True)
class Reference:
    """One slice as others refer to it.

    sop_class     SOPClassUID of its file
    sop_instance  SOPInstanceUID of its file
    frame         number of the frame from 1; None for a file with one image
    """

    sop_class: str
    sop_instance: str
    frame: int | None


def references(series: Series) -> list[Reference]:
    """Return one reference per slice of a series, in the order of the slices; raise `ImageError` without UIDs."""
    found = [Reference(_uid(h, "SOPClassUID", series), _uid(h, "SOPInstanceUID", series), None) for h in series.headers]
    if series.frames is None:
        return found
    return [
        Reference(found[place].sop_class, found[place].sop_instance, frame + 1)
        for place, frame in zip(_files_of_slices(series), series.frames, strict=True)
    ]


def slice_datasets(series: Series) -> list[Dataset]:
    """Return one dataset per slice, as if each were a file of its own, with geometry, patient and study.

    A slice of a multi-frame file has the SOPClassUID of single images and a SOPInstanceUID that no file has; see
    `references` for those of the file. The patient is that of the first file.
    """
    common = _common(series)
    places = _files_of_slices(series)
    frames = series.frames or (0,) * len(places)
    datasets = []
    for place, frame, reference in zip(places, frames, references(series), strict=True):
        is_file = reference.frame is None and reference.sop_class == MR_IMAGE
        uid = reference.sop_instance if is_file else _new_uid()
        position = decimals(_geometry(series, place, frame, "ImagePositionPatient", 3))
        datasets.append(_with(common, SOPInstanceUID=uid, ImagePositionPatient=position))
    return datasets


def source_files(series: Series) -> list[Dataset]:
    """Return one dataset per file of a series, with its UIDs, patient and study: the evidence of a report."""
    common = _common(series)
    files = {one.sop_instance: one.sop_class for one in references(series)}
    return [_with(common, SOPInstanceUID=uid, SOPClassUID=sop_class) for uid, sop_class in files.items()]


def _common(series: Series) -> Dataset:
    """Return the elements that all slices of a series share."""
    from pydicom.dataset import Dataset

    first, frame = series.headers[0], (series.frames or (0,))[0]
    dataset = Dataset()
    dataset.SpecificCharacterSet = UTF_8
    for keyword, value in [*_patient(first), *_valid(first, (*_STUDY, "StudyDescription", *_LOSSY))]:
        setattr(dataset, keyword, value)
    for keyword in _NEVER_MISSING:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    if dataset.PatientSex not in _SEXES:
        dataset.PatientSex = ""
    if dataset.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethod" not in dataset:
        dataset.DeidentificationMethod = "That of the source images"
    dataset.SOPClassUID, dataset.Modality = MR_IMAGE, "MR"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        setattr(dataset, keyword, _uid(first, keyword, series))
    # highdicom needs a frame of reference; `write_seg` removes one that the series does not have.
    dataset.FrameOfReferenceUID = series.frame_of_reference_uid or _new_uid()
    dataset.PositionReferenceIndicator = ""
    dataset.Columns, dataset.Rows, _ = series.image.shape
    dataset.ImageOrientationPatient = decimals(_geometry(series, 0, frame, "ImageOrientationPatient", 6))
    dataset.PixelSpacing = decimals(_geometry(series, 0, frame, "PixelSpacing", 2))
    distance = round(slice_distance_mm(series), 6)
    dataset.SpacingBetweenSlices = decimals([distance])[0]
    thickness = number(first, "SliceThickness")
    dataset.SliceThickness = decimals([thickness if thickness and thickness > 0 else distance])[0]
    return dataset


def slice_distance_mm(series: Series) -> float:
    """Return the distance between neighbouring slices along their normal, also of a tilted stack."""
    x, y, z = series.image.affine[:3, :3].T
    normal = np.cross(x, y)
    return float(abs(z @ normal) / np.linalg.norm(normal))


def decimals(values: Sequence[float] | NDArray[np.float64]) -> list[Any]:
    """Return numbers as decimal strings of DICOM, which have at most 16 characters."""
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(value), auto_format=True) for value in values]


def _files_of_slices(series: Series) -> list[int]:
    """Return the place in `series.headers` of the file of each slice."""
    if series.frames is None or len(series.headers) == 1:
        return [0] * len(series.frames) if series.frames else list(range(len(series.headers)))
    places = []
    for index, frame in enumerate(series.frames):
        x, y, z, _ = series.image.affine @ (0, 0, index, 1)
        found = [frame_numbers(header, frame, "ImagePositionPatient", 3) for header in series.headers]
        distances = [np.inf if one is None else float(np.linalg.norm(one - (-x, -y, z))) for one in found]
        places.append(int(np.argmin(distances)))
        if min(distances) > _SAME_POSITION_MM:
            raise ImageError(f"The files of {series.title} do not state where slice {index + 1} is.", _ADVICE)
    return places


def _geometry(series: Series, place: int, frame: int, keyword: str, count: int) -> NDArray[np.float64]:
    values = frame_numbers(series.headers[place], frame, keyword, count)
    if values is None:
        raise ImageError(f"{series.title} lacks {keyword}, so that a DICOM object cannot refer to it.", _ADVICE)
    return values


def _uid(header: Dataset, keyword: str, series: Series) -> str:
    text = text_of(header, keyword)
    if not text:
        raise ImageError(f"{series.title} lacks {keyword}, so that a DICOM object cannot refer to it.", _ADVICE)
    return text


def _patient(header: Dataset) -> Iterator[tuple[str, Any]]:
    """Return keyword and value of the elements of the patient, without nested ones."""
    with quiet():
        elements = [element for group in _PATIENT_GROUPS for element in header.group_dataset(group)]
    return _valid(header, [element.keyword for element in elements if element.keyword and element.VR != "SQ"])


def _valid(header: Dataset, keywords: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield keyword and value of the elements that have a value which the standard allows."""
    from pydicom import config
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataelem import DataElement
    from pydicom.valuerep import PersonName

    for keyword in keywords:
        value = value_of(header, keyword)
        if value is None:
            continue
        if isinstance(value, PersonName):
            value = str(value)  # it is encoded anew, because the object has a character set of its own
        tag = tag_for_keyword(keyword)
        try:
            with quiet():
                DataElement(tag or 0, dictionary_VR(keyword), value, validation_mode=config.RAISE)
        except (ValueError, TypeError, OverflowError, AttributeError):
            continue
        yield keyword, value


def _with(dataset: Dataset, **elements: Any) -> Dataset:
    """Return a dataset with other values of some elements; the others are shared."""
    from pydicom.dataset import Dataset

    new, copy = Dataset(), Dataset()
    for keyword, value in elements.items():
        setattr(new, keyword, value)
    copy.update(dataset)
    copy.update(new)
    return copy


def _new_uid() -> str:
    from pydicom.uid import generate_uid

    return str(generate_uid())


def new_uids(identity: str, kind: str) -> tuple[str, str]:
    """Return the UIDs of a new series and of its object.

    identity  text from which they follow, together with `kind`; empty for UIDs that no other object has
    """
    from pydicom.uid import generate_uid

    if not identity:
        return _new_uid(), _new_uid()
    series, sop_instance = (str(generate_uid(entropy_srcs=[kind, part, identity])) for part in ("series", "object"))
    return series, sop_instance


@contextmanager
def silent() -> Iterator[None]:
    """Context without the notes of highdicom and pydicom, which quote names of patients."""
    logger = logging.getLogger("highdicom")
    handler, before = logging.NullHandler(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with quiet():
            yield
    finally:
        logger.propagate = before
        logger.removeHandler(handler)
