"""The cases of a training: found, split by patient, preprocessed. Everything that can be wrong is found here."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anymri.data.cache import CachedCase, cache_case
from anymri.data.case import Case
from anymri.data.layouts import find_cases
from anymri.errors import AnymriWarning, CohortError, LabelError
from anymri.modalities import MODALITIES, Subset
from anymri.regions import ET, LabelScheme, label_scheme
from anymri.systems.recipes.schema import Recipe
from anymri.training.cohort.missing import fixed_subset, incomplete
from anymri.training.cohort.split import check_names, divide, held_out, read_list
from anymri.training.configuration import TrainingConfiguration


@dataclass
class Cohort:
    """Labelled cases, in the cache, split into training and validation.

    files     every file that was read
    test      names of cases that a list sets aside
    left_out  names of cases that are not used: in no list, or without scans that training needs
    """

    scheme: LabelScheme
    training: list[CachedCase]
    validation: list[CachedCase]
    files: dict[str, Path]
    test: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def split(self) -> dict[str, Any]:
        """Who is on which side with which scans, and the one subset that a case keeps; with a checksum of it all."""
        sides = {"train": self.training, "validation": self.validation}
        record: dict[str, Any] = {
            side: {case.name: str(Subset.from_flags(case.present.tolist())) for case in cases}
            for side, cases in sides.items()
        }
        record |= {"test": self.test, "left_out": self.left_out}
        cases = [*self.training, *self.validation]
        record["kept"] = {
            case.name: str(Subset.from_flags(case.kept.tolist())) for case in cases if case.kept is not None
        }
        return {**record, "sha256": hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()}


def prepare(configuration: TrainingConfiguration, progress: Callable[[str, int, int], None]) -> Cohort:
    """Finds, checks, splits and caches the cohort; `progress` hears each case's name, how many are done and of how
    many.

    Raises `CohortError` if no case has a label or a list does not fit, `LabelError` if the scheme cannot be trained on,
    and whatever is wrong with a scan, before the first training step.
    """
    scheme = label_scheme(configuration.label_scheme)
    if not scheme.trainable:
        raise LabelError(
            f"The scheme {scheme.name} ({scheme.description}) does not tell enhancing tumour from the core's rest.",
            "Train on a cohort with another scheme; this one can be evaluated on.",
        )
    cases = [case for case in find_cases(configuration.data) if case.label is not None]
    if not cases:
        raise CohortError(f"No case in {configuration.data} has a label map.", "Training needs labelled cases.")
    recipe = configuration.recipe
    listed = divide(cases, recipe.split)
    files = _lists(recipe)
    subsets = _listed_subsets(files.get("subsets"), cases)
    training, validation = (_with_scans_to_use(side, recipe) for side in (listed.training, listed.validation))
    used = {case.name: case for case in (*training, *validation)}
    lacking = [case.name for case in (*listed.training, *listed.validation) if case.name not in used]
    not_listed = [case.name for case in listed.left_out]
    if not training:
        asked = f" with {Subset.of(_needed(recipe))}, which `subsets` asks for" if lacking else ""
        raise CohortError(
            f"No case is left to train on{asked}.", "Look at the lists, and at which scans the labelled cases have."
        )
    if not_listed:
        _note_left_out(not_listed, "they stand in no list")
    if lacking:
        _note_left_out(lacking, f"they lack one of {Subset.of(_needed(recipe))}")
    _note_what_nobody_has(training, recipe)
    cached: dict[str, CachedCase] = {}
    for done, case in enumerate(used.values()):
        progress(case.name, done, len(used))
        cached[case.name] = cache_case(case, scheme, recipe.preprocessing, configuration.cache)
        files |= {f"{case.name}: {what}": path for what, path in case.files().items()}
    progress("", len(used), len(used))
    if recipe.split.validation is None:
        patients = _held_out_patients(training, cached, recipe)
        validation = [case for case in training if case.patient in patients]
        training = [case for case in training if case.patient not in patients]
    return Cohort(
        scheme,
        [_keeping(cached[case.name], _fixed_subset(case, recipe, subsets)) for case in training],
        [_keeping(cached[case.name], listed.subsets.get(case.name)) for case in validation],
        files,
        [case.name for case in listed.test],
        not_listed + lacking,
    )


def _lists(recipe: Recipe) -> dict[str, Path]:
    """The lists that a recipe names: what each is for -> file."""
    lists = {f"split.{part}": getattr(recipe.split, part) for part in ("train", "validation", "test")}
    lists["subsets"] = next((stage.subset_list for stage in recipe.stages if stage.subset_list), None)
    return {what: path for what, path in lists.items() if path is not None}


def _listed_subsets(file: Path | None, cases: Sequence[Case]) -> Mapping[str, Subset | None] | None:
    """Case -> subset of the list that `Stage.subsets` names, if it names one."""
    if file is None:
        return None
    listed = read_list(file)
    check_names(listed, [case.name for case in cases], file)
    return listed


def _with_scans_to_use(cases: Sequence[Case], recipe: Recipe) -> list[Case]:
    """Cases with the scans that training may see; without those that lack a modality that dedicated stages ask for."""
    cases = [incomplete(case, recipe.missing_rates, recipe.seed) for case in cases]
    needed = _needed(recipe)
    cases = [case for case in cases if needed <= case.scans.keys()]
    if needed and all(stage.single_subset for stage in recipe.stages):
        # What no stage looks at does not shape the box around the brain either, as where it is missing in truth.
        cases = [replace(case, scans={m: case.scans[m] for m in needed}) for case in cases]
    return cases


def _needed(recipe: Recipe) -> set[str]:
    return {modality for stage in recipe.stages for modality in stage.single_subset or ()}


def _note_left_out(names: Sequence[str], why: str) -> None:
    some = f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
    warnings.warn(f"Cases left out, because {why}: {len(names)} ({some}).", AnymriWarning, stacklevel=3)


def _note_what_nobody_has(cases: Sequence[Case], recipe: Recipe) -> None:
    absent = [m for m in MODALITIES if not any(m in case.scans for case in cases)]
    if absent and not all(stage.single_subset for stage in recipe.stages):
        warnings.warn(
            f"No case to train on has a scan of {' or '.join(absent)}: the network learns nothing of it.",
            AnymriWarning,
            stacklevel=3,
        )


def _held_out_patients(cases: Sequence[Case], cached: dict[str, CachedCase], recipe: Recipe) -> set[str]:
    """Drawn alike from patients with the same scans who have, or have not, enhancing tumour in one of their labels."""
    strata: dict[str, tuple[str, bool]] = {}
    for case in cases:
        patient = str(case.patient)
        scans, enhancing = strata.get(patient, (str(case.subset), False))
        strata[patient] = scans, enhancing or cached[case.name].holds(ET)
    return held_out(strata, recipe.split, recipe.validation_share, recipe.seed)


def _fixed_subset(case: Case, recipe: Recipe, listed: Mapping[str, Subset | None] | None) -> Subset | None:
    """The subset that a training case keeps, if stages ask for one."""
    if not any(stage.fixes_subsets for stage in recipe.stages):
        return None
    if listed is None:
        return fixed_subset(case, recipe.seed)
    if listed.get(case.name) is None:
        raise CohortError(
            f"Case {case.name} is trained on and has no subset in the list.", "Add it to the list that `subsets` names."
        )
    return listed[case.name]


def _keeping(case: CachedCase, subset: Subset | None) -> CachedCase:
    """The case with the one subset that it keeps, cut to the scans that exist."""
    if subset is None:
        return case
    kept = case.present & subset.as_tensor()[0]
    if not kept.any():
        raise CohortError(
            f"Case {case.name} shall keep {subset} and has {Subset.from_flags(case.present.tolist())}.",
            "Correct the list of subsets.",
        )
    return replace(case, kept=kept)
