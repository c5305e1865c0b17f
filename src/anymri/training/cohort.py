"""The cases of a training: found, split by patient, preprocessed. Everything that can be wrong is found here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anymri.data.cache import CachedCase, cache_case
from anymri.data.case import Case
from anymri.data.layouts import find_cases
from anymri.errors import CohortError, LabelError
from anymri.regions import LabelScheme, label_scheme
from anymri.training.configuration import TrainingConfiguration

# With fewer patients than this all are trained on, and nothing is held out for validation.
FEWEST_PATIENTS_TO_SPLIT = 5


@dataclass
class Cohort:
    """Labelled cases, in the cache, split into training and validation."""

    scheme: LabelScheme
    training: list[CachedCase]
    validation: list[CachedCase]
    files: dict[str, Path]


def prepare(configuration: TrainingConfiguration, progress: Callable[[str, int, int], None]) -> Cohort:
    """Finds, checks, splits and caches the cohort; `progress` hears each case's name, how many are done and of how
    many.

    Raises `CohortError` if no case has a label, `LabelError` if the scheme cannot be trained on, and whatever is wrong
    with a scan, before the first training step.
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
    held_out = validation_patients(cases, configuration.recipe.validation_share, configuration.recipe.seed)
    cohort = Cohort(scheme, [], [], {})
    for done, case in enumerate(cases):
        progress(case.name, done, len(cases))
        cached = cache_case(case, scheme, configuration.recipe.preprocessing, configuration.cache)
        (cohort.validation if case.patient in held_out else cohort.training).append(cached)
        cohort.files |= {f"{case.name}: {what}": path for what, path in case.files().items()}
    progress("", len(cases), len(cases))
    return cohort


def validation_patients(cases: list[Case], share: float, seed: int) -> set[str | None]:
    """Patients held out: a share of all, at least one; none with few patients. Time points of one stay together."""
    patients = sorted({case.patient or case.name for case in cases})
    if len(patients) < FEWEST_PATIENTS_TO_SPLIT or share == 0:
        return set()
    count = max(1, round(share * len(patients)))
    return set(np.random.default_rng(seed).permutation(patients)[:count].tolist())
