"""Cases to train on, to validate on and to test: the authors' lists, or a split of ours with their numbers."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anymri.data.case import Case
from anymri.errors import CohortError
from anymri.files import replacing
from anymri.modalities import MODALITIES, Subset
from anymri.reproduction.dataset import DataSet
from anymri.systems.recipes.schema import Split
from anymri.text import count
from anymri.training.cohort.split import divide

# The seed of IM-Fuse's lists. Their order of random numbers is not known, so the lists differ all the same.
SEED = 42
_PARTS = ("train", "val", "test")
_SUFFIXES = (".csv", ".txt")  # in this order: a table may have the subset of each case


@dataclass(frozen=True)
class CaseLists:
    """Cases of a reproduction by their part.

    validation  cases that choose the weights: those of the test where the authors have no others
    subsets     case -> subset that it is validated on, where a list gives one
    source      where the split comes from, as a sentence
    is_ours     whether the split was drawn here
    """

    train: Sequence[Case]
    validation: Sequence[Case]
    test: Sequence[Case]
    subsets: Mapping[str, Subset]
    source: str
    is_ours: bool

    @property
    def test_chooses(self) -> bool:
        """Whether the test cases also choose the weights."""
        return [case.name for case in self.validation] == [case.name for case in self.test]

    def record(self) -> dict[str, dict[str, str | None]]:
        """Return case -> subset or None for each part, for JSON."""
        subsets = {name: str(subset) for name, subset in self.subsets.items()}
        return {
            "train": {case.name: None for case in self.train},
            "validation": {case.name: subsets.get(case.name) for case in self.validation},
            "test": {case.name: None for case in self.test},
        }


def read_lists(folder: Path, data: DataSet, numbers: tuple[int, int, int]) -> CaseLists:
    """Return the split in the files train*, val* and test* of a folder (.csv or .txt, see `read_list`).

    numbers  training, validation and test cases of the authors; without validation cases val* is not needed

    Raises `CohortError` for files that are missing, and for lists that do not fit each other or the data.
    """
    files = {part: _file(folder, part) for part in _PARTS}
    absent = [part for part, file in files.items() if file is None and (part != "val" or numbers[1])]
    if absent:
        raise CohortError(
            f"{folder} has no list {' and no list '.join(f'{part}*' for part in absent)}.",
            "Put the authors' lists there, as .csv or .txt; or omit --lists for a split of ours.",
        )
    found = divide(data.cases, Split(train=files["train"], validation=files["val"], test=files["test"]))
    unused = f" Not in them: {count(len(found.unused), 'case')}." if found.unused else ""
    source = f"Lists of the user: {', '.join(file.name for file in files.values() if file)} in {folder}.{unused}"
    return CaseLists(found.training, found.validation or found.test, found.test, found.subsets, source, False)


def draw_lists(data: DataSet, numbers: tuple[int, int, int]) -> CaseLists:
    """Return a split of ours by patient with the authors' numbers, or their proportions if the cases are more or fewer.

    As in IM-Fuse's lists, patients with several scans are trained on, as far as the others suffice.
    """
    cases, total = len(data.cases), sum(numbers)
    exact = data.is_complete and cases >= total
    wanted = [number if exact else max(min(number, 1), round(cases * number / total)) for number in numbers]
    by_patient: dict[str, list[Case]] = defaultdict(list)
    for case in data.cases:
        by_patient[case.patient].append(case)
    patients = np.random.default_rng(SEED).permutation(sorted(by_patient)).tolist()
    single = [patient for patient in patients if len(by_patient[patient]) == 1]
    pool = single if len(single) > wanted[1] + wanted[2] else patients
    test = _take(pool, by_patient, wanted[2])
    validation = _take([patient for patient in pool if patient not in test], by_patient, wanted[1])
    held_out = {*test, *validation}
    train = [case for case in data.cases if case.patient not in held_out]
    if not train or not test or (wanted[1] and not validation):
        raise CohortError(
            f"{count(len(by_patient), 'patient')} cannot be divided into parts like "
            f"{' / '.join(str(n) for n in numbers if n)}.",
            "Give more cases, or a split of yours with --lists.",
        )
    parts = [sorted((c for p in chosen for c in by_patient[p]), key=lambda c: c.name) for chosen in (validation, test)]
    source = (
        f"A split of ours by patient (seed {SEED}) with the authors' {'numbers' if exact else 'proportions'} of "
        f"{' / '.join(str(number) for number in numbers if number)}: other cases than theirs."
    )
    return CaseLists(train, parts[0] or parts[1], parts[1], {}, source, True)


def write_lists(folder: Path, lists: CaseLists) -> dict[str, Path]:
    """Write the lists of a split and return purpose -> file, as `Recipe.split` and `find_cohort` read them.

    `train`, `validation` and, unless the test cases choose the weights, `test` are lists; `manifest` is the cohort of
    the test cases.
    """
    files = list_files(folder, lists)
    for part in files.keys() - {"manifest"}:
        cases: Sequence[Case] = getattr(lists, part)
        subsets = lists.subsets if part == "validation" else {}
        has_subsets = all(case.name in subsets for case in cases)
        rows = [[case.name, *([str(subsets[case.name])] if has_subsets else [])] for case in cases]
        _write(files[part], [["case", "subset"] if has_subsets else ["case"], *rows])
    roles = {**{modality: modality for modality in MODALITIES}, "label": "label", "brain_mask": "mask"}
    rows = [
        [c.name, c.patient, *(str(c.files()[r].absolute()) if r in c.files() else "" for r in roles)]
        for c in lists.test
    ]
    _write(files["manifest"], [["case", "patient", *roles.values()], *rows])
    return files


def list_files(folder: Path, lists: CaseLists) -> dict[str, Path]:
    """Return the files that `write_lists` writes."""
    parts = ["train", "validation", *([] if lists.test_chooses else ["test"])]
    return {part: folder / f"{part}.csv" for part in parts} | {"manifest": folder / "test-cohort.csv"}


def _file(folder: Path, part: str) -> Path | None:
    """Return the list of a part; of several, the table."""
    found = [file for suffix in _SUFFIXES for file in sorted(folder.glob(f"{part}*{suffix}"))]
    same = [file for file in found if file.suffix == found[0].suffix]
    if len(same) > 1:
        raise CohortError(
            f"{folder} has several lists {part}*: {', '.join(file.name for file in same)}.", "Keep one of them there."
        )
    return found[0].absolute() if found else None


def _take(patients: Sequence[str], cases: Mapping[str, Sequence[Case]], number: int) -> list[str]:
    """Return patients, in order, with this number of cases together, or as close below as they allow."""
    taken: list[str] = []
    for patient in patients:
        if len(cases[patient]) <= number:
            taken.append(patient)
            number -= len(cases[patient])
    return taken


def _write(file: Path, rows: Sequence[Sequence[str]]) -> None:
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
