"""A loaded model that segments cases from whichever modalities they have."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import torch

from anymri.data.case import Case, Study, read_study
from anymri.data.image import from_lps
from anymri.data.layouts import case_from_files, find_cases
from anymri.data.layouts.found import counted
from anymri.data.prepared import Prepared
from anymri.data.preprocessing import preprocess
from anymri.errors import AnymriWarning, CohortError, ModalityError, WeightsError
from anymri.files import locked, sha256
from anymri.inference.device import pick_device
from anymri.inference.encoded import MEMORY_LIMIT_BYTES, EncodedVolume
from anymri.inference.lanes import check_lane
from anymri.inference.result import Result, check_output
from anymri.inference.tiling import Windows
from anymri.inference.windows import VolumePrediction, predict
from anymri.modalities import MODALITIES, Subset, as_subset
from anymri.provenance import hashed
from anymri.systems.contract import System
from anymri.weights.card import WeightsCard
from anymri.weights.locate import find_weights
from anymri.weights.store import load_weights

# Voxels that differ from 1 mm by more than this cause a warning: networks are trained at 1 mm.
SPACING_TOLERANCE_MM = 0.25


class Segmenter:
    """A system with its weights on a device, loaded once for any number of cases.

    system   the network, in evaluation mode
    card     card of the weights: preprocessing, windows, training data
    weights  file of the weights; None for a network in training
    inputs   file of the weights with its hash, for provenance; empty for a network in training
    windows  how windows cover a volume
    """

    def __init__(self, system: System[Any], card: WeightsCard, weights: Path | None = None) -> None:
        self.system = system
        self.card = card
        self.weights = weights
        self.inputs = {} if weights is None else hashed({"weights": weights})
        self.windows = Windows.of(card)

    @classmethod
    def load(cls, weights: Path | str, device: str = "auto", lane: str = "torch") -> Self:
        """Return a segmenter with its weights loaded.

        weights  a weights file or run folder
        device   auto (a GPU if there is one, else the CPU), cpu, cuda, cuda:1, mps
        lane     how the network is computed: torch (float32)

        Raises `WeightsError` for weights that cannot be used, `ConfigurationError` for a device or lane that is not
        there.

        >>> import anymri
        >>> segmenter = anymri.load("RUN", device="cpu")
        >>> str(segmenter.segment("CASE", subset="T1c+FLAIR").subset)
        'T1c+FLAIR'
        """
        check_lane(lane)
        where = pick_device(device)
        file = find_weights(Path(weights))
        before = sha256(file)
        system, card = load_weights(file, where)
        if sha256(file) != before:
            raise WeightsError(f"{file} was replaced while it was read.", "Run the command again.")
        return cls(system, card, file)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.system.parameters()).device

    def segment(
        self,
        case: Case | Path | str | Mapping[str, Path | str],
        subset: Subset | str | None = None,
        output: Path | str | None = None,
    ) -> Result:
        """Segment one case.

        case    a case, a case folder, or scans: any alias of a modality -> file, as in {"t1c": "t1c.nii.gz"}
        subset  modalities to use, for example "T1c+FLAIR"; by default all that exist. The others only help to find the
                brain
        output  folder in which the result is saved; by default nothing is written

        Raises an `AnymriError` that names the file and the remedy.
        """
        found = as_case(case)
        chosen = found.subset if subset is None else as_subset(subset)
        if not chosen <= found.subset:
            raise ModalityError(
                f"{found.name} has {found.subset}, not {chosen}.", "Choose a subset of the modalities that exist."
            )
        study = read_study(found)
        _warn_of_spacing(study)
        inputs = hashed(found.files()) | self.inputs
        if output is not None:
            check_output(Path(output), inputs)
        # After all that can be wrong with the input, and before the work.
        with nullcontext() if output is None else locked(Path(output)):
            prepared = self.prepare(study)
            (prediction,) = predict(self.system, prepared.only(chosen), [chosen], self.windows)
            classes = from_lps(prepared.paste(prediction.label_map()), study.reference)
            result = Result(classes, chosen, study.reference, found, self.card, inputs, str(self.device))
            if output is not None:
                result.save(output)
        return result

    def encode(
        self, study: Study | Prepared, memory_limit: int = MEMORY_LIMIT_BYTES, half: bool = False
    ) -> EncodedVolume:
        """Encode a case once, to decode any subset of its modalities later.

        memory_limit  bytes of encodings kept in memory; what does not fit goes to a temporary file
        half          keep encodings as float16: half the size, at the cost of precision
        """
        prepared = study if isinstance(study, Prepared) else self.prepare(study)
        return EncodedVolume(self.system, prepared, self.windows, memory_limit, half)

    def prepare(self, study: Study) -> Prepared:
        """Return a study as the network takes it."""
        return preprocess(study, self.card.preprocessing)

    def predict(
        self, prepared: Prepared, subsets: Sequence[Subset], reconstruct: bool = False
    ) -> list[VolumePrediction]:
        """Return the prediction for each subset; each window is encoded once for all of them, and not kept.

        reconstruct  also reconstruct the modalities that are missing from each subset; raises `ConfigurationError` if
                     the system cannot
        """
        return predict(self.system, prepared, subsets, self.windows, reconstruct)


def segment(
    case: Path | str | None = None,
    *,
    t1: Path | str | None = None,
    t1c: Path | str | None = None,
    t2: Path | str | None = None,
    flair: Path | str | None = None,
    brain_mask: Path | str | None = None,
    weights: Path | str,
    subset: Subset | str | None = None,
    device: str = "auto",
    lane: str = "torch",
    output: Path | str | None = None,
) -> Result:
    """Segment one case: a case folder, or scans given one by one. For several cases use `anymri.load`.

    brain_mask  mask of the brain, for scans whose background is not constant
    weights     a weights file or run folder
    subset      modalities to use, for example "T1c+FLAIR"; by default all that exist
    device      auto, cpu, cuda, cuda:1, mps
    lane        how the network is computed: torch (float32)
    output      folder for segmentation.nii.gz, volumes.json and provenance.json; by default nothing is written

    Raises an `AnymriError` that names the file and the remedy.

    >>> import anymri
    >>> result = anymri.segment(t1c="t1c.nii.gz", flair="flair.nii.gz", weights="RUN")
    >>> list(result.volumes_ml)
    ['WT', 'TC', 'ET', 'NCR', 'ED']
    """
    scans = {m: Path(p) for m, p in zip(MODALITIES, (t1, t1c, t2, flair), strict=True) if p is not None}
    if case is not None and scans:
        raise CohortError("Both a case folder and single scans were given.", "Give one or the other.")
    if case is not None:
        found = as_case(case)
    elif scans:
        found = case_from_files(scans, brain_mask=None if brain_mask is None else Path(brain_mask))
    else:
        raise ModalityError(
            "No scan was given.", "Give a case folder, or at least one of --t1, --t1c, --t2 and --flair."
        )
    return Segmenter.load(weights, device, lane).segment(found, subset, output)


def as_case(case: Case | Path | str | Mapping[str, Path | str]) -> Case:
    """Return the case that a case folder holds, or that scans make up; raise `CohortError` for several cases."""
    if isinstance(case, Case):
        return case
    if isinstance(case, Mapping):
        return case_from_files({name: Path(path) for name, path in case.items()})
    cases = find_cases(Path(case))
    if len(cases) > 1:
        names = counted([each.name for each in cases])
        raise CohortError(f"{case} holds several cases: {names}.", "Give the folder of one case.")
    return cases[0]


def _warn_of_spacing(study: Study) -> None:
    spacing = study.reference.spacing_mm
    if max(abs(mm - 1) for mm in spacing) > SPACING_TOLERANCE_MM:
        shown = " x ".join(f"{mm:.2f}" for mm in spacing)
        warnings.warn(
            f"{study.reference.path} has voxels of {shown} mm; networks are trained at 1 mm, so expect errors.",
            AnymriWarning,
            stacklevel=3,
        )
