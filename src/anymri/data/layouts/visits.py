"""Visits of patients in nested folders, as Patient-001/week-044: their cases get the name of the patient."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anymri.data.case import Case
from anymri.data.layouts.names import folder_name
from anymri.data.layouts.words import split_words, time_of

# Words in the names of folders that group patients, with or without a number: HGG, site2, fold_0, TrainingData.
_GROUPS = re.compile(
    r"(?:hgg|lgg|gbm|brats|sites?|cent(?:er|re)s?|hospitals?|clinics?|train(?:ing)?|val(?:idation)?|test(?:ing)?|data"
    r"|sets?|cohorts?|folds?|batch(?:es)?|parts?|groups?|releases?|stud(?:y|ies)|projects?|patients|subjects|cases"
    r"|images?|scans?)+"
)
_YEAR = re.compile(r"(?:19|20)\d\d(?!\d)")
_DATE = re.compile(r"(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])")


def name_visits(cases: Sequence[tuple[Path, Case]], root: Path) -> list[Case]:
    """Return the cases; those that are visits in the folder of a patient get its name and are named PATIENT_VISIT.

    cases  folder and case: one named as the folder, or several by their files
    root   the cohort
    """
    times = Counter(case.name for _, case in cases)
    repeated = {_above(folder, case) for folder, case in cases if times[case.name] > 1}
    return [_with_patient(folder, case, root, repeated) for folder, case in cases]


def _above(folder: Path, case: Case) -> Path:
    """Return the folder that may be that of the patient."""
    return folder.parent if case.name == folder_name(folder) else folder


def _with_patient(folder: Path, case: Case, root: Path, repeated: set[Path]) -> Case:
    """Return a case with the folder above it as its patient, if that is one.

    repeated  folders with a case that has the name of another one
    """
    above = _above(folder, case)
    patient = folder_name(above)
    is_group = any(map(_GROUPS.fullmatch, re.split(r"[\W\d_]+", patient.lower())))
    if is_group or not (above == root or root in above.parents):
        return case
    below_root = above not in (root, folder)
    has_number = re.search(r"\d", _YEAR.sub("", patient)) is not None
    if (below_root and has_number and above in repeated) or _is_time(case.name, below_root, has_number):
        return replace(case, name=f"{patient}_{case.name}", patient=patient)
    after_patient = case.name.removeprefix(patient)
    if after_patient != case.name and _is_time(after_patient.strip("_-. "), False, has_number):
        return replace(case, patient=patient)
    return case


def _is_time(name: str, below_root: bool, has_number: bool) -> bool:
    """Return whether the name of a case is that of a visit: words for a time, a date, or a number.

    A date alone and a number alone may also name a patient, so the folder above must confirm that it is one.

    below_root  whether the case has a folder, in the folder of the patient, inside the cohort
    has_number  whether the name of the folder above has a number, as those of patients
    """
    if _DATE.fullmatch(name):
        return below_root or has_number
    words = split_words(name)
    if all(word.text.isdecimal() for word in words):
        return below_root and has_number
    when = time_of(words)
    return all(word.text in when or word.text.isdecimal() for word in words)
