"""Search for the scans of one patient in a folder, a file or a zip archive, with images and DICOM in any mix."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from anymri.data.case import Case, check_name
from anymri.data.image import image_stem
from anymri.data.layouts import find_cases, find_cohort, search
from anymri.data.layouts.found import NO_IMAGE, NOT_UNDERSTOOD, OTHER_FORMAT, counted
from anymri.data.layouts.listing import check_readable
from anymri.data.layouts.names import folder_name, role_of_name, unclear_name
from anymri.data.layouts.roles import Unclear
from anymri.errors import AnymriError, CohortError, ImageError
from anymri.modalities import MODALITIES
from anymri.prepare.candidates import Candidate, named, of_image, of_series, several_candidates
from anymri.prepare.dicom.archive import Archive
from anymri.prepare.dicom.sources import find_sources

if TYPE_CHECKING:
    from anymri.prepare.dicom import Series

# First bytes of a zip archive.
_ZIP = b"PK\x03\x04"


@dataclass
class Found:
    """Scans that were found, and what belongs to them.

    name        name of the case
    candidates  images and series that may be scans
    label       label map
    brain_mask  mask of the brain
    left_out    sentences about what is not used
    """

    name: str
    candidates: list[Candidate] = field(default_factory=list)
    label: Path | None = None
    brain_mask: Path | None = None
    left_out: list[str] = field(default_factory=list)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield a folder with the image files of a zip archive, which is deleted afterwards; yield another path unchanged.

    DICOM files of an archive are read in memory, see `anymri.prepare.dicom`, and are not in the folder. Raises
    `ImageError` for an archive that is damaged, encrypted, expands to too much, or has entries that lead out of it.
    Errors and warnings about the files name the archive in place of the folder.
    """
    if not is_zip(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="anymri-") as temporary:
        folder = Path(temporary) / (path.stem.strip(". ") or "case")
        _unpack(path, folder)
        with _named(folder, path):
            yield folder


def _unpack(path: Path, folder: Path) -> None:
    """Write the image files of an archive into a new folder."""
    archive = Archive(path)
    folder.mkdir()
    try:
        for entry in archive.entries:
            if image_stem(Path(entry)) is not None or Path(entry).suffix.lower() in (".raw", ".zraw"):
                file = folder / entry
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as target:
                    target.writelines(archive.blocks(entry))
    except OSError as error:
        raise ImageError(
            f"{path} cannot be unpacked to {tempfile.gettempdir()}: {error.strerror}.",
            "Unpack it with another program, and give the folder; or free space there.",
        ) from error
    finally:
        archive.close()


@contextmanager
def _named(folder: Path, archive: Path) -> Iterator[None]:
    """Context in which errors and warnings about files in a temporary folder name the archive that they are from."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield
    except AnymriError as error:
        fix = error.fix
        if str(folder) in fix:  # the folder does not exist any more when the user reads it
            fix = f"Unpack the archive. {fix.replace(str(folder), str(archive.with_suffix('')))}"
        raise type(error)(error.what.replace(str(folder), str(archive)), fix) from error
    finally:
        for each in caught:
            text = str(each.message).replace(str(folder), str(archive))
            warnings.warn_explicit(text, each.category, each.filename, each.lineno)


def is_zip(path: Path) -> bool:
    """Return whether a path is a zip archive, by its content."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_ZIP)) == _ZIP


def in_place(place: Path, folder: Path, dicom_study: int | None) -> Found:
    """Return what is in a folder, file or zip archive.

    place        what the user named
    folder       the same, or the folder with the images of a zip archive
    dicom_study  number of the DICOM study to use

    Raises `CohortError` if there is no scan, or if there are several cases.
    """
    if folder == place and not place.is_dir():
        return _in_file(place, dicom_study)
    names = search(folder)
    if len(names.cases) > 1:
        cases = counted([case.name for case in names.cases])
        raise CohortError(f"{place} holds several cases: {cases}.", "Give the folder of one case.")
    series, left_out = series_in(place, dicom_study)
    if series:
        for reason in (OTHER_FORMAT, NO_IMAGE):
            names.skipped.pop(reason, None)
    candidates = of_series(series)
    silent = names.skipped.get(NOT_UNDERSTOOD, [])
    if not (candidates or names.cases):
        if not silent:
            find_cohort(folder)  # raises the error that says what is missing
        names.skipped.pop(NOT_UNDERSTOOD)
        candidates = [of_image(folder / each) for each in silent]
    names.warn()
    if names.cases:
        (case,) = names.cases
        found = _of_case(case)
        return Found(case.name, found.candidates + candidates, case.label, case.brain_mask, left_out)
    return Found(_name_of(place), candidates, left_out=left_out)


def series_in(place: Path, dicom_study: int | None) -> tuple[list[Series], list[str]]:
    """Return the DICOM series in a folder, file or zip archive, and sentences about series that are left out.

    Both are empty where there is no DICOM. Raises `MissingExtraError` without pydicom.
    """
    if next(find_sources(place), None) is None:
        return [], []
    from anymri.extras import need
    from anymri.prepare.dicom import read_dicom

    need("dicom", "pydicom", purpose=f"Reading the DICOM files in {place}")
    return read_dicom(place, study=dicom_study)


def _in_file(path: Path, dicom_study: int | None) -> Found:
    if path.suffix.lower() == ".csv":
        cases = find_cases(path)
        if len(cases) > 1:
            names = counted([case.name for case in cases])
            raise CohortError(f"{path} holds several cases: {names}.", "Give the folder of one case.")
        return _of_case(cases[0])
    stem = image_stem(path)
    if stem is None:
        series, left_out = series_in(path, dicom_study)
        return Found(_name_of(path), of_series(series), left_out=left_out)
    check_readable(path)
    role = role_of_name(stem)
    if isinstance(role, Unclear):
        raise unclear_name(path, role)
    return Found(_name_of(path), [named(role, path) if role in MODALITIES else of_image(path)])


def as_given(modality: str, path: Path, dicom_study: int | None) -> Candidate:
    """Return the scan that the user named for a modality: an image file, DICOM folder, DICOM file or zip archive.

    A DICOM file stands for its series, which is read from its folder. Raises `ImageError` if there is no scan, and
    `ModalityError` if there are several series and not one of them is surely of this modality.
    """
    if image_stem(path) is not None:
        check_readable(path, f" ({modality})")
        return named(modality, path)
    if not path.exists():
        raise ImageError(f"{path} ({modality}) does not exist.", "Check the name, or omit the modality.")
    is_slice = path.is_file() and not is_zip(path)
    series, _ = series_in(path.parent if is_slice else path, dicom_study)
    if is_slice:
        series = [each for each in series if path in each.files]
    candidates = of_series(series)
    if not candidates:
        raise ImageError(
            f"{path} ({modality}) does not have a DICOM series that can be used.",
            "Give an image file, or the DICOM files of a series: a folder, a zip archive or one of the files.",
        )
    if len(candidates) > 1:
        candidates = [each for each in candidates if each.is_sure and each.modality == modality] or candidates
    if len(candidates) > 1:
        raise several_candidates(modality, candidates)
    return replace(candidates[0], modality=modality, confidence=1.0)


def _of_case(case: Case) -> Found:
    candidates = [named(modality, path) for modality, path in case.scans.items()]
    return Found(case.name, candidates, case.label, case.brain_mask)


def name_of_scans(scans: Iterable[Path]) -> str:
    """Return the name of the folder in which the scans of a case are, for scans that the user names one by one.

    It is the deepest folder that holds all of them, or `case` if its name cannot be that of a case.
    """
    try:
        return _name_of(Path(os.path.commonpath([scan.parent.absolute() for scan in scans])))
    except ValueError:  # on several drives
        return "case"


def _name_of(place: Path) -> str:
    """Return the name of a folder or file, without suffix, if it can be that of a case; otherwise `case`."""
    name = folder_name(place) if place.is_dir() else image_stem(place) or place.stem
    try:
        check_name(name)
    except CohortError:
        return "case"
    return name
