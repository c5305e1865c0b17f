"""Headers of DICOM files: elements are read so that damaged or unusual values count as missing."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.prepare.dicom.sources import Source

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_DIRECTORY = b"1.2.840.10008.1.3.10"
# The part of a file that says what it is and how it is encoded is at its beginning.
_META_BYTES = 1024
MR_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4",  # MR image
    "1.2.840.10008.5.1.4.1.1.4.1",  # enhanced MR image
    "1.2.840.10008.5.1.4.1.1.4.4",  # legacy converted enhanced MR image
}
# Where enhanced files have the values that other files have at the top: keyword -> (sequence, keyword there).
_GROUPS = {
    "ImagePositionPatient": (("PlanePositionSequence", "ImagePositionPatient"),),
    "ImageOrientationPatient": (("PlaneOrientationSequence", "ImageOrientationPatient"),),
    "PixelSpacing": (("PixelMeasuresSequence", "PixelSpacing"),),
    "SliceThickness": (("PixelMeasuresSequence", "SliceThickness"),),
    "RescaleSlope": (("PixelValueTransformationSequence", "RescaleSlope"),),
    "RescaleIntercept": (("PixelValueTransformationSequence", "RescaleIntercept"),),
    "EchoTime": (("MREchoSequence", "EffectiveEchoTime"),),
    "RepetitionTime": (("MRTimingAndRelatedParametersSequence", "RepetitionTime"),),
    "FlipAngle": (("MRTimingAndRelatedParametersSequence", "FlipAngle"),),
    "InversionTime": (("MRModifierSequence", "InversionTimes"),),
    "ImageType": (("MRImageFrameTypeSequence", "FrameType"),),
    "TemporalPositionIdentifier": (("FrameContentSequence", "TemporalPositionIndex"),),
    "StackID": (("FrameContentSequence", "StackID"),),
    "DiffusionBValue": (("MRDiffusionSequence", "DiffusionBValue"),),
}


@dataclass(frozen=True, eq=False)
class Header:
    """The header of one DICOM file.

    source   the file
    dataset  its elements, without pixels
    """

    source: Source
    dataset: Dataset

    def text(self, keyword: str) -> str:
        """Return an element as text without spaces around it; empty if it is missing or damaged."""
        return text_of(self.dataset, keyword)

    @property
    def is_mr(self) -> bool:
        """Whether the file is an MR image, in one of the forms that anymri reads."""
        kind = self.text("SOPClassUID")
        return self.text("Modality") == "MR" and (kind in MR_CLASSES or not kind)

    @property
    def frames(self) -> int:
        """Number of images in the file."""
        count = numbers_of(self.dataset, "NumberOfFrames", 1)
        return 1 if count is None else int(count[0])


def read_header(source: Source) -> Header | None:
    """Return the header of a file; None if it cannot be parsed, is cut off before the pixels, or is deflated."""
    from pydicom import dcmread

    with source.open() as stream:
        # pydicom would decompress the whole of a deflated file, however large that is.
        if _DEFLATED in stream.read(_META_BYTES):
            return None
        stream.seek(0)
        try:
            with quiet():
                dataset = dcmread(stream, stop_before_pixels=True, force=True)
            has_pixels = bool(stream.read(1))
            dataset.buffer = None  # the closed stream of an archive, with which it could not be sent to a process
        except Exception:  # noqa: BLE001 (damaged files make pydicom raise nearly every class there is)
            return None
    header = Header(source, dataset)
    is_whole = header.text("SeriesInstanceUID") and header.text("Modality") and (has_pixels or not header.is_mr)
    return header if is_whole else None


def is_directory(source: Source) -> bool:
    """Return whether a file is a directory of media under another name than DICOMDIR."""
    with source.open() as stream:
        return _DIRECTORY in stream.read(_META_BYTES)


@contextmanager
def quiet() -> Iterator[None]:
    """Context without the notes of pydicom, which quote values of headers, identifiers of patients among them."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an element, or None if it is missing, empty or cannot be decoded."""
    try:
        with quiet():
            value = dataset.get(keyword)
    except Exception:  # noqa: BLE001 (see read_header)
        return None
    return None if value is None or value == "" else value


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return an element as text, several values joined by backslashes; empty if it is missing."""
    value = value_of(dataset, keyword)
    if value is None:
        return ""
    many = not isinstance(value, (str, bytes)) and hasattr(value, "__iter__") and not hasattr(value, "family_name")
    return "\\".join(str(part).strip() for part in value) if many else str(value).strip(" \0")


def numbers_of(dataset: Dataset, keyword: str, count: int) -> NDArray[np.float64] | None:
    """Return an element of `count` finite numbers, None if it is anything else."""
    value = value_of(dataset, keyword)
    try:
        found = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def frame_dataset(dataset: Dataset, frame: int, keyword: str) -> tuple[Dataset, str]:
    """Return where the value of one frame is: a functional group of the frame, a shared one, or the top of the file.

    frame  number of the frame, from 0
    """
    for sequence, inside in _GROUPS.get(keyword, ()):
        for groups in _groups(dataset, frame):
            items = value_of(groups, sequence)
            if items and value_of(items[0], inside) is not None:
                return items[0], inside
    return dataset, keyword


def _groups(dataset: Dataset, frame: int) -> Iterator[Dataset]:
    own, shared = (value_of(dataset, f"{name}FunctionalGroupsSequence") for name in ("PerFrame", "Shared"))
    if own and frame < len(own):
        yield own[frame]
    if shared:
        yield shared[0]


def frame_numbers(dataset: Dataset, frame: int, keyword: str, count: int) -> NDArray[np.float64] | None:
    """Return `count` numbers of one frame, see `frame_dataset`; None if they are missing or not finite."""
    return numbers_of(*frame_dataset(dataset, frame, keyword), count)


def frame_text(dataset: Dataset, frame: int, keyword: str) -> str:
    """Return the text of one frame, see `frame_dataset`; empty if it is missing."""
    return text_of(*frame_dataset(dataset, frame, keyword))


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return the first of the numbers of an element of the first frame, for example EchoTime in ms, or None."""
    holder, inside = frame_dataset(dataset, 0, keyword)
    text = text_of(holder, inside).split("\\")[0]
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def acquired(dataset: Dataset) -> datetime | None:
    """Return when the images were acquired, as far as the header says."""
    moments = [text_of(dataset, "AcquisitionDateTime")]
    for kind in ("Acquisition", "Series", "Content", "Study"):
        date, time = text_of(dataset, f"{kind}Date"), text_of(dataset, f"{kind}Time")
        moments.append(date + time if date and time else "")
    for moment in moments:
        digits = moment.split(".")[0].split("+")[0]
        try:
            return datetime.strptime(digits[:14], "%Y%m%d%H%M%S")  # DICOM states local time
        except ValueError:
            continue
    return None
