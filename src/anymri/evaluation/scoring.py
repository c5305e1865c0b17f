"""Scores label maps that some tool wrote, each against the label map of the same case."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from anymri.data.case import turned_to_grid
from anymri.data.image import image_stem, read_image, to_lps
from anymri.data.layouts import find_cases
from anymri.errors import CohortError, ConfigurationError, ModalityError
from anymri.evaluation.folder import evaluate_all, write_provenance
from anymri.evaluation.metrics import DEFAULT, choose, conventions
from anymri.evaluation.metrics.comparison import Comparison
from anymri.evaluation.rows import CaseMetrics
from anymri.modalities import ALL, SUBSETS, Subset
from anymri.progress import Progress, silent
from anymri.regions import LabelScheme, label_scheme

# Words at the end of a file's name that say what it is, and belong to no case's name.
_ROLE = re.compile(r"(?:^|[-_. ])(?:seg|segm|segmentation|label|labels|pred|prediction|mask|truth|gt)$", re.IGNORECASE)
_NAMED = "Name files CASE.nii.gz or CASE-seg.nii.gz, or give each case a folder with one segmentation.nii.gz."


def score_masks(
    predictions: Path,
    labels: Path,
    output: Path,
    scheme_name: str,
    prediction_scheme_name: str | None = None,
    progress: Progress = silent,
    *,
    name: str | None = None,
    subset: Subset = ALL,
    metrics: Sequence[str] = DEFAULT,
) -> pd.DataFrame:
    """Scores all predicted cases; a labelled case without a prediction is marked and in no mean.

    predictions             label maps, CASE.nii.gz or CASE/segmentation.nii.gz; or one such folder for each subset,
                            named as in T1c+FLAIR
    labels                  a cohort with labels, or a folder of label maps named in the same way
    scheme_name             label scheme of the labels
    prediction_scheme_name  of the predictions; default: the same
    name                    of the tool, for tables; default: the name of the folder
    subset                  what the predictions were made from, where the folder does not say it
    """
    chosen = choose(metrics)
    for metric in chosen:
        if metric.needs != "masks":
            raise ConfigurationError(
                f"{metric.name} needs {metric.needs}, and there are masks alone.", "Leave it out, or evaluate weights."
            )
    scheme, predicted_scheme = label_scheme(scheme_name), label_scheme(prediction_scheme_name or scheme_name)
    by_subset = _predictions(predictions, subset)
    truths = _labels(labels)
    _check_known(by_subset, truths, labels)
    predicted = {case for maps in by_subset.values() for case in maps}
    files = {
        case: {"label": label} | {f"from {s}": maps[case] for s, maps in by_subset.items() if case in maps}
        for case, label in sorted(truths.items())
    }
    settings = {
        "predictions": str(predictions.absolute()),
        "label_scheme": scheme.name,
        "prediction_scheme": predicted_scheme.name,
        "conventions": conventions(chosen),
        "subsets": list(by_subset),
        "name": name or predictions.absolute().name,
    }
    if not predicted & set(truths):
        raise CohortError(f"No case in {labels} has a prediction in {predictions}.", _NAMED)

    def score(case: str) -> CaseMetrics:
        scored = CaseMetrics()
        for each, maps in by_subset.items():
            compared: Comparison | str = "no prediction"
            if case in maps:
                compared = _compare(case, maps[case], predicted_scheme, truths[case], scheme)
            scored.add(case, Subset.parse(each), chosen, _common(scheme, predicted_scheme), compared)
        return scored

    scores = evaluate_all(output, settings, files, score, progress)
    write_provenance(output, {**settings, "labels": str(labels)}, {}, files, "cpu")
    return scores


def _compare(case: str, prediction: Path, predicted: LabelScheme, label: Path, scheme: LabelScheme) -> Comparison:
    truth, found = read_image(label), read_image(prediction)
    array = turned_to_grid(found, truth, case)
    classes = scheme.to_classes(to_lps(truth.array, truth.affine)[0], str(label))
    spacing = np.linalg.norm(to_lps(truth.array, truth.affine)[1][:3, :3], axis=0).tolist()
    return Comparison(predicted.to_classes(array, str(prediction)), classes, spacing)


def _common(scheme: LabelScheme, predicted: LabelScheme) -> LabelScheme:
    """The scheme that tells fewer regions apart."""
    return min(scheme, predicted, key=lambda each: len(each.regions))


def _predictions(folder: Path, subset: Subset) -> dict[str, dict[str, Path]]:
    """Subset -> case -> file, subsets in the order of the tables."""
    if not folder.is_dir():
        raise CohortError(f"{folder} is no folder.", "Give the folder with the predicted label maps.")
    children = [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    named = {str(s): child for child in children if (s := _as_subset(child.name)) is not None}
    if not named or len(named) < len(children):
        return {str(subset): _label_maps(folder)}
    return {str(s): _label_maps(named[str(s)]) for s in SUBSETS if str(s) in named}


def _as_subset(name: str) -> Subset | None:
    try:
        return Subset.parse(name)
    except ModalityError:
        return None


def _labels(folder: Path) -> dict[str, Path]:
    """Case -> label map, of a cohort or of a folder of nothing but label maps."""
    try:
        labelled = {case.name: case.label for case in find_cases(folder) if case.label is not None}
    except CohortError:
        if not folder.is_dir():
            raise
        return _label_maps(folder)
    if not labelled:
        raise CohortError(f"No case in {folder} has a label map.", "Evaluation needs labels.")
    return labelled


def _label_maps(folder: Path) -> dict[str, Path]:
    """Case -> image file in the folder and those below it."""
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        stem = image_stem(file)
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if stem is None or hidden or not file.is_file():
            continue
        # segmentation.nii.gz belongs to the case that its folder is named after
        case = _ROLE.sub("", stem) or file.parent.name
        if case in found:
            raise CohortError(f"{found[case]} and {file} both look like the label map of case {case}.", _NAMED)
        found[case] = file
    if not found:
        raise CohortError(f"No label map was found in {folder}.", _NAMED)
    return found


def _check_known(by_subset: Mapping[str, Mapping[str, Path]], truths: Mapping[str, Path], labels: Path) -> None:
    foreign = sorted({case for maps in by_subset.values() for case in maps} - set(truths))
    if foreign:
        shown = ", ".join(foreign[:6]) + (", ..." if len(foreign) > 6 else "")
        what = f"{shown} {'has' if len(foreign) == 1 else 'have'} a prediction but no label in {labels}."
        raise CohortError(what, f"Add the labels, or take the predictions away. {_NAMED}")
