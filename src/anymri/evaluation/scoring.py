"""Evaluation of label maps that any tool wrote, each against the label map of the same case."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from anymri.data.case import check_distinct, check_name, reorient_to_grid
from anymri.data.image import read_image, to_lps
from anymri.data.layouts import search
from anymri.data.layouts.found import warn_without_tumour
from anymri.data.layouts.listing import check_readable, folders_above, walk
from anymri.data.layouts.words import LABEL, LESION, MASK, PREDICTION
from anymri.errors import CohortError, ConfigurationError, ModalityError
from anymri.evaluation.folder import Plan, evaluate_all
from anymri.evaluation.metrics import DEFAULT, axes_of, choose, conventions
from anymri.evaluation.metrics.comparison import Comparison
from anymri.evaluation.result import Evaluation
from anymri.evaluation.rows import CaseMetrics
from anymri.modalities import ALL, SUBSETS, Subset, as_subset
from anymri.progress import Progress, silent
from anymri.provenance import recorded
from anymri.regions import LabelScheme
from anymri.regions import label_scheme as find_scheme
from anymri.text import listed

# Words at the end of a file name that say what the file is, and are not part of the name of the case.
_ROLE = re.compile(
    rf"(?:(?:^|[-_. ])(?:{'|'.join(sorted(LESION | {'ground', 'brain'}))}))?"
    rf"(?:(?:^|[-_. ])(?:{'|'.join(sorted(LABEL | MASK | PREDICTION))}))+$",
    re.IGNORECASE,
)
# Levels of folders below the one with label maps.
_DEPTH = 8
_NAMING = "Name files CASE.nii.gz or CASE-seg.nii.gz, or give each case a folder with one segmentation.nii.gz."
# Status of a case without a prediction.
_NO_PREDICTION = "no prediction"


def score(
    predictions: Path | str,
    labels: Path | str,
    output: Path | str,
    label_scheme: str,
    prediction_scheme: str | None = None,
    progress: Progress = silent,
    *,
    name: str | None = None,
    subset: Subset | str = ALL,
    metrics: Sequence[str] = DEFAULT,
) -> Evaluation:
    """Score the label maps of any tool; a labelled case without a prediction is marked and in no mean.

    predictions        label maps CASE.nii.gz or CASE/segmentation.nii.gz; or one such folder per subset, as T1c+FLAIR
    labels             a labelled cohort, or a folder of label maps with the same names
    output             evaluation folder; finished cases in it are kept
    label_scheme       meaning of the values of the labels, for example "brats2023"
    prediction_scheme  meaning of the values of the predictions; by default the same
    progress           called with the name of a case, and how many of how many cases are done before it
    name               name of the tool, for tables; by default that of the folder
    subset             subset that the predictions were made from, where folders are not named by subset
    metrics            names of metrics that need label maps only, see docs/evaluation.md

    Raises an `AnymriError` that names the file or option and the remedy.

    >>> import anymri
    >>> evaluation = anymri.score("MASKS", "COHORT", "NEW_SCORES", "brats2023", metrics=["dice"])
    >>> evaluation.rows[0]["status"]
    'scored'
    """
    predictions, labels, output = Path(predictions), Path(labels), Path(output)
    chosen = choose(metrics)
    for metric in chosen:
        if metric.needs != "masks":
            raise ConfigurationError(
                f"{metric.name} needs {metric.needs}, and label maps have none.",
                "Remove it from --metrics, or evaluate weights with `anymri evaluate`.",
            )
    scheme, predicted_scheme = find_scheme(label_scheme), find_scheme(prediction_scheme or label_scheme)
    by_subset = _predictions(predictions, as_subset(subset))
    truths, skipped = _labels(labels)
    predicted = {case for maps in by_subset.values() for case in maps}
    _check_labelled(predicted, truths, labels)
    files = {
        case: {"label": label} | {f"from {s}": maps[case] for s, maps in by_subset.items() if case in maps}
        for case, label in sorted(truths.items())
    }
    settings = {
        "predictions": recorded(predictions.absolute()),
        "label_scheme": scheme.name,
        "prediction_scheme": predicted_scheme.name,
        "conventions": conventions(chosen),
        "subsets": list(by_subset),
        "name": name or predictions.absolute().name,
    }

    has_tumour: dict[str, bool] = {}

    def score_one(case: str) -> CaseMetrics:
        found = CaseMetrics()
        for each, maps in by_subset.items():
            compared: Comparison | str = _NO_PREDICTION
            if case in maps:
                compared = _compare(case, maps[case], predicted_scheme, truths[case], scheme)
                has_tumour[case] = bool(compared.truth.any())
            found.add(case, Subset.parse(each), chosen, _common(scheme, predicted_scheme), compared)
        return found

    plan = Plan("score", settings, {"labels": str(labels), "skipped": skipped}, {}, files, "cpu")
    rows = evaluate_all(output, plan, score_one, progress)
    if has_tumour.keys() == predicted and not any(has_tumour.values()):
        warn_without_tumour(labels)
    return Evaluation(output, rows)


def _compare(case: str, prediction: Path, predicted: LabelScheme, label: Path, scheme: LabelScheme) -> Comparison:
    """Return prediction and truth as classes on the grid of the label map."""
    truth, found = read_image(label), read_image(prediction)
    array = reorient_to_grid(found, truth, case)
    in_lps, affine = to_lps(truth.array, truth.affine)
    classes = scheme.to_classes(in_lps, str(label))
    return Comparison(predicted.to_classes(array, str(prediction)), classes, axes_of(affine))


def _common(scheme: LabelScheme, predicted: LabelScheme) -> LabelScheme:
    """Return the scheme that distinguishes fewer regions."""
    return min(scheme, predicted, key=lambda each: len(each.regions))


def _predictions(folder: Path, subset: Subset) -> dict[str, dict[str, Path]]:
    """Return subset -> case -> file, subsets in the order of the tables."""
    if not folder.is_dir():
        raise CohortError(f"{folder} is not a folder.", "Give the folder with the predicted label maps.")
    children = [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    named = {str(s): child for child in children if (s := _subset_named(child.name)) is not None}
    if not named or len(named) < len(children):
        return {str(subset): _label_maps(folder)}
    return {str(s): _label_maps(named[str(s)]) for s in SUBSETS if str(s) in named}


def _subset_named(name: str) -> Subset | None:
    try:
        return Subset.parse(name)
    except ModalityError:
        return None


def _labels(folder: Path) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """Return case -> label map, of a cohort or of a folder of label maps only; and what is not used, by reason."""
    found = search(folder)
    if not found.cases and folder.is_dir():
        return _label_maps(folder), {}
    labelled = found.labelled(folder)
    return {case.name: case.label for case in labelled.cases if case.label is not None}, labelled.skipped


def _label_maps(folder: Path) -> dict[str, Path]:
    """Return case -> image file in the folder and the folders below it."""
    found: dict[str, Path] = {}
    for file, stem in (image for _, listing in walk(folder, _DEPTH, folders_above(folder)) for image in listing.images):
        check_readable(file)
        # segmentation.nii.gz belongs to the case that its folder is named after
        case = _ROLE.sub("", stem) or file.parent.name
        check_name(case)
        if case in found:
            raise CohortError(f"{found[case]} and {file} both look like the label map of case {case}.", _NAMING)
        found[case] = file
    if not found:
        raise CohortError(f"No label map was found in {folder}.", _NAMING)
    check_distinct(found)
    return found


def _check_labelled(predicted: set[str], truths: Mapping[str, Path], labels: Path) -> None:
    """Raise `CohortError` if a predicted case does not have a label map."""
    foreign = sorted(predicted - set(truths))
    if foreign:
        shown = ", ".join(foreign[:6]) + (", ..." if len(foreign) > 6 else "")
        verb = "has" if len(foreign) == 1 else "have"
        raise CohortError(
            f"{shown} {verb} a prediction but no label in {labels}, which has labels of {listed(sorted(truths), 3)}.",
            f"Add the labels, or remove the predictions. {_NAMING}",
        )
