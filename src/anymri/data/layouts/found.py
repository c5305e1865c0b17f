"""Result of a search for the cases of a cohort, with what is not used, by reason."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anymri.data.case import Case
from anymri.data.layouts.listing import identity
from anymri.errors import CohortError, InputWarning
from anymri.modalities import MODALITIES

# Reasons for which something is not used. Each completes the sentence "Not used are ...".
# Largest number of folders between the cohort and a case, as in training/HGG/site/case.
DEPTH = 4
NOT_UNDERSTOOD = "images whose names do not say what they are"
NO_LABEL = "cases without a label map"
NO_SCAN = "label maps without a scan of the same case"
SEVERAL_SESSIONS = "label maps without a session of subjects with several sessions"
NO_TUMOUR_NAME = "segmentations in derivatives whose names do not say that they show a tumour"
NO_ANATOMY = "subjects and sessions without a scan in an anat folder"
INSIDE_A_CASE = "images in folders inside a case folder"
TOO_DEEP = f"folders more than {DEPTH} levels below the cohort"
NO_IMAGE = "folders without an image"
OTHER_FORMAT = "files in formats that are not read"
BROKEN_LINK = "links that point nowhere"

# Names of files or cases that a note shows.
_SHOWN = 5


@dataclass
class Found:
    """Cases of a cohort, and the names of files and cases in it that are not used.

    skipped  reason, such as `NO_LABEL` -> names of cases, or of files relative to the cohort
    """

    cases: list[Case] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, reason: str, names: Iterable[str]) -> None:
        """Record names that are not used for a reason."""
        if names := list(names):
            self.skipped.setdefault(reason, []).extend(names)

    def labelled(self, cohort: Path) -> Found:
        """Return the cases with a label map, and issue notes about all that is not used.

        Raises `CohortError` if there is no such case.
        """
        with_label = Found([case for case in self.cases if case.label is not None], dict(self.skipped))
        if not with_label.cases:
            self.warn()
            raise CohortError(
                f"No case in {cohort} has a label map.",
                "Give a cohort with label maps. Without them, only this is possible: anymri segment",
            )
        with_label.skip(NO_LABEL, (case.name for case in self.cases if case.label is None))
        with_label.warn()
        return with_label

    def warn(self) -> None:
        """Issue one `InputWarning` for each reason, with the count and some names."""
        for reason, names in self.skipped.items():
            warnings.warn(f"Not used are {reason}: {counted(names)}.", InputWarning, stacklevel=3)


def warn_without_tumour(cohort: Path) -> None:
    """Issue an `InputWarning` that the label maps of a cohort are all empty."""
    warnings.warn(
        f"No label map in {cohort} has a voxel of tumour: check that they are the label maps of these scans.",
        InputWarning,
        stacklevel=3,
    )


def counted(names: Sequence[str]) -> str:
    """Return the number of names and the first five: "7 (a, b, c, d, e, ...)"."""
    return f"{len(names)} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"


def case_of_roles(name: str, roles: Iterable[tuple[str, Path]]) -> Case:
    """Return the case of files with their roles; raise `CohortError` if two files have the same role."""
    by_role: dict[str, Path] = {}
    for role, file in roles:
        if role in by_role:
            raise CohortError(
                f"{by_role[role]} and {file} both look like the {role.replace('_', ' ')} of one case.",
                "Keep one of them there, or list the files of each case in a CSV manifest.",
            )
        by_role[role] = file
    return case_of_files(name, by_role)


def case_of_files(name: str, files: Mapping[str, Path], patient: str = "") -> Case:
    """Return the case of a mapping from role to file; raise `CohortError` for a file in two roles."""
    check_one_role(files)
    scans = {modality: files[modality] for modality in MODALITIES if modality in files}
    return Case(name, scans, files.get("label"), files.get("brain_mask"), patient)


def check_one_role(files: Mapping[str, Path]) -> None:
    """Raise `CohortError` if one file has two roles, under one name or by links."""
    roles: dict[tuple[int, int], str] = {}
    for role, file in files.items():
        first = roles.setdefault(identity(file), role)
        if first != role:
            names = " and ".join(dict.fromkeys((str(files[first]), str(file))))
            raise CohortError(
                f"One file is given as {first.replace('_', ' ')} and as {role.replace('_', ' ')}: {names}.",
                "Give a different file for each, or only one of the two.",
            )
