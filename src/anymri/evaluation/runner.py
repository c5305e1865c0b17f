"""Scores weights on a cohort, for every subset of modalities that each case has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anymri.data.case import Study, read_study
from anymri.data.layouts import find_cases
from anymri.data.preprocessing import brain_mask, preprocess
from anymri.errors import CohortError, ConfigurationError
from anymri.evaluation.calibration import RegionProbabilities
from anymri.evaluation.comparison import Comparison
from anymri.evaluation.definitions import Needs
from anymri.evaluation.folder import Progress, score_all, silent, write_manifest
from anymri.evaluation.metrics import DEFAULT, Metric, choose, conventions
from anymri.evaluation.reconstruction import RebuiltScans
from anymri.evaluation.scores import CaseScores
from anymri.files import sha256
from anymri.inference.device import pick_device
from anymri.inference.windows import Volume, Windows, check_rebuilds, predict, predict_and_rebuild
from anymri.modalities import SUBSETS, Subset
from anymri.regions import LabelScheme, label_scheme, region_mask, to_label_map
from anymri.systems.base import System
from anymri.systems.weights import WeightsCard, find_weights, load_weights


@dataclass
class Evaluation:
    """What `evaluate` found.

    scores  the tidy table that `scores.csv` holds: `COLUMNS`, one row a case, subset, region and metric. Subsets that a
            case lacks scans for are rows with a status that says so and no value, never a zero
    card    the card of the weights
    """

    scores: pd.DataFrame
    card: WeightsCard


def evaluate(
    weights: Path,
    data: Path,
    output: Path,
    scheme_name: str | None = None,
    device: str = "auto",
    progress: Progress = silent,
    *,
    subsets: Sequence[Subset] = SUBSETS,
    metrics: Sequence[str] = DEFAULT,
) -> Evaluation:
    """Scores all labelled cases of a cohort on subsets; each window is encoded once for all of them.

    weights      a run folder or weights file
    data         a cohort; cases without a label are left out
    output       the evaluation folder; finished cases found there are kept
    scheme_name  label scheme of the cohort; default: the one that the weights were trained on
    progress     called with a case's name, and how many of how many cases are done before it
    metrics      names in `METRICS`
    """
    chosen = choose(metrics)
    where = pick_device(device)
    file = find_weights(weights)
    system, card = load_weights(file, where)
    if _needs(chosen, "rebuilt scans"):
        check_rebuilds(system)
    scheme = _scheme(scheme_name or card.label_scheme)
    cases = {case.name: case for case in find_cases(data) if case.label is not None}
    if not cases:
        raise CohortError(f"No case in {data} has a label map.", "Evaluation needs labels; without them use segment.")
    settings = {
        "weights_sha256": sha256(file),
        "label_scheme": scheme.name,
        "conventions": conventions(chosen),
        "subsets": [str(subset) for subset in subsets],
    }
    files = {name: case.files() for name, case in cases.items()}

    def score(name: str) -> CaseScores:
        return score_case(read_study(cases[name], scheme), system, card, scheme, subsets, chosen)

    scores = score_all(output, settings, files, score, progress)
    record = {**settings, "data": str(data), "weights": card.model_dump(mode="json")}
    write_manifest(output, record, {"weights": file}, files, str(where))
    return Evaluation(scores, card)


def score_case(
    study: Study,
    system: System[Any],
    card: WeightsCard,
    scheme: LabelScheme,
    subsets: Sequence[Subset],
    metrics: Sequence[Metric],
) -> CaseScores:
    """Every metric of every region on every subset that the case has scans for; `study` holds its label."""
    assert study.classes is not None
    possible = [s for s in subsets if all(m in study.images for m in s)]
    data = preprocess(study, card.preprocessing)
    classes = study.classes[data.box]
    real = dict(zip(data.modalities, data.images, strict=True))
    rebuilds = _needs(metrics, "rebuilt scans")
    asked = (system, Volume.of(data), possible, Windows.of(card))
    answers = iter(predict_and_rebuild(*asked) if rebuilds else ((answer, {}) for answer in predict(*asked)))
    brain = brain_mask(study)[data.box] if rebuilds or _needs(metrics, "probabilities") else None
    spacing = np.linalg.norm(study.affine[:3, :3], axis=0).tolist()
    scored = CaseScores()
    for subset in subsets:
        compared: Comparison | str = f"{', '.join(m for m in subset if m not in study.images)} absent"
        if subset in possible:
            answer, made = next(answers)
            predicted = data.paste(to_label_map(answer, system.scores).numpy())
            probabilities = rebuilt = None
            if brain is not None:
                probabilities = RegionProbabilities(answer.numpy(), system.scores, classes, brain)
                places = {"brain": brain, "tumour": region_mask(classes, "WT")}
                rebuilt = RebuiltScans({m: scan.numpy() for m, scan in made.items()}, real, places)
            compared = Comparison(predicted, study.classes, spacing, probabilities, rebuilt)
        scored.add(study.case.name, subset, metrics, scheme, compared)
    return scored


def _needs(metrics: Sequence[Metric], what: Needs) -> bool:
    return any(metric.needs == what for metric in metrics)


def seen_in_training(scores: pd.DataFrame, card: WeightsCard) -> list[str]:
    """Names of scored cases that the weights were trained on."""
    return sorted(set(scores["case"]) & set(card.trained_on))


def _scheme(name: str | None) -> LabelScheme:
    if name is None:
        raise ConfigurationError(
            "The weights do not say which label scheme they were trained on.", "Name the cohort's with --label-scheme."
        )
    return label_scheme(name)
