"""Cohort of a training: its cases are found, checked, split by patient and preprocessed before the first step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from anymri.data.cache import CachedCase, cache_case
from anymri.data.case import Case
from anymri.data.layouts import find_cohort
from anymri.data.layouts.found import counted, warn_without_tumour
from anymri.errors import AnymriWarning, CohortError, InputWarning
from anymri.files import digest, remove_leftovers
from anymri.modalities import MODALITIES, Subset
from anymri.progress import Progress
from anymri.regions import ET, LabelScheme, label_scheme
from anymri.systems.recipes.schema import Recipe
from anymri.training.cohort.missing import fixed_subset, incomplete
from anymri.training.cohort.split import FEWEST_PATIENTS_TO_SPLIT, check_names, divide, held_out, read_list
from anymri.training.cohort.synthetic import SyntheticCases, validation_cases
from anymri.training.configuration import TrainingConfiguration


@dataclass
class Cohort:
    """Labelled cases in the cache, split into training and validation.

    files   what a file is -> every file that was read
    test    names of the cases of a test list
    unused  names of cases that are in none of the lists, or lack scans that training needs
    skipped reason -> names of cases and files of the folder that are not used, see `anymri.data.layouts.found`
    """

    scheme: LabelScheme
    training: Sequence[CachedCase]
    validation: list[CachedCase]
    files: dict[str, Path]
    test: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_synthetic(self) -> bool:
        """Whether the cases are made in training."""
        return isinstance(self.training, SyntheticCases)

    @property
    def training_names(self) -> list[str]:
        """Names of the training cases; of synthetic ones, what determines them."""
        if isinstance(self.training, SyntheticCases):
            return [self.training.description]
        return [case.name for case in self.training]

    def split(self) -> dict[str, Any]:
        """Return the split with a checksum: training and validation cases with their modalities, and fixed subsets.

        What is skipped is beside it, so that a new file that is not used does not change the split.
        """
        if isinstance(self.training, SyntheticCases):
            parts: dict[str, Any] = {
                "train": self.training_names,
                "validation": [each.name for each in self.validation],
            }
            return {**parts, "sha256": digest(parts), "skipped": {}}
        parts = {"train": self.training, "validation": self.validation}
        record: dict[str, Any] = {
            part: {case.name: str(Subset.from_flags(case.present.tolist())) for case in cases}
            for part, cases in parts.items()
        }
        record |= {"test": self.test, "unused": self.unused}
        cases = [*self.training, *self.validation]
        record["kept"] = {
            case.name: str(Subset.from_flags(case.kept.tolist())) for case in cases if case.kept is not None
        }
        return {**record, "sha256": digest(record), "skipped": self.skipped}


def prepare(configuration: TrainingConfiguration, progress: Progress, check: bool = True) -> Cohort:
    """Find, check, split and cache the cohort; `progress` receives each case before it is preprocessed.

    check  compare the checksums of the cache: once per node, in the first of its processes

    Raises `CohortError` if no case has a label map or a list does not fit, and the error of any scan that cannot be
    used.
    """
    scheme = label_scheme(configuration.label_scheme)
    if configuration.is_synthetic:
        made = SyntheticCases.of(configuration.recipe, configuration.initial_weights is not None)
        return Cohort(scheme, made, validation_cases(configuration.recipe), {})
    found = find_cohort(configuration.data).labelled(configuration.data)
    cases = found.cases
    recipe = configuration.recipe
    listed = divide(cases, recipe.split)
    files = _lists(recipe)
    subsets = _listed_subsets(files.get("subsets"), cases)
    training, validation = (_with_usable_scans(part, recipe) for part in (listed.training, listed.validation))
    used = {case.name: case for case in (*training, *validation)}
    incomplete_names = [case.name for case in (*listed.training, *listed.validation) if case.name not in used]
    not_listed = [case.name for case in listed.unused]
    required = Subset.of(_required(recipe)) if incomplete_names else ""
    if not training:
        condition = f" with {required}, which `subsets` requires" if incomplete_names else ""
        raise CohortError(
            f"No case remains to train on{condition}.", "Check the lists, and which scans the labelled cases have."
        )
    if not_listed:
        _note("Cases not used, because no list names them", not_listed, InputWarning)
    if incomplete_names:
        _note(f"Cases not used, because one of {required} is missing", incomplete_names, InputWarning)
    _warn_of_missing_everywhere(training, recipe)
    remove_leftovers(configuration.cache)
    cached: dict[str, CachedCase] = {}
    for done, case in enumerate(used.values()):
        progress(case.name, done, len(used))
        cached[case.name] = cache_case(case, scheme, recipe.preprocessing, configuration.cache, check)
        files |= {f"{case.name}: {what}": path for what, path in case.files().items()}
    progress("", len(used), len(used))
    if not any(case.tumour_voxels() for case in cached.values()):
        warn_without_tumour(configuration.data)
    if rebuilt := [name for name, case in cached.items() if case.rebuilt]:
        _note(
            f"Cases made again, because their entries in the cache {configuration.cache} were damaged",
            rebuilt,
            AnymriWarning,
        )
    if recipe.split.validation is None:
        patients = _validation_patients(training, cached, recipe)
        validation = [case for case in training if case.patient in patients]
        training = [case for case in training if case.patient not in patients]
    return Cohort(
        scheme,
        [_with_fixed_subset(cached[case.name], _fixed_subset(case, recipe, subsets)) for case in training],
        [_with_fixed_subset(cached[case.name], listed.subsets.get(case.name)) for case in validation],
        files,
        [case.name for case in listed.test],
        not_listed + incomplete_names,
        found.skipped,
    )


def _lists(recipe: Recipe) -> dict[str, Path]:
    """Return the lists that a recipe names: purpose -> file."""
    lists = {f"split.{part}": getattr(recipe.split, part) for part in ("train", "validation", "test")}
    lists["subsets"] = next((stage.subset_list for stage in recipe.stages if stage.subset_list), None)
    return {what: path for what, path in lists.items() if path is not None}


def _listed_subsets(file: Path | None, cases: Sequence[Case]) -> Mapping[str, Subset | None] | None:
    """Return case -> subset of the list that `Stage.subsets` names; None if it names none."""
    if file is None:
        return None
    listed = read_list(file)
    check_names(listed, [case.name for case in cases], file)
    return listed


def _with_usable_scans(cases: Sequence[Case], recipe: Recipe) -> list[Case]:
    """Return the cases with the scans that training may use, without cases that miss a scan of a dedicated stage."""
    cases = [incomplete(case, recipe.missing_rates, recipe.seed) for case in cases]
    required = _required(recipe)
    cases = [case for case in cases if required <= case.scans.keys()]
    if required and all(stage.single_subset for stage in recipe.stages):
        # Scans that no stage uses do not change the box around the brain either, as if their files did not exist.
        cases = [replace(case, scans={m: case.scans[m] for m in required}) for case in cases]
    return cases


def _required(recipe: Recipe) -> set[str]:
    return {modality for stage in recipe.stages for modality in stage.single_subset or ()}


def _note(what: str, names: Sequence[str], kind: type[AnymriWarning]) -> None:
    warnings.warn(f"{what}: {counted(names)}.", kind, stacklevel=3)


def _warn_of_missing_everywhere(cases: Sequence[Case], recipe: Recipe) -> None:
    missing = [m for m in MODALITIES if not any(m in case.scans for case in cases)]
    if missing and not all(stage.single_subset for stage in recipe.stages):
        warnings.warn(
            f"No training case has a scan of {' or '.join(missing)}: the network learns nothing of it.",
            AnymriWarning,
            stacklevel=3,
        )


def _validation_patients(cases: Sequence[Case], cached: dict[str, CachedCase], recipe: Recipe) -> set[str]:
    """Return the patients held out for validation.

    Strata are patients with the same scans who have, or have not, enhancing tumour in one of their label maps.
    """
    strata: dict[str, tuple[str, bool]] = {}
    for case in cases:
        patient = str(case.patient)
        scans, enhancing = strata.get(patient, (str(case.subset), False))
        strata[patient] = scans, enhancing or cached[case.name].has_class(ET)
    if len(strata) < FEWEST_PATIENTS_TO_SPLIT and recipe.split.folds is None and recipe.validation_share:
        warnings.warn(
            f"No patient is held out for validation, because only {len(strata)} of at least "
            f"{FEWEST_PATIENTS_TO_SPLIT} can be trained on. A list holds out cases: --set split.validation=FILE",
            AnymriWarning,
            stacklevel=3,
        )
    return held_out(strata, recipe.split, recipe.validation_share, recipe.seed)


def _fixed_subset(case: Case, recipe: Recipe, listed: Mapping[str, Subset | None] | None) -> Subset | None:
    """Return the fixed subset of a training case; None if no stage fixes subsets."""
    if not any(stage.fixes_subsets for stage in recipe.stages):
        return None
    if listed is None:
        return fixed_subset(case, recipe.seed)
    if listed.get(case.name) is None:
        raise CohortError(
            f"The training case {case.name} has no subset in the list.", "Add it to the list that `subsets` names."
        )
    return listed[case.name]


def _with_fixed_subset(case: CachedCase, subset: Subset | None) -> CachedCase:
    """Return the case with the one subset that it keeps, cut to the scans that exist."""
    if subset is None:
        return case
    kept = case.present & subset.as_tensor()[0]
    if not kept.any():
        raise CohortError(
            f"The listed subset of case {case.name} is {subset}, and it has only "
            f"{Subset.from_flags(case.present.tolist())}.",
            "Correct the list of subsets.",
        )
    return replace(case, kept=kept)
