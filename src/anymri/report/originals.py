"""What an evaluation was made from, read again where its manifest says that it lies, if it is still the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import Case, Study, read_study, turned_to_grid
from anymri.data.image import read_image
from anymri.data.layouts import find_cases
from anymri.data.preprocessing import Preprocessed, preprocess
from anymri.errors import CohortError, RunError
from anymri.files import sha256
from anymri.inference.device import pick_device
from anymri.inference.segmentation import label_maps
from anymri.inference.windows import Volume, Windows, predict_and_rebuild
from anymri.modalities import MODALITIES, Subset
from anymri.regions import label_scheme
from anymri.report.reading import StoredEvaluation
from anymri.systems.weights import load_weights

Classes = NDArray[np.uint8]
Scans = dict[str, NDArray[np.float32]]

_PUT_BACK = "Put back what was evaluated, or evaluate again."


class Original(Protocol):
    """What an evaluation scored, ready to do it again."""

    def segment(self, study: Study, subsets: Sequence[str]) -> dict[str, Classes]:
        """Classes on the study's grid, for each of the subsets."""

    def rebuild(self, study: Study) -> tuple[Preprocessed, Scans] | None:
        """The case as the network sees it, and each scan as rebuilt from all others; None where nothing is rebuilt."""


class Weights:
    """An evaluation of weights; raises an `AnymriError` if the file is not what it was."""

    def __init__(self, evaluation: StoredEvaluation, device: str) -> None:
        self.system, self.card = load_weights(_recorded(evaluation, "weights"), pick_device(device))

    def segment(self, study: Study, subsets: Sequence[str]) -> dict[str, Classes]:
        data = preprocess(study, self.card.preprocessing)
        maps = label_maps(self.system, self.card, data, [Subset.parse(name) for name in subsets])
        return dict(zip(subsets, maps, strict=True))

    def rebuild(self, study: Study) -> tuple[Preprocessed, Scans] | None:
        data = preprocess(study, self.card.preprocessing)
        if not self.system.rebuilds_images or len(data.modalities) < 2:
            return None
        others = [Subset.of(other for other in data.modalities if other != m) for m in data.modalities]
        answers = predict_and_rebuild(self.system, Volume.of(data), others, Windows.of(self.card))
        return data, {m: made[m].numpy() for m, (_, made) in zip(data.modalities, answers, strict=True)}


class Masks:
    """An evaluation of label maps that some tool wrote."""

    def __init__(self, evaluation: StoredEvaluation) -> None:
        self.evaluation = evaluation
        self.scheme = label_scheme(str(evaluation.configuration["prediction_scheme"]))

    def segment(self, study: Study, subsets: Sequence[str]) -> dict[str, Classes]:
        made = {}
        for subset in subsets:
            file = _recorded(self.evaluation, f"{study.case.name}: from {subset}")
            array = turned_to_grid(read_image(file), study.reference, study.case.name)
            made[subset] = self.scheme.to_classes(array, str(file))
        return made

    def rebuild(self, study: Study) -> None:
        return None


def open_original(evaluation: StoredEvaluation, device: str) -> Original:
    return Masks(evaluation) if _is_of_masks(evaluation) else Weights(evaluation, device)


def read_case(evaluation: StoredEvaluation, case: str) -> Study:
    """The scans and the label map of a case; raises an `AnymriError` if they are not there, or not what they were.

    Evaluations of masks record no scans: those of their cohort are taken, if it has any.
    """
    scheme = label_scheme(str(evaluation.configuration.get("label_scheme")))
    label = _recorded(evaluation, f"{case}: label")
    if _is_of_masks(evaluation):
        return read_study(_with_scans(Path(str(evaluation.configuration.get("labels"))), case, label), scheme)
    prefix = f"{case}: "
    files = {
        what.removeprefix(prefix): _recorded(evaluation, what) for what in evaluation.inputs if what.startswith(prefix)
    }
    scans = {modality: files[modality] for modality in MODALITIES if modality in files}
    return read_study(Case(case, scans, label, files.get("brain_mask")), scheme)


def label_hash(evaluation: StoredEvaluation, case: str) -> str | None:
    """Of the label map that a case was scored against."""
    entry = evaluation.inputs.get(f"{case}: label", {})
    return entry.get("sha256")


def _is_of_masks(evaluation: StoredEvaluation) -> bool:
    return "predictions" in evaluation.configuration


def _recorded(evaluation: StoredEvaluation, what: str) -> Path:
    """The file of an input, as long as it holds what it held."""
    entry = evaluation.inputs.get(what)
    if entry is None:
        raise RunError(f"The manifest of {evaluation.folder} names no {what}.", _PUT_BACK)
    file = Path(entry["file"])
    if not file.is_file():
        raise RunError(f"{file} is not there any more.", _PUT_BACK)
    if sha256(file) != entry["sha256"]:
        raise RunError(f"{file} has changed since the evaluation.", _PUT_BACK)
    return file


def _with_scans(labels: Path, case: str, label: Path) -> Case:
    """The case of a cohort that has this label map."""
    try:
        found = {each.name: each for each in find_cases(labels)}
    except CohortError:
        found = {}
    if case not in found or found[case].label != label:
        raise RunError(f"{labels} holds no scans of {case} to show masks on.", "Evaluate with a cohort as --labels.")
    return found[case]
