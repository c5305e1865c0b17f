"""Split of a cohort into training, validation and test: by lists, by folds, or by a share of the patients.

All cases of a patient are in the same part.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from anymri.data.case import Case, check_name
from anymri.errors import CohortError, InputWarning, ModalityError
from anymri.files import TextError, read_text
from anymri.modalities import Subset
from anymri.systems.recipes.schema import Split
from anymri.text import count, shortened, shown

# With fewer patients than this, all are trained on and none is held out for validation.
FEWEST_PATIENTS_TO_SPLIT = 5

# Order of the flags in the community's lists, as the loader of IM-Fuse's family reads them (protocol sheet, sections 2
# and 5).
MASK_ORDER = ("FLAIR", "T1c", "T1", "T2")
# Lists whose flags are in another order, that of the network that reads them, by their first masks. All lists begin
# with T2, T1, T1c and FLAIR alone.
OTHER_MASK_ORDERS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("0010", "1000", "0100", "0001"): ("T1", "T1c", "T2", "FLAIR"),  # U-HVED's port
    ("0010", "0100", "1000", "0001"): ("T1c", "T1", "T2", "FLAIR"),  # SFusion's port
}
# Names that an error shows.
_SHOWN = 3
_FLAG = re.compile(r"true|false|[01]", re.IGNORECASE)


def read_list(path: Path) -> dict[str, Subset | None]:
    """Return the names of the cases in a list, in its order, each with its subset if the list gives one.

    A text file has one name per line. A CSV file has the column `case`, and optionally `subset` (T1c+FLAIR) or `mask`:
    four flags in the order of `MASK_ORDER`, as in `val15splits.csv`. Lists that begin as those of U-HVED's and of
    SFusion's port are read in their order, with an `InputWarning`.

    Raises `CohortError` with the line that is wrong.
    """
    is_table = path.suffix.lower() == ".csv"
    try:
        stream = io.StringIO(read_text(path), newline="")
        rows = list(csv.reader(stream)) if is_table else [["case"], *([line] for line in stream)]
    except OSError as error:
        raise CohortError(
            f"The list {path} cannot be read: {error.strerror}.", "Check its path and permissions."
        ) from error
    except (TextError, csv.Error) as error:
        reason = error if isinstance(error, TextError) else "it is not CSV"
        raise CohortError(f"The list {path} cannot be read: {reason}.", "Save it as text or CSV in UTF-8.") from error
    columns = [cell.strip().lower() for cell in rows.pop(0)] if rows else []
    if columns not in (["case"], ["case", "mask"], ["case", "subset"]):
        raise CohortError(
            f"The columns of {path} are {shortened(', '.join(columns), 40) or 'missing'}.",
            "Name them case, or case and subset.",
        )
    order = _mask_order(path, rows) if columns[-1] == "mask" else MASK_ORDER
    listed: dict[str, Subset | None] = {}
    for number, row in enumerate(rows, start=2 if is_table else 1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        place = f"{path}, line {number}"
        if len(cells) != len(columns):
            raise CohortError(
                f"{place}: {count(len(cells), 'cell')} under {count(len(columns), 'column')}.",
                "Put masks in double quotes.",
            )
        name = cells[0]
        try:
            check_name(name)
        except CohortError as error:
            raise CohortError(f"{place}: {error.what}", "Give a list with one case name per line.") from error
        if name in listed:
            raise CohortError(f"{place}: case {shortened(name, 40)} is listed twice.", "Name every case once.")
        listed[name] = _subset(place, columns[1], cells[1], order) if len(cells) > 1 else None
    if not listed:
        raise CohortError(f"The list {path} is empty.", "Write one case name per line.")
    return listed


def _mask_order(path: Path, rows: Iterable[list[str]]) -> tuple[str, ...]:
    """Return the order of the flags of a list with the column `mask`, with a note if it is not `MASK_ORDER`."""
    masks = ("".join(str(int(flag)) for flag in _flags(row[-1])) for row in rows if any(row))
    order = OTHER_MASK_ORDERS.get(tuple(islice(masks, 4)), MASK_ORDER)
    if order != MASK_ORDER:
        warnings.warn(
            f"The masks of {path} are read in the order {', '.join(order)}, because it begins as the authors' list in "
            "that order. Give it a column `subset` instead, if that is wrong.",
            InputWarning,
            stacklevel=3,
        )
    return order


def _flags(text: str) -> list[bool]:
    return [flag.lower() in ("true", "1") for flag in _FLAG.findall(text)]


def _subset(place: str, column: str, text: str, order: tuple[str, ...]) -> Subset:
    if column == "subset":
        try:
            return Subset.parse(text)
        except ModalityError as error:
            raise CohortError(f"{place}: {error.what}", error.fix) from error
    flags = _flags(text)
    if len(flags) != len(order) or not any(flags):
        raise CohortError(
            f"{place}: the mask {shown(text, 40)} is not four flags, one of them true.",
            f"Write [True, False, False, True], in the order {', '.join(order)}; or a column `subset`.",
        )
    return Subset.of(m for m, flag in zip(order, flags, strict=True) if flag)


@dataclass
class Listed:
    """A cohort divided by lists; without any, all cases are in `training`.

    training    cases to train on; without a list for validation, some of these may be held out later
    validation  cases of the validation list
    test        cases of the test list: neither trained nor validated on
    unused      cases in none of the lists, where there is a list of training cases
    subsets     case -> the subset that it is validated on, where the validation list gives one
    """

    training: list[Case]
    validation: list[Case] = field(default_factory=list)
    test: list[Case] = field(default_factory=list)
    unused: list[Case] = field(default_factory=list)
    subsets: dict[str, Subset] = field(default_factory=dict)


def divide(cases: Iterable[Case], split: Split) -> Listed:
    """Return the cases divided by the lists of `split`.

    Raises `CohortError` if a list names an unknown case, or if a case or a patient is in two parts.
    """
    unlisted = {case.name: case for case in cases}
    files = {"test": split.test, "validation": split.validation, "train": split.train}
    lists = {part: read_list(file) for part, file in files.items() if file is not None}
    found: dict[str, list[Case]] = {part: [] for part in files}
    part_of: dict[str, str] = {}
    for part, listed in lists.items():
        check_names(listed, [*unlisted, *part_of], files[part])
        for name in listed:
            if name in part_of:
                raise CohortError(f"Case {name} is listed for {part_of[name]} and for {part}.", "Keep one of them.")
            part_of[name] = part
            found[part].append(unlisted.pop(name))
    rest = sorted(unlisted.values(), key=lambda case: case.name)
    divided = Listed(
        sorted(found["train"], key=lambda case: case.name) if split.train else rest,
        found["validation"],
        found["test"],
        rest if split.train else [],
        {name: subset for name, subset in lists.get("validation", {}).items() if subset},
    )
    _check_patients(divided)
    return divided


def check_names(listed: Iterable[str], known: Iterable[str], file: Path | None) -> None:
    """Raise `CohortError` if a list names cases that are not in the cohort."""
    if unknown := sorted(set(listed) - set(known)):
        shown_names = ", ".join(shortened(name, 40) for name in unknown[:_SHOWN])
        raise CohortError(
            f"{file} names {count(len(unknown), 'case')} that the cohort does not have with a label: {shown_names}"
            f"{', ...' if len(unknown) > _SHOWN else ''}.",
            "Case names are the names of the cases' folders; give a list and a cohort that belong together.",
        )


def _check_patients(divided: Listed) -> None:
    part_of: dict[str | None, tuple[str, Case]] = {}
    for part, cases in (
        ("training", divided.training),
        ("validation", divided.validation),
        ("test", divided.test),
    ):
        for case in cases:
            other_part, other = part_of.setdefault(case.patient, (part, case))
            if other_part != part:
                raise CohortError(
                    f"Patient {case.patient} is in two parts: {other.name} in {other_part}, {case.name} in {part}.",
                    "Keep all cases of a patient in one part; with a list of training cases, unlisted ones are unused.",
                )


def held_out(strata: Mapping[str, tuple[str, bool]], split: Split, share: float, seed: int) -> set[str]:
    """Return the patients held out for validation: one fold, or a share of all, at least one; none of few patients.

    strata  patient -> stratum; strata are as frequent among the patients held out as among the others, as far as
            numbers allow
    """
    patients = np.random.default_rng(seed).permutation(sorted(strata)).tolist()
    groups: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for patient in patients:
        groups[strata[patient]].append(patient)
    if split.folds is not None:
        if len(patients) < split.folds:
            raise CohortError(
                f"{split.folds} folds need as many patients, and the cohort has {len(patients)}.", "Choose fewer folds."
            )
        dealt = [patient for stratum in sorted(groups) for patient in groups[stratum]]
        return set(dealt[split.fold :: split.folds])
    if len(patients) < FEWEST_PATIENTS_TO_SPLIT or share == 0:
        return set()
    count = max(1, round(share * len(patients)))
    exact = {stratum: count * len(group) / len(patients) for stratum, group in groups.items()}
    quota = {stratum: int(value) for stratum, value in exact.items()}
    # Places that remain after rounding down go to the strata that lost most by it.
    by_rest = sorted(exact, key=lambda stratum: (quota[stratum] - exact[stratum], stratum))
    for stratum in by_rest[: count - sum(quota.values())]:
        quota[stratum] += 1
    return {patient for stratum, group in groups.items() for patient in group[: quota[stratum]]}
