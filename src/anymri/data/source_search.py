"""Search for the sources of a cohort: cases of the layouts, and raw studies beside them."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path

from anymri.data.case import Case, check_distinct
from anymri.data.layouts import bids, find_cases, nnunet, search
from anymri.data.layouts import found as reasons
from anymri.data.layouts.found import Found
from anymri.data.layouts.listing import list_folder
from anymri.data.layouts.names import folder_name
from anymri.data.sources import Source
from anymri.errors import AnymriError, CohortError, InputWarning

# Files of a folder that are examined for a DICOM series.
_EXAMINED = 200
_MAGIC_AT, _MAGIC = 128, b"DICM"


def find_sources(cohort: Path) -> list[Source]:
    """Return the sources in a cohort, sorted by name; names are unique.

    cohort  a CSV manifest; or a folder: of a layout of `anymri.data.layouts`, of raw studies, each a folder or zip
            archive, or of both. What holds one raw study gives one source, also if each DICOM series has its folder

    A case folder whose files are not clear becomes a source that fails when it is read, so that it does not stop the
    other cases. Raises `CohortError` if there is no case. An `InputWarning` lists what is not used.
    """
    if not cohort.is_dir():
        if cohort.is_file() and zipfile.is_zipfile(cohort):
            return [Source(_name_of(cohort), cohort)]
        return [Source.of(case) for case in find_cases(cohort)]
    if nnunet.matches(cohort) or _has_subjects(cohort):
        return [Source.of(case) for case in find_cases(cohort)]
    found, unclear = _search(cohort)
    raw = unclear + _raw_studies(cohort, found)
    if not found.cases and (_is_raw(cohort, found) or _are_series(raw)):
        return [Source(folder_name(cohort), cohort)]
    if not found.cases and not raw:
        return [Source.of(case) for case in find_cases(cohort)]  # raises the error that says what was found
    _without(found, cohort, raw).warn()
    sources = [Source.of(case) for case in found.cases] + [Source(_name_of(path), path) for path in raw]
    sources.sort(key=lambda source: source.name)
    check_distinct(source.name for source in sources)
    _warn_of_one_patient(cohort, sources)
    for first, second in pairwise(sources):
        if first.name == second.name:
            raise CohortError(f"Two cases in {cohort} are named {first.name}.", "Rename one of them.")
    return sources


def _warn_of_one_patient(cohort: Path, sources: Sequence[Source]) -> None:
    """Issue an `InputWarning` if each case is one scan of another modality, as in an export with a folder per scan."""
    cases = [source.content for source in sources if isinstance(source.content, Case)]
    modalities = [modality for case in cases for modality in case.scans]
    if 1 < len(sources) == len(cases) == len(modalities) == len(set(modalities)):
        warnings.warn(
            f"The {len(cases)} cases in {cohort} have one scan each, {' and '.join(modalities)}: if they are of one "
            "patient, put the files into one folder.",
            InputWarning,
            stacklevel=3,
        )


def _has_subjects(cohort: Path) -> bool:
    """Return whether a folder has the layout of BIDS; also where a subject is not clear, which its search refuses."""
    try:
        return bool(bids.find(cohort).cases)
    except AnymriError:
        return True


def _search(cohort: Path) -> tuple[Found, list[Path]]:
    """Return the cases of a folder, and the folders in it whose files are not clear.

    Raises the error of the whole search if no folder in it holds a case of the name of the folder.
    """
    try:
        return search(cohort), []
    except AnymriError:
        listing = list_folder(cohort, check=False)
        found, unclear = Found(), []
        for child in [] if listing.images else listing.folders:
            try:
                one = search(child)
            except AnymriError:
                unclear.append(child)
                continue
            if [case.name for case in one.cases] not in ([], [folder_name(child)]):
                raise  # names of cases in nested folders depend on the whole cohort
            found.cases += one.cases
            for reason, names in one.skipped.items():
                found.skip(reason, (child.name if name == "." else f"{child.name}/{name}" for name in names))
        if not found.cases:
            raise
        return found, unclear


def _raw_studies(cohort: Path, found: Found) -> list[Path]:
    """Return the folders and archives directly in a cohort that hold no case that was found, but a raw study."""
    files = (path for case in found.cases for path in case.files().values())
    used = {path.relative_to(cohort).parts[0] for path in files if path.is_relative_to(cohort)}
    children = sorted(child for child in cohort.iterdir() if not child.name.startswith(".") and child.name not in used)
    return [
        child
        for child in children
        if (child.is_dir() and _is_raw(child, found, f"{child.name}/"))
        or (child.suffix.lower() == ".zip" and child.is_file() and zipfile.is_zipfile(child))
    ]


def _is_raw(folder: Path, found: Found, prefix: str = "") -> bool:
    """Return whether a folder holds DICOM files, or images whose names do not say what they are and no label map.

    prefix  of the names in `found` that are in this folder; empty for the cohort, of which only its own files count
    """
    if _first_dicom(folder, below=bool(prefix)) is not None:
        return True
    silent, labels = (
        [name for name in found.skipped.get(reason, ()) if (name.startswith(prefix) if prefix else "/" not in name)]
        for reason in (reasons.NOT_UNDERSTOOD, reasons.NO_SCAN)
    )
    return bool(silent) and not labels


def _are_series(raw: Sequence[Path]) -> bool:
    """Return whether folders hold DICOM series of one study, so that they are not one case each."""
    if len(raw) < 2 or find_spec("pydicom") is None:
        return False
    return len(studies := {_study_of(path) for path in raw if path.is_dir()}) == 1 and studies != {None}


def _study_of(folder: Path) -> str | None:
    """Return the identifier of the study of the first DICOM file in a folder."""
    file = _first_dicom(folder)
    if file is not None:
        with suppress(Exception):  # damaged files raise many classes, and are refused where they are read
            headers = import_module("pydicom").dcmread(file, stop_before_pixels=True)
            return str(headers.StudyInstanceUID)
    return None


def _first_dicom(folder: Path, below: bool = True) -> Path | None:
    """Return the first DICOM file among the first files of a folder; None without one.

    below  whether files in folders inside it count
    """
    files = _files(folder) if below else (path for path in sorted(folder.iterdir()) if path.is_file())
    return next((path for path in islice(files, _EXAMINED) if _is_dicom(path)), None)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
    except OSError:
        return False


def _name_of(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _without(found: Found, cohort: Path, raw: Sequence[Path]) -> Found:
    """Return what was found, without the notes about files that raw studies use."""
    prefixes = tuple(f"{path.relative_to(cohort).as_posix()}" for path in raw)
    kept = Found(found.cases)
    for reason, names in found.skipped.items():
        kept.skip(reason, (name for name in names if name.partition("/")[0] not in prefixes))
    return kept
