"""Writer of MR series in DICOM for tests: a volume becomes slices, or one enhanced multi-frame file.

The study, the frame of reference and all other UIDs follow from the arguments, so that two calls for one patient write
two series of one study in one frame of reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prepare.dicom.axes import in_plane, rotated, sheared

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["in_plane", "rotated", "sheared", "write_series"]

# What an enhanced file has in a functional group: keyword -> (sequence, keyword there).
_GROUPS = {
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
}


def write_series(
    folder: Path,
    array: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    description: str = "",
    study_uid: str | None = None,
    series_number: int = 1,
    frame_of_reference_uid: str | None = None,
    patient_id: str = "P1",
    reverse: bool = False,
    shuffle: bool = False,
    multiframe: bool = False,
    compression: str | None = None,
    headers: Mapping[str, Any] = {},
) -> list[Path]:
    """Write a volume as one MR series and return its files in the order of the slices.

    folder       created if needed; files of other series stay
    array        (x, y, z): x is the column, y the row, z the slice; values that are not whole numbers are scaled
    affine       (4, 4): voxel indices to RAS+ mm
    reverse      number the slices (InstanceNumber, names of the files) or frames from the last to the first
    shuffle      give the files names in an order that has nothing to do with the slices
    multiframe   one enhanced MR file in place of one file per slice
    compression  "rle", "jpeg2000" or None
    headers      keyword -> value, which replaces that of every slice; None removes the element
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored, slope = _stored(array)
    general = _general(description, study_uid, series_number, frame_of_reference_uid, patient_id, slope)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    if multiframe:
        if reverse:
            last = np.eye(4)
            last[2, 2:] = -1, stored.shape[2] - 1
            stored, lps = stored[..., ::-1], lps @ last
        dataset = _multiframe(general, stored, lps, slope, headers)
        file = folder / f"s{series_number:03d}_frames.dcm"
        _save(dataset, file, compression)
        return [file]
    count = stored.shape[2]
    names = np.random.default_rng(series_number).permutation(count) if shuffle else np.arange(count)
    files = []
    for index in range(count):
        number = count - index if reverse else index + 1
        dataset = _slice(general, stored[..., index], lps, index, number)
        _replace(dataset, headers)
        files.append(folder / f"s{series_number:03d}_{names[number - 1]:04d}.dcm")
        _save(dataset, files[-1], compression)
    return files


def _stored(array: NDArray[Any]) -> tuple[NDArray[np.int16], float]:
    """Return a volume as int16 and the factor that restores its values."""
    whole = np.rint(array)
    slope = 1.0 if np.array_equal(whole, array) else float(np.abs(array).max()) / 32000
    stored = np.rint(array / slope)
    return stored.astype(np.int16), slope


def _general(
    description: str,
    study_uid: str | None,
    series_number: int,
    frame_of_reference_uid: str | None,
    patient_id: str,
    slope: float,
) -> Dataset:
    """Return the elements that all files of a series share."""
    from pydicom.dataset import Dataset
    from pydicom.uid import MRImageStorage, generate_uid

    study = study_uid or generate_uid(entropy_srcs=["study", patient_id])
    general = Dataset()
    general.SOPClassUID = MRImageStorage
    general.Modality = "MR"
    general.Manufacturer = "anymri"
    general.ManufacturerModelName = "phantom"
    general.PatientName, general.PatientID = f"Phantom^{patient_id}", patient_id
    general.PatientBirthDate, general.PatientSex = "19700101", "O"
    general.StudyInstanceUID = study
    general.SeriesInstanceUID = generate_uid(entropy_srcs=["series", study, str(series_number)])
    general.FrameOfReferenceUID = frame_of_reference_uid or generate_uid(entropy_srcs=["frame", patient_id])
    general.PositionReferenceIndicator = ""
    general.StudyDate = general.SeriesDate = general.AcquisitionDate = general.ContentDate = "20200102"
    general.StudyTime = general.SeriesTime = general.ContentTime = "101500"
    general.AcquisitionTime = f"10{15 + series_number % 40:02d}00"
    general.StudyID, general.AccessionNumber, general.ReferringPhysicianName = "1", "", ""
    general.SeriesNumber, general.SeriesDescription = series_number, description
    general.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    general.MRAcquisitionType, general.MagneticFieldStrength = "3D", 3
    general.SamplesPerPixel, general.PhotometricInterpretation = 1, "MONOCHROME2"
    general.BitsAllocated = general.BitsStored = 16
    general.HighBit, general.PixelRepresentation = 15, 1
    if slope != 1:
        general.RescaleSlope, general.RescaleIntercept, general.RescaleType = _ds(slope), 0, "US"
    return general


def _slice(general: Dataset, pixels: NDArray[np.int16], lps: NDArray[np.float64], index: int, number: int) -> Dataset:
    """Return the dataset of one slice; `pixels` are (x, y)."""
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    dataset = Dataset()
    dataset.update(general)
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[general.SeriesInstanceUID, str(index)])
    dataset.InstanceNumber, dataset.AcquisitionNumber = number, 1
    dataset.Columns, dataset.Rows = pixels.shape
    dataset.ImagePositionPatient = list(map(_ds, lps[:3, 2] * index + lps[:3, 3]))
    dataset.ImageOrientationPatient, dataset.PixelSpacing = _orientation(lps), _spacing(lps)
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _ds(_distance(lps))
    dataset.PixelData = np.ascontiguousarray(pixels.T).tobytes()
    return dataset


def _multiframe(
    general: Dataset, stored: NDArray[np.int16], lps: NDArray[np.float64], slope: float, headers: Mapping[str, Any]
) -> Dataset:
    """Return the dataset of an enhanced file with all slices of a volume (x, y, z)."""
    from pydicom.dataset import Dataset
    from pydicom.uid import EnhancedMRImageStorage, generate_uid

    dataset = Dataset()
    dataset.update(general)
    for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
        dataset.pop(keyword, None)
    dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[general.SeriesInstanceUID, "frames"])
    dataset.InstanceNumber = 1
    dataset.Columns, dataset.Rows, dataset.NumberOfFrames = stored.shape
    measures = _item(PixelSpacing=_spacing(lps), SliceThickness=_ds(_distance(lps)))
    shared = _item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[_item(ImageOrientationPatient=_orientation(lps))],
        PixelValueTransformationSequence=[_item(RescaleIntercept=0, RescaleSlope=_ds(slope), RescaleType="US")],
    )
    outside = {keyword: value for keyword, value in headers.items() if keyword not in _GROUPS}
    for keyword, value in headers.items():
        if keyword in _GROUPS and value is not None:
            sequence, inside = _GROUPS[keyword]
            if sequence not in shared:
                setattr(shared, sequence, [Dataset()])
            setattr(getattr(shared, sequence)[0], inside, value)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _item(
            FrameContentSequence=[
                _item(StackID="1", InStackPositionNumber=index + 1, DimensionIndexValues=[index + 1])
            ],
            PlanePositionSequence=[_item(ImagePositionPatient=list(map(_ds, lps[:3, 2] * index + lps[:3, 3])))],
        )
        for index in range(stored.shape[2])
    ]
    _replace(dataset, outside)
    dataset.PixelData = np.ascontiguousarray(stored.T).tobytes()
    return dataset


def _item(**elements: Any) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _replace(dataset: Dataset, headers: Mapping[str, Any]) -> None:
    for keyword, value in headers.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)


def _save(dataset: Dataset, file: Path, compression: str | None) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

    if compression == "jpeg2000":
        import pytest  # benchmarks/extras.py writes series without it

        openjpeg = pytest.importorskip("openjpeg")
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if compression == "rle":
        dataset.compress(RLELossless, generate_instance_uid=False)
    elif compression == "jpeg2000":
        # pydicom would need the package pylibjpeg for it, beside its plugin.
        frames = np.frombuffer(dataset.PixelData, np.int16).reshape(-1, dataset.Rows, dataset.Columns)
        dataset.PixelData = encapsulate(
            [openjpeg.encode(np.ascontiguousarray(frame), bits_stored=16) for frame in frames]
        )
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(file, enforce_file_format=True)


def _orientation(lps: NDArray[np.float64]) -> list[Any]:
    axes = lps[:3, :2] / np.linalg.norm(lps[:3, :2], axis=0)
    return list(map(_ds, axes.T.ravel()))


def _spacing(lps: NDArray[np.float64]) -> list[Any]:
    """Return PixelSpacing: the distance of the rows, then that of the columns."""
    return list(map(_ds, np.linalg.norm(lps[:3, :2], axis=0)[::-1]))


def _distance(lps: NDArray[np.float64]) -> float:
    """Return the distance of the slices along their normal."""
    normal = np.cross(lps[:3, 0], lps[:3, 1])
    return abs(float(lps[:3, 2] @ normal)) / float(np.linalg.norm(normal))


def _ds(value: float) -> Any:
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value), auto_format=True)
