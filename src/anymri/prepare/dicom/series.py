"""A series: one MR volume with its headers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from anymri.data.image import Image

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Series:
    """One MR volume: a series, or one part of a series that holds several volumes.

    image    voxels (x, y, z): x is the column, y the row, z the slice in the direction of the normal of the slices;
             `path` is the first file, or the zip
    headers  datasets without pixels in the order of the slices; one for a multi-frame file
    files    files on disk in the order of the slices; one for a multi-frame file and for a zip
    frames   numbers from 0 of the frames that are the slices, in their order; None without multi-frame file
    description            SeriesDescription, or else ProtocolName
    number                 SeriesNumber; None if it is missing
    part                   number from 1 of the volume in a series that holds several; 0 if it is the only one
    series_uid             SeriesInstanceUID
    study_uid              StudyInstanceUID
    frame_of_reference_uid FrameOfReferenceUID; empty if it is missing
    patient_key            keyed hash of the patient's identifiers, which is different in every process
    acquired               when the series was acquired, local time; None if unknown
    notes                  sentences about repairs and geometry, which were also given as `InputWarning`
    """

    image: Image
    headers: tuple[Dataset, ...] = field(repr=False)
    files: tuple[Path, ...] = field(repr=False)
    frames: tuple[int, ...] | None = field(repr=False)
    description: str
    number: int | None
    part: int
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    patient_key: str = field(repr=False)
    acquired: datetime | None = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name of the series in sentences: `series 5 (t1_mprage_sag)`."""
        return title(self.number, self.description, self.part)


def title(number: int | None, description: str, part: int = 0) -> str:
    """Return the name of a series in sentences, with unusual characters visible and at most about 60 long."""
    from anymri.text import shortened

    name = "series without number" if number is None else f"series {number}"
    name += f", volume {part}," if part else ""
    return f"{name} ({shortened(description, 50)})" if description else name
