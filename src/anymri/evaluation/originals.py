"""The weights, label maps and scans that an evaluation was made from, read again to draw what was evaluated.

They are read from where the provenance records them, if they are still the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import Case, Study, read_study, reorient_to_grid
from anymri.data.image import read_image
from anymri.data.layouts import find_cohort
from anymri.data.prepared import Prepared
from anymri.errors import CohortError, RunError
from anymri.evaluation.protocols import find_protocol, recorded_name
from anymri.files import sha256
from anymri.inference.segmenter import Segmenter
from anymri.modalities import MODALITIES, Subset
from anymri.regions import label_scheme

Classes = NDArray[np.uint8]
Scans = dict[str, NDArray[np.float32]]

_RESTORE = "Restore the files that were evaluated, or evaluate again."


class Recorded(Protocol):
    """Inputs of an evaluation, as its folder records them."""

    @property
    def folder(self) -> Path:
        """The evaluation folder."""

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Settings of the evaluation, from its provenance."""

    @property
    def inputs(self) -> Mapping[str, Mapping[str, str]]:
        """Name of an input -> its `file` and `sha256`."""


class EvaluatedWeights:
    """Evaluated weights, loaded again; raises an `AnymriError` if their file has changed."""

    def __init__(self, evaluation: Recorded, device: str) -> None:
        self.segmenter = Segmenter.load(_recorded_file(evaluation, "weights"), device)
        self.segmenter.windows = find_protocol(recorded_name(evaluation.configuration), self.segmenter).windows

    def segment(self, study: Study, subsets: Sequence[str]) -> dict[str, Classes]:
        """Return the classes of each subset on the grid of the study, (X, Y, Z) uint8."""
        case = self.segmenter.prepare(study)
        predictions = self.segmenter.predict(case, [Subset.parse(name) for name in subsets])
        return {name: case.paste(each.label_map()) for name, each in zip(subsets, predictions, strict=True)}

    def reconstruct(self, study: Study) -> tuple[Prepared, Scans] | None:
        """Return the prepared case, and each modality, (X, Y, Z) float32, reconstructed from all others.

        None if the system does not reconstruct, or if there is only one modality.
        """
        case = self.segmenter.prepare(study)
        if not self.segmenter.system.reconstructs or len(case.subset) < 2:
            return None
        others = [Subset.of(other for other in case.subset if other != m) for m in case.subset]
        predictions = self.segmenter.predict(case, others, reconstruct=True)
        return case, {m: each.reconstructed[m].numpy() for m, each in zip(case.subset, predictions, strict=True)}


class EvaluatedMasks:
    """Evaluated label maps of some tool, read again."""

    def __init__(self, evaluation: Recorded) -> None:
        self.evaluation = evaluation
        self.scheme = label_scheme(str(evaluation.configuration["prediction_scheme"]))

    def segment(self, study: Study, subsets: Sequence[str]) -> dict[str, Classes]:
        """Return the classes of each subset on the grid of the study, (X, Y, Z) uint8."""
        made = {}
        for subset in subsets:
            file = _recorded_file(self.evaluation, f"{study.case.name}: from {subset}")
            array = reorient_to_grid(read_image(file), study.reference, study.case.name)
            made[subset] = self.scheme.to_classes(array, str(file))
        return made

    def reconstruct(self, study: Study) -> None:
        """Return None: label maps reconstruct nothing."""


class Originals:
    """Access to what evaluations were made from.

    device  where weights compute: auto, cpu, cuda, cuda:1, mps
    """

    def __init__(self, device: str = "auto") -> None:
        self.device = device

    def open(self, evaluation: Recorded) -> EvaluatedWeights | EvaluatedMasks:
        """Return the weights or label maps of an evaluation; raise an `AnymriError` if they have changed."""
        return EvaluatedMasks(evaluation) if _is_of_masks(evaluation) else EvaluatedWeights(evaluation, self.device)

    def read_case(self, evaluation: Recorded, case: str) -> Study:
        """Return the scans and the label map of a case; raise an `AnymriError` if they have changed.

        Evaluations of label maps record no scans: those of their cohort are read, if it has any.
        """
        scheme = label_scheme(str(evaluation.configuration.get("label_scheme")))
        return read_study(recorded_case(evaluation, case), scheme)


def recorded_case(evaluation: Recorded, case: str) -> Case:
    """Return the files of an evaluated case; raise an `AnymriError` if they have changed.

    Evaluations of label maps record no scans: those of their cohort are returned, if it has any.
    """
    label = _recorded_file(evaluation, f"{case}: label")
    if _is_of_masks(evaluation):
        return _case_in_cohort(Path(str(evaluation.configuration.get("labels"))), case, label)
    prefix = f"{case}: "
    files = {
        role.removeprefix(prefix): _recorded_file(evaluation, role)
        for role in evaluation.inputs
        if role.startswith(prefix)
    }
    scans = {modality: files[modality] for modality in MODALITIES if modality in files}
    return Case(case, scans, label, files.get("brain_mask"))


def _is_of_masks(evaluation: Recorded) -> bool:
    return "predictions" in evaluation.configuration


def _recorded_file(evaluation: Recorded, role: str) -> Path:
    """Return the file of an input; raise `RunError` if its content is not what was evaluated."""
    entry = evaluation.inputs.get(role)
    if entry is None:
        raise RunError(f"The provenance of {evaluation.folder} does not name the input {role!r}.", _RESTORE)
    file = Path(entry["file"])
    if not file.is_file():
        raise RunError(f"{file} does not exist any more.", _RESTORE)
    if sha256(file) != entry["sha256"]:
        raise RunError(f"{file} has changed since the evaluation.", _RESTORE)
    return file


def _case_in_cohort(labels: Path, case: str, label: Path) -> Case:
    """Return the case of a cohort that has this label map."""
    try:
        found = {each.name: each for each in find_cohort(labels).cases}
    except CohortError:
        found = {}
    if case not in found or found[case].label != label:
        raise RunError(f"{labels} does not contain scans of {case}.", "Score again with a cohort as --labels.")
    return found[case]
