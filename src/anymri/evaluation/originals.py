"""What an evaluation was made from, read again where its provenance says that it lies, if it is still the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import Case, Study, read_study, turned_to_grid
from anymri.data.image import read_image
from anymri.data.layouts import find_cases
from anymri.data.prepared import Prepared
from anymri.errors import CohortError, RunError
from anymri.files import sha256
from anymri.inference.segmenter import Segmenter
from anymri.modalities import MODALITIES, Subset
from anymri.regions import label_scheme

Classes = NDArray[np.uint8]
Scans = dict[str, NDArray[np.float32]]

_PUT_BACK = "Put back what was evaluated, or evaluate again."


class Recorded(Protocol):
    """What an evaluation folder records of its inputs."""

    @property
    def folder(self) -> Path:
        """The evaluation folder."""

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Settings of the evaluation, from its provenance."""

    @property
    def inputs(self) -> Mapping[str, Mapping[str, str]]:
        """Name of an input -> its `file` and `sha256`."""


class Original(Protocol):
    """The weights or masks that an evaluation scored."""

    def segment(self, study: Study, subsets: Sequence[str]) -> dict[str, Classes]:
        """Return the classes on the grid of the study, (X, Y, Z) uint8, for each subset."""

    def reconstruct(self, study: Study) -> tuple[Prepared, Scans] | None:
        """Return the prepared case, and each scan reconstructed from all others; None if nothing is reconstructed."""


class Weights:
    """An evaluation of weights; raises an `AnymriError` if their file has changed."""

    def __init__(self, evaluation: Recorded, device: str) -> None:
        self.segmenter = Segmenter.load(_recorded(evaluation, "weights"), device)

    def segment(self, study: Study, subsets: Sequence[str]) -> dict[str, Classes]:
        case = self.segmenter.prepare(study)
        predictions = self.segmenter.predict(case, [Subset.parse(name) for name in subsets])
        return {name: case.paste(each.label_map()) for name, each in zip(subsets, predictions, strict=True)}

    def reconstruct(self, study: Study) -> tuple[Prepared, Scans] | None:
        case = self.segmenter.prepare(study)
        if not self.segmenter.system.reconstructs or len(case.subset) < 2:
            return None
        others = [Subset.of(other for other in case.subset if other != m) for m in case.subset]
        predictions = self.segmenter.predict(case, others, reconstruct=True)
        return case, {m: each.reconstructed[m].numpy() for m, each in zip(case.subset, predictions, strict=True)}


class Masks:
    """An evaluation of label maps that some tool wrote."""

    def __init__(self, evaluation: Recorded) -> None:
        self.evaluation = evaluation
        self.scheme = label_scheme(str(evaluation.configuration["prediction_scheme"]))

    def segment(self, study: Study, subsets: Sequence[str]) -> dict[str, Classes]:
        made = {}
        for subset in subsets:
            file = _recorded(self.evaluation, f"{study.case.name}: from {subset}")
            array = turned_to_grid(read_image(file), study.reference, study.case.name)
            made[subset] = self.scheme.to_classes(array, str(file))
        return made

    def reconstruct(self, study: Study) -> None:
        return None


def open_original(evaluation: Recorded, device: str) -> Original:
    return Masks(evaluation) if _is_of_masks(evaluation) else Weights(evaluation, device)


def read_case(evaluation: Recorded, case: str) -> Study:
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


def label_hash(evaluation: Recorded, case: str) -> str | None:
    """Of the label map that a case was scored against."""
    entry = evaluation.inputs.get(f"{case}: label", {})
    return entry.get("sha256")


def _is_of_masks(evaluation: Recorded) -> bool:
    return "predictions" in evaluation.configuration


def _recorded(evaluation: Recorded, what: str) -> Path:
    """The file of an input, as long as it holds what it held."""
    entry = evaluation.inputs.get(what)
    if entry is None:
        raise RunError(f"The provenance of {evaluation.folder} names no {what}.", _PUT_BACK)
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
