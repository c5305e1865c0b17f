"""Recognition of a BraTS data set by the names of its cases, their number and their label values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anymri.data.case import Case
from anymri.data.image import read_image
from anymri.data.layouts import find_cohort
from anymri.data.layouts.found import NO_LABEL, counted
from anymri.errors import CohortError
from anymri.modalities import MODALITIES
from anymri.regions import SCHEMES, label_scheme


@dataclass(frozen=True)
class Kind:
    """Kind of data set. Source: protocol sheet, section 1, and the pages of the challenges.

    name    name in text
    year    year of the challenge; None for phantoms
    scheme  name of its label scheme
    cases   number of labelled cases that were published; None if there is no such number
    names   pattern of the names of its cases
    """

    name: str
    year: int | None
    scheme: str
    cases: int | None
    names: str


PHANTOMS = Kind("phantoms", None, "brats2023", None, r"PHANTOM-\d+-\d+")
_GLI_2023 = Kind("BraTS 2023", 2023, "brats2023", 1251, r"BraTS-GLI-\d{5}-\d{3}")
_GLI_2024 = Kind("BraTS 2024 (post-treatment)", 2024, "brats2024", 1350, _GLI_2023.names)
KINDS = (
    Kind("BraTS 2018", 2018, "brats2018", 285, r"BraTS18_\w+"),
    Kind("BraTS 2019", 2019, "brats2020", 335, r"BraTS19_\w+"),
    Kind("BraTS 2020", 2020, "brats2020", 369, r"BraTS20_Training_\d+"),
    Kind("BraTS 2021", 2021, "brats2021", 1251, r"BraTS2021_\d{5}"),
    _GLI_2023,
    PHANTOMS,
)
# Cases of 2023 and 2024 have the same names. Most of those of 2024 have a resection cavity, whose value 2023 does not
# have, so that one of so many label maps shows it.
_LABELS_READ = 20
_CAVITY = 4


@dataclass(frozen=True)
class DataSet:
    """Labelled cases of a folder or manifest, and what they are.

    kind     kind of data set; None if it was not recognised
    scheme   name of the label scheme
    cases    labelled cases, sorted by name
    missing  sentences about cases and files that the published data set has and this one does not
    """

    path: Path
    kind: Kind | None
    scheme: str
    cases: Sequence[Case]
    missing: Sequence[str]

    @property
    def name(self) -> str:
        """Name of the data set in text."""
        return self.kind.name if self.kind else "a data set that was not recognised"

    @property
    def is_complete(self) -> bool:
        """Whether the data set has as many labelled cases as were published."""
        return self.kind is not None and len(self.cases) == self.kind.cases


def read_data_set(path: Path, scheme: str | None, anyway: bool) -> DataSet:
    """Return the data set in a folder or manifest.

    scheme  name of its label scheme; by default that of its kind
    anyway  whether a data set that is not recognised is taken, which needs `scheme`

    Raises `CohortError` for one that is not, `LabelError` for an unknown scheme.
    """
    if scheme is not None:
        label_scheme(scheme)
    found = find_cohort(path)
    cases = [case for case in found.cases if case.label is not None]
    if not cases:
        raise CohortError(f"No case in {path} has a label map.", "Give the training cases of BraTS, with label maps.")
    kind = recognise(cases)
    if kind is None and not (anyway and scheme):
        raise CohortError(
            f"The cases in {path} are not of one BraTS data set from 2018 to 2024: {_unlike(cases)}.",
            f"Give the folder of one; or continue with --anyway --label-scheme, one of {', '.join(SCHEMES)}.",
        )
    chosen = scheme or (kind.scheme if kind else "")
    return DataSet(path, kind, chosen, cases, _missing(kind, cases, [c.name for c in found.cases if c.label is None]))


def recognise(cases: Sequence[Case]) -> Kind | None:
    """Return the kind of data set that all labelled cases belong to; None if there is no such kind."""
    for kind in KINDS:
        if all(re.fullmatch(kind.names, case.name, re.IGNORECASE) for case in cases):
            return _GLI_2024 if kind is _GLI_2023 and _has_cavity(cases) else kind
    return None


def _has_cavity(cases: Sequence[Case]) -> bool:
    """Return whether one of some label maps, from all over the cohort, has the value of the resection cavity."""
    some = np.unique(np.linspace(0, len(cases) - 1, _LABELS_READ).round().astype(int))
    labels = (cases[i].label for i in some)
    return any(bool((np.rint(read_image(label).array) == _CAVITY).any()) for label in labels if label is not None)


def _missing(kind: Kind | None, cases: Sequence[Case], without_label: Sequence[str]) -> list[str]:
    sentences = []
    if kind and kind.cases and len(cases) != kind.cases:
        sentences.append(f"{len(cases)} labelled cases were found; {kind.name} has {kind.cases}.")
    if without_label:
        sentences.append(f"Not used are {NO_LABEL}: {counted(without_label)}.")
    for modality in MODALITIES:
        if without := [case.name for case in cases if modality not in case.scans]:
            sentences.append(
                f"Cases without {modality}: {counted(without)}; the authors had all four scans of every case."
            )
    return sentences


def _unlike(cases: Sequence[Case]) -> str:
    """Return in words which names do not fit."""
    kinds = {kind.name: [c.name for c in cases if re.fullmatch(kind.names, c.name, re.IGNORECASE)] for kind in KINDS}
    name, fitting = max(kinds.items(), key=lambda item: len(item[1]))
    if not fitting:
        return f"they have names such as {cases[0].name}"
    other = next(case.name for case in cases if case.name not in set(fitting))
    return f"{fitting[0]} has a name of {name}, and {other} does not"
