"""Evaluation of weights on a cohort, for every subset of modalities that each case has."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from anymri.data.case import Study, read_study
from anymri.data.layouts import find_cohort
from anymri.data.layouts.found import warn_without_tumour
from anymri.data.preprocessing import brain_mask
from anymri.errors import ConfigurationError, InputWarning
from anymri.evaluation.folder import Plan, evaluate_all
from anymri.evaluation.metrics import Metric, axes_of, choose, conventions
from anymri.evaluation.metrics.calibration import RegionProbabilities
from anymri.evaluation.metrics.comparison import Comparison
from anymri.evaluation.metrics.definitions import Needs
from anymri.evaluation.metrics.reconstruction import ReconstructedScans
from anymri.evaluation.protocols import Protocol, find_protocol
from anymri.evaluation.result import Evaluation
from anymri.evaluation.rows import MISSING_STATUS, CaseMetrics
from anymri.inference.lanes import DEFAULT
from anymri.inference.segmenter import Segmenter
from anymri.inference.windows import check_reconstructs, predict
from anymri.modalities import SUBSETS, Subset, as_subset
from anymri.prepare.checks import is_unlike_training, spacing_text
from anymri.progress import Progress, silent
from anymri.regions import REGIONS, LabelScheme, region_mask
from anymri.regions import label_scheme as find_scheme
from anymri.systems.protocol import ANYMRI


def evaluate(
    weights: Segmenter | Path | str,
    data: Path | str,
    output: Path | str,
    label_scheme: str | None = None,
    device: str = "auto",
    progress: Progress = silent,
    *,
    subsets: Sequence[Subset | str] = SUBSETS,
    metrics: Sequence[str] | None = None,
    lane: str = "torch",
    protocol: str = ANYMRI,
) -> Evaluation:
    """Evaluate weights on all labelled cases of a cohort; each window is encoded once for all subsets.

    weights       a weights file, run folder, installed name; or a segmenter, which brings its device and lane
    data          a cohort: a folder or CSV manifest; cases without a label are not evaluated
    output        evaluation folder; finished cases in it are kept
    label_scheme  meaning of the label values; by default that of the training data of the weights
    device        auto, cpu, cuda, cuda:1, mps
    progress      called with the name of a case, and how many of how many cases are done before it
    subsets       subsets of modalities, for example ["T1c+FLAIR", "T2"]; by default all 15
    metrics       names of metrics, see docs/evaluation.md; by default those of the protocol
    lane          how the network is computed, see `Segmenter.load`
    protocol      anymri, which is the same for all systems, or reference: as the authors of the system test

    Raises an `AnymriError` that names the file or option and the remedy.

    >>> import anymri
    >>> evaluation = anymri.evaluate("RUN", "COHORT", "NEW_EVALUATION", subsets=["T1c+FLAIR"], metrics=["dice"])
    >>> list(evaluation.metrics.columns)
    ['case', 'subset', 'region', 'metric', 'value', 'status']
    """
    output, wanted = Path(output), [as_subset(subset) for subset in subsets]
    named = None if metrics is None else choose(metrics)
    segmenter = weights if isinstance(weights, Segmenter) else Segmenter.load(weights, device, lane)
    if segmenter.weights is None:
        raise ConfigurationError(
            "The segmenter was not loaded from a file, so its results cannot be traced to weights.",
            "Save the weights, and evaluate their file.",
        )
    tested = find_protocol(protocol, segmenter)
    chosen = named or choose(tested.metrics)
    if _needs(chosen, "reconstructed scans"):
        check_reconstructs(segmenter.system)
    scheme = _scheme(label_scheme or segmenter.card.label_scheme)
    found = find_cohort(Path(data)).labelled(Path(data))
    cases = {case.name: case for case in found.cases}
    settings = {
        "weights_sha256": segmenter.inputs["weights"]["sha256"],
        "label_scheme": scheme.name,
        "protocol": tested.record(),
        "conventions": conventions(chosen),
        "subsets": [str(subset) for subset in wanted],
    }
    if segmenter.lane != DEFAULT:
        settings["lane"] = segmenter.lane.name
    files = {name: case.files() for name, case in cases.items()}

    has_tumour: list[bool] = []
    other_spacing: list[str] = []

    def evaluate_one(name: str) -> CaseMetrics:
        study = read_study(cases[name], scheme)
        if not other_spacing and is_unlike_training(study.reference):
            other_spacing.append(name)
            warn_of_spacing(name, spacing_text(study.reference.spacing_mm))
        has_tumour.append(study.classes is not None and bool(study.classes.any()))
        return evaluate_case(segmenter, study, scheme, wanted, chosen, tested)

    facts = {"data": str(data), "skipped": found.skipped, "weights": segmenter.card.model_dump(mode="json")}
    plan = Plan("evaluate", settings, facts, segmenter.inputs, files, segmenter.computed_on)
    rows = evaluate_all(output, plan, evaluate_one, progress)
    if len(has_tumour) == len(cases) and not any(has_tumour):
        warn_without_tumour(Path(data))
    return Evaluation(output, rows, segmenter.card)


def warn_of_spacing(name: str, spacing: str) -> None:
    """Issue an `InputWarning` about a case whose voxels are not those on which networks are trained."""
    warnings.warn(
        f"{name} has voxels of {spacing} mm, and evaluate takes them as 1 mm. Use anymri segment, which resamples "
        "scans, and anymri score.",
        InputWarning,
        stacklevel=2,
    )


def evaluate_case(
    segmenter: Segmenter,
    study: Study,
    scheme: LabelScheme,
    subsets: Sequence[Subset],
    metrics: Sequence[Metric],
    protocol: Protocol,
) -> CaseMetrics:
    """Return every metric of every region of one case, for each subset.

    study  a case with its label map; a subset with modalities that it does not have gives rows without values
    """
    assert study.classes is not None
    possible = [subset for subset in subsets if all(m in study.images for m in subset)]
    case = protocol.prepare(segmenter, study)
    classes = study.classes[case.box]
    reconstructs = _needs(metrics, "reconstructed scans")
    predictions = iter(predict(segmenter.system, case, possible, protocol.windows, reconstructs))
    brain = brain_mask(study)[case.box] if reconstructs or _needs(metrics, "probabilities") else None
    truth, axes = protocol.truth(case, study.classes), axes_of(study.affine)
    found = CaseMetrics()
    for subset in subsets:
        compared: Comparison | str = ", ".join(m for m in subset if m not in study.images) + MISSING_STATUS
        if subset in possible:
            prediction = next(predictions)
            probabilities = reconstructed = None
            if brain is not None:
                probabilities = RegionProbabilities(prediction.probabilities.numpy(), prediction.kind, classes, brain)
                places = {"brain": brain, "tumour": region_mask(classes, "WT")}
                made = {modality: scan.numpy() for modality, scan in prediction.reconstructed.items()}
                reconstructed = ReconstructedScans(made, case.scans, places)
            predicted = protocol.place(case, prediction.label_map())
            thresholded = {}
            if prediction.kind == "regions" and any(metric.as_predicted for metric in metrics):
                masks = (prediction.probabilities > 0.5).numpy()
                thresholded = {region: protocol.place(case, each) for region, each in zip(REGIONS, masks, strict=False)}
            compared = Comparison(predicted, truth, axes, probabilities, reconstructed, thresholded)
        found.add(study.case.name, subset, metrics, scheme, compared)
    return found


def _needs(metrics: Sequence[Metric], what: Needs) -> bool:
    return any(metric.needs == what for metric in metrics)


def _scheme(name: str | None) -> LabelScheme:
    if name is None:
        raise ConfigurationError(
            "The weights do not record the label scheme that they were trained on.",
            "Name the cohort's with --label-scheme.",
        )
    return find_scheme(name)
