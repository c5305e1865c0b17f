"""Finding of the cases of a cohort on disk.

`find_cases` reads these layouts and tries them in this order:

    CSV manifest         a .csv file with the columns case, any modality, and perhaps label, mask, patient
    nnU-Net raw          imagesTr or imagesTs (CASE_0000.nii.gz, ...), labelsTr or labelsTs, dataset.json
    BIDS                 sub-XX/[ses-YY/]anat/sub-XX[_ses-YY]_T1w.nii.gz, ...; label maps there or in derivatives
    one folder per case  BraTS 2018 to 2024 and similar: file names contain t1n, t1ce, flair, seg, ... among other words

Hidden files and folders are skipped. Each layout has its module, which returns the cases of a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from anymri.data.case import Case
from anymri.data.layouts import bids, csv_manifest, folders, nnunet
from anymri.data.layouts.roles import LAYOUTS_TEXT
from anymri.errors import CohortError, ImageError, ModalityError
from anymri.modalities import parse_modality


def find_cases(path: Path) -> list[Case]:
    """Return the cases in a folder or CSV manifest, sorted by name; names are unique.

    Raises `CohortError` if there is none, or if several files could be the same scan of a case.
    """
    if not path.exists():
        raise CohortError(f"{path} does not exist.", "Check the name of the folder or manifest.")
    try:
        cases = sorted(_cases(path), key=lambda case: case.name)
    except OSError as error:
        raise CohortError(
            f"{error.filename or path} cannot be read: {error.strerror}.", "Check its permissions."
        ) from error
    if not cases:
        raise CohortError(f"No case was found in {path}.", LAYOUTS_TEXT)
    for first, second in pairwise(cases):
        if first.name == second.name:
            raise CohortError(
                f"Two cases are named {first.name}: {_folder_of(first)} and {_folder_of(second)}.",
                "Rename one, or list the cases in a CSV manifest under different names.",
            )
    return cases


def case_from_files(
    scans: Mapping[str, Path], label: Path | None = None, brain_mask: Path | None = None, name: str = "case"
) -> Case:
    """Return a case of single files.

    scans  any alias of a modality -> file

    Raises `ModalityError` for an unknown alias or a modality given twice, `ImageError` for a file that does not exist.
    """
    by_modality: dict[str, Path] = {}
    for word, path in scans.items():
        modality = parse_modality(word)
        if modality in by_modality:
            raise ModalityError(
                f"{modality} is given twice: {by_modality[modality]} and {path}.", "Give one file per modality."
            )
        by_modality[modality] = path
    case = Case(name, by_modality, label, brain_mask)
    for role, path in case.files().items():
        if not path.is_file():
            raise ImageError(f"{path} ({role}) does not exist.", "Check the name, or omit the file.")
    return case


def _cases(path: Path) -> Iterable[Case]:
    if path.is_file():
        return csv_manifest.cases(path)
    if nnunet.matches(path):
        return nnunet.cases(path)
    return bids.cases(path) or folders.cases(path)


def _folder_of(case: Case) -> Path:
    return next(iter(case.scans.values())).parent
