"""From DICOM files to MR series: find, group, check, sort and decode."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anymri.data.formats.checks import check_values
from anymri.data.image import Image
from anymri.errors import ImageError, InputWarning
from anymri.extras import need
from anymri.prepare.dicom import kinds
from anymri.prepare.dicom.frames import Frame, RefusedError, frames_of, volumes_of
from anymri.prepare.dicom.geometry import Stack, stack
from anymri.prepare.dicom.headers import Header, acquired, is_directory, number, read_header
from anymri.prepare.dicom.pixels import read_volume, same_pixels
from anymri.prepare.dicom.series import Series, title
from anymri.prepare.dicom.sources import find_sources
from anymri.prepare.dicom.studies import check_patients, choose_study, patient_key
from anymri.text import shortened

_MOST_NAMES = 3


@dataclass(frozen=True, eq=False)
class _Volume:
    """Frames of one volume before they are sorted; `part` as in `Series`."""

    frames: list[Frame]
    part: int

    @property
    def first(self) -> Header:
        return self.frames[0].header

    @property
    def title(self) -> str:
        return _title(self.first, self.part)


def read_dicom(
    source: Path, study: int | None = None, fewest_slices: int = kinds.FEWEST_SLICES
) -> tuple[list[Series], list[str]]:
    """Read the MR series of a folder, a file or a zip; also return a sentence about each series that is left out.

    source         folder (with the folders in it), single file, or zip, which is read in memory
    study          number from 1 of the study, in the order of their dates, where there are several
    fewest_slices  smaller volumes are left out as localisers
    returns        series in the order of their acquisition and number, with at least one

    Slices are sorted by their position, not by name or number. Localisers, computed maps, projections and objects other
    than MR are left out, and so are series with missing or unequally spaced slices. An `InputWarning` says what was
    repaired. Raises `ImageError` if a file is damaged or nothing remains, `CohortError` for scans of two patients or,
    without `study`, of two studies, `MissingExtraError` without pydicom.
    """
    need("dicom", "pydicom", purpose=f"Reading {source}")
    headers = _headers(source)
    mr = [header for header in headers if header.is_mr]
    left_out = _others(header for header in headers if not header.is_mr)
    check_patients((header.dataset for header in mr), str(source))
    volumes = _usable(mr, left_out, fewest_slices)
    if volumes:
        uids = [volume.first.text("StudyInstanceUID") for volume in volumes]
        moments = [volume.first.text("StudyDate") + volume.first.text("StudyTime") for volume in volumes]
        chosen = choose_study(uids, moments, study, source)
        volumes = [volume for volume, uid in zip(volumes, uids, strict=True) if uid == chosen]
    series = [one for volume in _originals(volumes, left_out) if (one := _series(volume, source, left_out))]
    if not series:
        reasons = " ".join(left_out[:4]) + " ..." * (len(left_out) > 4)
        raise ImageError(
            f"{source} has no MR series that can be used. {reasons}".strip(),
            "Give the original MR series of the brain.",
        )
    return sorted(series, key=_order), left_out


def _headers(source: Path) -> list[Header]:
    """Return the headers of all DICOM files; raise `ImageError` if one is damaged or there are none."""
    headers: list[Header] = []
    damaged: list[str] = []
    for file in find_sources(source):
        header = read_header(file)
        if header is not None:
            headers.append(header)
        elif not is_directory(file):
            damaged.append(file.name)
    if damaged:
        names = ", ".join(damaged[:_MOST_NAMES]) + ", ..." * (len(damaged) > _MOST_NAMES)
        raise ImageError(
            f"{len(damaged)} of {len(damaged) + len(headers)} DICOM files of {source} cannot be read, because they are "
            f"damaged or of an unusual encoding: {names}.",
            "Copy or export the series again, or remove these files if they are not images.",
        )
    if not headers:
        raise ImageError(f"{source} does not contain a DICOM file.", "Give the folder or zip of a DICOM study.")
    return _distinct(headers)


def _distinct(headers: Sequence[Header]) -> list[Header]:
    """Return one header per object; raise `ImageError` if two files claim to be one object and differ."""
    found: dict[str, Header] = {}
    copies = 0
    for place, header in enumerate(headers):
        uid = header.text("SOPInstanceUID") or f"file {place}"
        first = found.setdefault(uid, header)
        if first is not header:
            copies += 1
            if not _same_content(first, header):
                raise ImageError(
                    f"{first.source.name} and {header.source.name} have the same SOPInstanceUID, but differ.",
                    "Export the series again, and give a folder with one copy of each file.",
                )
    if copies:
        warnings.warn(
            f"{copies} DICOM file{'s are copies of others and are' if copies > 1 else ' is a copy of another and is'} "
            "not used.",
            InputWarning,
            stacklevel=4,
        )
    return list(found.values())


def _same_content(one: Header, other: Header) -> bool:
    """Return whether two files have the same bytes or, if they are images, the same pixels at one position."""
    with one.source.open() as first, other.source.open() as second:
        if first.read() == second.read():
            return True
    try:
        pairs = list(zip(frames_of(one), frames_of(other), strict=True))
    except (RefusedError, ValueError):
        return False
    return all(np.allclose(a.position, b.position, atol=1e-3) and same_pixels(a, b) for a, b in pairs)


def _others(headers: Iterable[Header]) -> list[str]:
    """Return sentences about the objects that are not MR images, by their kind."""
    counts = Counter((header.text("Modality"), header.text("SeriesInstanceUID")) for header in headers)
    kinds_found: dict[str, list[int]] = defaultdict(list)
    for (modality, _), count in counts.items():
        kinds_found["MR objects that are not images" if modality == "MR" else shortened(modality, 10)].append(count)
    return [
        f"{len(files)} series of {kind} ({sum(files)} file{'s' * (sum(files) > 1)}) left out: only MR images are read."
        for kind, files in sorted(kinds_found.items())
    ]


def _usable(headers: Sequence[Header], left_out: list[str], fewest: int) -> list[_Volume]:
    """Return the volumes that may be scans by their headers; append a sentence about each of the others."""
    found: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        found[header.text("SeriesInstanceUID")].append(header)
    usable: list[_Volume] = []
    for members in found.values():
        name = _title(members[0])
        try:
            parts = volumes_of([frame for header in members for frame in frames_of(header)])
            kinds.check_volumes(parts)
        except RefusedError as error:
            left_out.append(_sentence(name, error))
            continue
        for place, frames in enumerate(parts, 1):
            volume = _Volume(frames, place if len(parts) > 1 else 0)
            try:
                kinds.check_kind(frames)
                kinds.check_slices(frames, fewest)
            except RefusedError as error:
                left_out.append(_sentence(volume.title, error))
            else:
                usable.append(volume)
    return usable


def _originals(volumes: Sequence[_Volume], left_out: list[str]) -> list[_Volume]:
    """Return the volumes without those that were reformatted from another one of them."""
    originals = {kinds.source_key(volume.frames) for volume in volumes if not kinds.is_reformatted(volume.frames)}
    kept = []
    for volume in volumes:
        if kinds.is_reformatted(volume.frames) and kinds.source_key(volume.frames) in originals:
            left_out.append(_sentence(volume.title, "it was reformatted from another series, which is used"))
        else:
            kept.append(volume)
    return kept


def _series(volume: _Volume, source: Path, left_out: list[str]) -> Series | None:
    """Return the series of a volume; None, with a sentence, if its geometry or values cannot be used."""
    try:
        sorted_slices = stack(volume.frames, same_pixels)
    except RefusedError as error:
        left_out.append(_sentence(volume.title, error))
        return None
    array = read_volume(sorted_slices.frames)
    first = sorted_slices.frames[0].header.source.file
    check_values(first, array)
    if array.min() == array.max():
        left_out.append(_sentence(volume.title, f"it has the value {array.flat[0]:g} in every voxel"))
        return None
    for note in sorted_slices.notes:
        warnings.warn(f"{source}: {volume.title} {note}.", InputWarning, stacklevel=3)
    return _described(volume, sorted_slices, Image(array, sorted_slices.affine, first))


def _described(volume: _Volume, slices: Stack, image: Image) -> Series:
    headers = list({id(frame.header): frame.header for frame in slices.frames}.values())
    several = any(header.frames > 1 for header in headers)
    first = headers[0]
    series_number = number(first.dataset, "SeriesNumber")
    one = Series(
        image=image,
        headers=tuple(header.dataset for header in headers),
        files=tuple(dict.fromkeys(header.source.file for header in headers)),
        frames=tuple(frame.index for frame in slices.frames) if several else None,
        description=_description(first),
        number=None if series_number is None else int(series_number),
        part=volume.part,
        series_uid=first.text("SeriesInstanceUID"),
        study_uid=first.text("StudyInstanceUID"),
        frame_of_reference_uid=first.text("FrameOfReferenceUID"),
        patient_key=patient_key(first.dataset),
        acquired=min(moments) if (moments := [m for h in headers if (m := acquired(h.dataset))]) else None,
    )
    return replace(one, notes=tuple(f"{one.title} {note}." for note in slices.notes))


def _description(header: Header) -> str:
    return header.text("SeriesDescription") or header.text("ProtocolName")


def _title(header: Header, part: int = 0) -> str:
    series_number = number(header.dataset, "SeriesNumber")
    return title(None if series_number is None else int(series_number), _description(header), part)


def _sentence(name: str, reason: object) -> str:
    return f"{name[0].upper()}{name[1:]} left out: {reason}."


def _order(series: Series) -> tuple[str, float, int]:
    moment = "9" if series.acquired is None else series.acquired.isoformat()
    return moment, np.inf if series.number is None else series.number, series.part
