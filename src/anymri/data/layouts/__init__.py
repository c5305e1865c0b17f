"""Finding of the cases of a cohort on disk.

`find_cohort` reads these layouts and tries them in this order:

    CSV manifest         a .csv file with the columns case, any modality, and perhaps label, mask, patient
    nnU-Net raw          imagesTr or imagesTs (CASE_0000.nii.gz, ...), labelsTr or labelsTs, dataset.json
    BIDS                 sub-XX/[ses-YY/]anat/sub-XX[_ses-YY]_T1w.nii.gz, ...; label maps there or in derivatives
    one folder per case  BraTS 2018 to 2024 and similar: file names contain t1n, t1ce, flair, seg, ... among other words
    several in a folder  the same, and the other words name the case: patA_flair, patA_seg, patB_t1c

Hidden files and folders are skipped. Each layout has its module, which returns cases and what is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from anymri.data.case import Case, check_distinct
from anymri.data.image import image_stem
from anymri.data.layouts import bids, csv_manifest, folders, nnunet
from anymri.data.layouts.found import Found, check_one_role, counted
from anymri.data.layouts.listing import check_readable
from anymri.errors import CohortError, ModalityError
from anymri.modalities import parse_modality

T = TypeVar("T")

_LAYOUTS = (
    "Give a CSV manifest (columns case, t1, t1c, t2, flair, label), an nnU-Net raw folder, a BIDS folder, or one "
    "folder per case with files like name_t1ce.nii.gz."
)


def find_cases(path: Path) -> list[Case]:
    """Return the cases in a folder or CSV manifest, sorted by name; names are unique.

    Raises the errors of `find_cohort`. An `InputWarning` lists what is not used.
    """
    found = find_cohort(path)
    found.warn()
    return found.cases


def find_cohort(path: Path) -> Found:
    """Return the cases in a folder or CSV manifest, sorted by name, and what in it is not used.

    Raises `CohortError` if there is no case, if the role or the case of a scan is not clear from its name, or if two
    files could be the same scan of a case; `ImageError` for a scan that cannot be read.
    """
    found = search(path)
    if not found.cases:
        only = "; ".join(f"{reason}: {counted(names)}" for reason, names in found.skipped.items())
        raise CohortError(f"No case was found in {path}{only and ', but '}{only}.", _LAYOUTS)
    return found


def check_exists(path: Path) -> None:
    """Raise `CohortError` if the path of a cohort, a folder or manifest, does not exist."""
    if not path.exists():
        raise CohortError(f"{path} does not exist.", "Check the name of the folder or manifest.")


def search(path: Path) -> Found:
    """Return the same as `find_cohort`, with an empty list instead of an error if there is no case."""
    check_exists(path)
    try:
        found = _find(path)
    except OSError as error:
        raise CohortError(
            f"{error.filename or path} cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    found.cases.sort(key=lambda case: case.name)
    for first, second in pairwise(found.cases):
        if first.name == second.name:
            raise CohortError(
                f"Two cases are named {first.name}: {_folder_of(first)} and {_folder_of(second)}.",
                "Rename one, or list the cases in a CSV manifest under different names.",
            )
    check_distinct(case.name for case in found.cases)
    return found


def by_modality(scans: Mapping[str, T]) -> dict[str, T]:
    """Return modality -> scan, a file or an image in memory, for aliases of modalities.

    Raises `ModalityError` for an unknown alias or a modality given twice.
    """
    given: dict[str, tuple[str, T]] = {}
    for word, scan in scans.items():
        modality = parse_modality(word)
        if modality in given:
            texts = [str(each) if isinstance(each, Path) else name for name, each in (given[modality], (word, scan))]
            raise ModalityError(f"{modality} is given twice: {' and '.join(texts)}.", "Give one file per modality.")
        given[modality] = word, scan
    return {modality: scan for modality, (_, scan) in given.items()}


def case_from_files(
    scans: Mapping[str, Path], label: Path | None = None, brain_mask: Path | None = None, name: str = "case"
) -> Case:
    """Return a case of single files.

    scans  any alias of a modality -> file

    Raises `ModalityError` for an unknown alias or a modality given twice, `ImageError` for a file that does not exist,
    `CohortError` for a file in two roles.
    """
    case = Case(name, by_modality(scans), label, brain_mask)
    for role, path in case.files().items():
        check_readable(path, f" ({role})")
    check_one_role(case.files())
    return case


def _find(path: Path) -> Found:
    if not path.is_dir():
        if image_stem(path) is not None or not path.is_file():
            raise CohortError(f"{path} is neither a folder nor a CSV manifest.", _LAYOUTS)
        return csv_manifest.find(path)
    if nnunet.matches(path):
        return nnunet.find(path)
    found = bids.find(path)
    return found if found.cases else folders.find(path)


def _folder_of(case: Case) -> Path:
    return next(iter(case.scans.values())).parent
