"""Who is trained on and who is held out: by lists, by folds, or a share of patients. Patients are never divided."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anymri.data.case import Case
from anymri.errors import CohortError, ModalityError
from anymri.modalities import Subset
from anymri.systems.recipes.schema import Split

# With fewer patients than this all are trained on, and no share is held out for validation.
FEWEST_PATIENTS_TO_SPLIT = 5

# What the flags of the community's lists mean where they were used: the loader of IM-Fuse's family (protocol sheet,
# sections 2 and 5).
MASK_ORDER = ("FLAIR", "T1c", "T1", "T2")
_FLAG = re.compile(r"true|false|[01]", re.IGNORECASE)


def read_list(path: Path) -> dict[str, Subset | None]:
    """Names of cases, in the list's order, each with its subset if the list gives one.

    Plain text holds a name a line. A CSV file has the column `case`, and perhaps `subset` (T1c+FLAIR) or `mask`, four
    flags in the order of `MASK_ORDER`, as in `val15splits.csv`.
    """
    is_table = path.suffix.lower() == ".csv"
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.reader(stream)) if is_table else [["case"], *([line] for line in stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"The list {path} cannot be read ({error}).", "Give a text or CSV file.") from error
    columns = [cell.strip().lower() for cell in rows.pop(0)] if rows else []
    if columns not in (["case"], ["case", "mask"], ["case", "subset"]):
        raise CohortError(
            f"The columns of {path} are {', '.join(columns) or 'missing'}.", "Name them case, or case and subset."
        )
    listed: dict[str, Subset | None] = {}
    for number, row in enumerate(rows, start=2 if is_table else 1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        place = f"{path}, line {number}"
        if len(cells) != len(columns):
            raise CohortError(f"{place}: {len(cells)} cells under {len(columns)} columns.", "Quote masks.")
        if cells[0] in listed:
            raise CohortError(f"{place}: case {cells[0]} stands twice.", "Name every case once.")
        listed[cells[0]] = _subset(place, columns[1], cells[1]) if len(cells) > 1 else None
    if not listed:
        raise CohortError(f"The list {path} names no case.", "Write one name a line.")
    return listed


def _subset(place: str, column: str, text: str) -> Subset:
    if column == "subset":
        try:
            return Subset.parse(text)
        except ModalityError as error:
            raise CohortError(f"{place}: {error.what}", error.fix) from error
    flags = [flag.lower() in ("true", "1") for flag in _FLAG.findall(text)]
    if len(flags) != len(MASK_ORDER) or not any(flags):
        raise CohortError(
            f"{place}: the mask {text!r} is not four flags, one of them true.",
            f"Write [True, False, False, True], in the order {', '.join(MASK_ORDER)}; or a column `subset`.",
        )
    return Subset.of(m for m, flag in zip(MASK_ORDER, flags, strict=True) if flag)


@dataclass
class Listed:
    """A cohort as its lists divide it; without any, all cases are in `training`.

    training    to train on; where no list names those held out, some of these may be
    validation  held out by a list
    test        neither trained on nor judged
    left_out    in no list, where there is a list of what to train on
    subsets     case -> the subset that it is judged on, where the list of those held out says
    """

    training: list[Case]
    validation: list[Case] = field(default_factory=list)
    test: list[Case] = field(default_factory=list)
    left_out: list[Case] = field(default_factory=list)
    subsets: dict[str, Subset] = field(default_factory=dict)


def divide(cases: Iterable[Case], split: Split) -> Listed:
    """Cases by the lists of `split`.

    Raises `CohortError` if a list names a case that is not there, or if a case or a patient stands on two sides.
    """
    left = {case.name: case for case in cases}
    files = {"test": split.test, "validation": split.validation, "train": split.train}
    lists = {part: read_list(file) for part, file in files.items() if file is not None}
    found: dict[str, list[Case]] = {part: [] for part in files}
    part_of: dict[str, str] = {}
    for part, listed in lists.items():
        check_names(listed, [*left, *part_of], files[part])
        for name in listed:
            if name in part_of:
                raise CohortError(f"Case {name} is listed for {part_of[name]} and for {part}.", "Keep one of them.")
            part_of[name] = part
            found[part].append(left.pop(name))
    rest = sorted(left.values(), key=lambda case: case.name)
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
    """Raises `CohortError` if a list names cases that are not there."""
    if strangers := sorted(set(listed) - set(known)):
        raise CohortError(
            f"{file} names {len(strangers)} cases that are not in the cohort with a label: {', '.join(strangers[:5])}"
            f"{', ...' if len(strangers) > 5 else ''}.",
            "Names are those of the cases' folders; give the list and the cohort that belong together.",
        )


def _check_patients(divided: Listed) -> None:
    side_of: dict[str | None, tuple[str, Case]] = {}
    for side in ("training", "validation", "test"):
        for case in getattr(divided, side):
            other_side, other = side_of.setdefault(case.patient, (side, case))
            if other_side != side:
                raise CohortError(
                    f"Patient {case.patient} stands on two sides: {other.name} in {other_side}, {case.name} in {side}.",
                    "Keep all scans of a patient on one side; with a list of training cases, others are left out.",
                )


def held_out(strata: Mapping[str, tuple[str, bool]], split: Split, share: float, seed: int) -> set[str]:
    """Patients held out: one fold, or a share of all, at least one; of few patients none.

    strata  patient -> what shall be as frequent among those held out as among the others, as far as numbers allow
    """
    patients = np.random.default_rng(seed).permutation(sorted(strata)).tolist()
    groups: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for patient in patients:
        groups[strata[patient]].append(patient)
    if split.folds is not None:
        if len(patients) < split.folds:
            raise CohortError(
                f"{len(patients)} patients cannot be divided into {split.folds} folds.", "Choose fewer folds."
            )
        dealt = [patient for stratum in sorted(groups) for patient in groups[stratum]]
        return set(dealt[split.fold :: split.folds])
    if len(patients) < FEWEST_PATIENTS_TO_SPLIT or share == 0:
        return set()
    count = max(1, round(share * len(patients)))
    exact = {stratum: count * len(group) / len(patients) for stratum, group in groups.items()}
    quota = {stratum: int(value) for stratum, value in exact.items()}
    # What is left over after rounding down goes where most was cut off.
    by_rest = sorted(exact, key=lambda stratum: (quota[stratum] - exact[stratum], stratum))
    for stratum in by_rest[: count - sum(quota.values())]:
        quota[stratum] += 1
    return {patient for stratum, group in groups.items() for patient in group[: quota[stratum]]}
