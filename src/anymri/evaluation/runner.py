"""Scores weights on a cohort, for every subset of modalities that each case has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from anymri.data.case import Study, read_study
from anymri.data.layouts import find_cases
from anymri.data.preprocessing import brain_mask
from anymri.errors import CohortError, ConfigurationError
from anymri.evaluation.folder import evaluate_all, write_provenance
from anymri.evaluation.metrics import DEFAULT, Metric, choose, conventions
from anymri.evaluation.metrics.calibration import RegionProbabilities
from anymri.evaluation.metrics.comparison import Comparison
from anymri.evaluation.metrics.definitions import Needs
from anymri.evaluation.metrics.reconstruction import ReconstructedScans
from anymri.evaluation.rows import CaseMetrics
from anymri.files import sha256
from anymri.inference.segmenter import Segmenter
from anymri.inference.windows import check_reconstructs
from anymri.modalities import SUBSETS, Subset
from anymri.progress import Progress, silent
from anymri.regions import LabelScheme, label_scheme, region_mask
from anymri.weights.card import WeightsCard


@dataclass
class Evaluation:
    """What `evaluate` found.

    metrics  the tidy table that `metrics.csv` holds: `COLUMNS`, one row a case, subset, region and metric. Subsets that a
            case lacks scans for are rows with a status that says so and no value, never a zero
    card    the card of the weights
    """

    metrics: pd.DataFrame
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
    segmenter = Segmenter.load(weights, device)
    assert segmenter.weights is not None
    if _needs(chosen, "reconstructed scans"):
        check_reconstructs(segmenter.system)
    scheme = _scheme(scheme_name or segmenter.card.label_scheme)
    cases = {case.name: case for case in find_cases(data) if case.label is not None}
    if not cases:
        raise CohortError(f"No case in {data} has a label map.", "Evaluation needs labels; without them use segment.")
    settings = {
        "weights_sha256": sha256(segmenter.weights),
        "label_scheme": scheme.name,
        "conventions": conventions(chosen),
        "subsets": [str(subset) for subset in subsets],
    }
    files = {name: case.files() for name, case in cases.items()}

    def evaluate_one(name: str) -> CaseMetrics:
        return evaluate_case(segmenter, read_study(cases[name], scheme), scheme, subsets, chosen)

    rows = evaluate_all(output, settings, files, evaluate_one, progress)
    record = {**settings, "data": str(data), "weights": segmenter.card.model_dump(mode="json")}
    write_provenance(output, record, {"weights": segmenter.weights}, files, str(segmenter.device))
    return Evaluation(rows, segmenter.card)


def evaluate_case(
    segmenter: Segmenter, study: Study, scheme: LabelScheme, subsets: Sequence[Subset], metrics: Sequence[Metric]
) -> CaseMetrics:
    """Return every metric of every region, for each subset that the case has scans for.

    study  a case with its label map
    """
    assert study.classes is not None
    possible = [s for s in subsets if all(m in study.images for m in s)]
    case = segmenter.prepare(study)
    classes = study.classes[case.box]
    reconstructs = _needs(metrics, "reconstructed scans")
    predictions = iter(segmenter.predict(case, possible, reconstruct=reconstructs))
    brain = brain_mask(study)[case.box] if reconstructs or _needs(metrics, "probabilities") else None
    spacing = np.linalg.norm(study.affine[:3, :3], axis=0).tolist()
    found = CaseMetrics()
    for subset in subsets:
        compared: Comparison | str = f"{', '.join(m for m in subset if m not in study.images)} absent"
        if subset in possible:
            prediction = next(predictions)
            probabilities = reconstructed = None
            if brain is not None:
                probabilities = RegionProbabilities(prediction.probabilities.numpy(), prediction.kind, classes, brain)
                places = {"brain": brain, "tumour": region_mask(classes, "WT")}
                made = {modality: scan.numpy() for modality, scan in prediction.reconstructed.items()}
                reconstructed = ReconstructedScans(made, case.scans, places)
            predicted = case.paste(prediction.label_map())
            compared = Comparison(predicted, study.classes, spacing, probabilities, reconstructed)
        found.add(study.case.name, subset, metrics, scheme, compared)
    return found


def _needs(metrics: Sequence[Metric], what: Needs) -> bool:
    return any(metric.needs == what for metric in metrics)


def seen_in_training(metrics: pd.DataFrame, card: WeightsCard) -> list[str]:
    """Names of scored cases that the weights were trained on."""
    return sorted(set(metrics["case"]) & set(card.trained_on))


def _scheme(name: str | None) -> LabelScheme:
    if name is None:
        raise ConfigurationError(
            "The weights do not say which label scheme they were trained on.", "Name the cohort's with --label-scheme."
        )
    return label_scheme(name)
