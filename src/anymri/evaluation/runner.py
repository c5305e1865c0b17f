"""Scores weights on a cohort, for every subset of modalities that each case has.

An evaluation is a folder: `scores.csv` (one row a case, subset, region and metric), `cases/` (one file a finished case,
so that a second run goes on where the first one stopped) and `manifest.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anymri.data.case import Case, Study, read_study
from anymri.data.layouts import find_cases
from anymri.data.preprocessing import preprocess
from anymri.errors import CohortError, ConfigurationError, RunError
from anymri.evaluation.metrics import CONVENTIONS, dice, hd95
from anymri.evaluation.scores import COLUMNS, SCORED
from anymri.files import output_folder, replacing, sha256, write_json
from anymri.inference.device import pick_device
from anymri.inference.windows import images_for, predict
from anymri.manifest import manifest
from anymri.modalities import SUBSETS, Subset
from anymri.regions import LabelScheme, label_scheme, region_mask, to_label_map
from anymri.systems.base import System
from anymri.systems.weights import WeightsCard, find_weights, load_weights

Row = dict[str, Any]


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
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Evaluation:
    """Scores all labelled cases of a cohort on all 15 subsets; each window is encoded once for all of them.

    weights      a run folder or weights file
    data         a cohort; cases without a label are left out
    output       the evaluation folder; finished cases found there are kept
    scheme_name  label scheme of the cohort; default: the one that the weights were trained on
    progress     called with a case's name, and how many of how many cases are done before it
    """
    where = pick_device(device)
    file = find_weights(weights)
    system, card = load_weights(file, where)
    scheme = _scheme(scheme_name or card.label_scheme)
    cases = [case for case in find_cases(data) if case.label is not None]
    if not cases:
        raise CohortError(f"No case in {data} has a label map.", "Evaluation needs labels; without them use segment.")
    settings = {"weights_sha256": sha256(file), "label_scheme": scheme.name, "conventions": CONVENTIONS}
    _claim(output, settings)
    for done, case in enumerate(cases):
        progress(case.name, done, len(cases))
        if _finished_rows(output, case) is None:
            _score_and_keep(output, case, system, card, scheme)
    progress("", len(cases), len(cases))
    scores = pd.DataFrame([row for case in cases for row in _finished_rows(output, case) or []], columns=COLUMNS)
    with replacing(output / "scores.csv") as temporary:
        scores.to_csv(temporary, index=False)
    record = {**settings, "data": str(data), "weights": card.model_dump(mode="json")}
    inputs = {"weights": file} | {f"{c.name}: {what}": path for c in cases for what, path in c.files().items()}
    write_json(output / "manifest.json", manifest("evaluate", record, inputs, str(where)))
    return Evaluation(scores, card)


def score_case(
    study: Study, system: System[Any], card: WeightsCard, scheme: LabelScheme, subsets: Sequence[Subset] = SUBSETS
) -> list[Row]:
    """Dice and HD95 of every region on every subset that the case has scans for; `study` holds its label."""
    assert study.classes is not None
    missing = {str(s): [m for m in s if m not in study.images] for s in subsets}
    possible = [s for s in subsets if not missing[str(s)]]
    data = preprocess(study, card.preprocessing)
    probabilities = predict(system, *images_for(data), possible, card.window, card.window_overlap, data.origin)
    maps = {
        str(s): data.paste(to_label_map(p, system.scores).numpy()) for s, p in zip(possible, probabilities, strict=True)
    }
    spacing = np.linalg.norm(study.affine[:3, :3], axis=0)
    rows = []
    for region in ("WT", "TC", "ET", "RC") if "RC" in scheme.regions else ("WT", "TC", "ET"):
        known = region in scheme.regions
        truth = region_mask(study.classes, region) if known else None
        for subset in map(str, subsets):
            base: Row = {"case": study.case.name, "subset": subset, "region": region}
            if missing[subset] or truth is None:
                status = f"{', '.join(missing[subset])} absent" if missing[subset] else f"no {region} in {scheme.name}"
                rows += [{**base, "metric": metric, "value": None, "status": status} for metric in CONVENTIONS]
                continue
            predicted = region_mask(maps[subset], region)
            values = {"dice": dice(predicted, truth), "hd95": hd95(predicted, truth, spacing)}
            rows += [{**base, "metric": metric, "value": value, "status": SCORED} for metric, value in values.items()]
    return rows


def seen_in_training(scores: pd.DataFrame, card: WeightsCard) -> list[str]:
    """Names of scored cases that the weights were trained on."""
    return sorted(set(scores["case"]) & set(card.trained_on))


def _scheme(name: str | None) -> LabelScheme:
    if name is None:
        raise ConfigurationError(
            "The weights do not say which label scheme they were trained on.", "Name the cohort's with --label-scheme."
        )
    return label_scheme(name)


def _claim(output: Path, settings: dict[str, Any]) -> None:
    """Makes `output` the folder of this evaluation, or refuses if it holds another one."""
    record = output / "settings.json"
    if record.exists():
        if json.loads(record.read_text()) != settings:
            raise RunError(
                f"{output} holds an evaluation of other weights or with another label scheme.",
                "Choose another folder with -o, or delete this one.",
            )
        return
    if output.exists() and any(output.iterdir()):
        raise RunError(f"{output} is not empty and holds no evaluation.", "Choose a new or empty folder with -o.")
    write_json(output_folder(output) / "settings.json", settings)


def _score_and_keep(output: Path, case: Case, system: System[Any], card: WeightsCard, scheme: LabelScheme) -> None:
    rows = score_case(read_study(case, scheme), system, card, scheme)
    write_json(_case_file(output, case), {"files": _fingerprint(case), "rows": rows})


def _finished_rows(output: Path, case: Case) -> list[Row] | None:
    """Rows kept by an earlier run, if the case's files are still the same."""
    file = _case_file(output, case)
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    rows: list[Row] | None = kept["rows"] if kept["files"] == _fingerprint(case) else None
    return rows


def _case_file(output: Path, case: Case) -> Path:
    return output / "cases" / f"{case.name}.json"


def _fingerprint(case: Case) -> dict[str, str]:
    return {what: sha256(path) for what, path in case.files().items()}
