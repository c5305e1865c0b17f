"""A loaded model that segments cases from whichever modalities they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import torch

from anymri.data.case import Case, Study
from anymri.data.prepared import Prepared
from anymri.data.preprocessing import preprocess
from anymri.errors import WeightsError
from anymri.files import locked, sha256
from anymri.inference.assembly import Predicted, Wanted, assemble, check_space, chosen_space, chosen_subset
from anymri.inference.case_input import as_raw, read_given
from anymri.inference.choices import check_lane
from anymri.inference.device import pick_device
from anymri.inference.encoded import MEMORY_LIMIT_BYTES, EncodedVolume
from anymri.inference.lanes import DEFAULT, Lane, enter, on_device
from anymri.inference.result import Result, check_output
from anymri.inference.tiling import Windows
from anymri.inference.windows import VolumePrediction, predict
from anymri.modalities import MODALITIES, Subset
from anymri.prepare.in_memory import Volume
from anymri.prepare.preparation import Preparation, prepare
from anymri.prepare.raw import RawStudy
from anymri.progress import Progress, silent
from anymri.provenance import hashed, name_of_weights
from anymri.systems.contract import System
from anymri.weights.card import WeightsCard
from anymri.weights.choice import caution, choose
from anymri.weights.locate import find_weights
from anymri.weights.store import load_weights


class Segmenter:
    """A system with its weights on a device, loaded once for any number of cases.

    system   the network, in evaluation mode
    card     card of the weights: preprocessing, windows, training data
    weights  file of the weights; None for a network in training
    inputs   file of the weights with its hash, for provenance; empty for a network in training
    windows  how windows cover a volume
    lane     how the network is computed
    """

    def __init__(
        self, system: System[Any], card: WeightsCard, weights: Path | None = None, lane: Lane = DEFAULT
    ) -> None:
        self.system = system
        self.card = card
        self.weights = weights
        self.inputs = {} if weights is None else hashed({"weights": weights})
        self.windows = Windows.of(card)
        self.lane = lane

    @classmethod
    def load(cls, weights: Path | str | None = None, device: str = "auto", lane: str = "torch") -> Self:
        """Return a segmenter with its weights loaded.

        weights  a weights file, run folder or name of installed weights; by default the best installed for all subsets
        device   auto (a GPU if there is one, else the CPU), cpu, cuda, cuda:1, mps
        lane     how the network is computed: torch (float32), torch-bf16, openvino, or auto, the fastest that agrees
                 with float32; see docs/performance.md

        Raises `WeightsError` for weights that cannot be used, `ConfigurationError` for an unknown device or lane, and
        for a lane that this machine does not have or whose output departs from float32.

        >>> import anymri
        >>> segmenter = anymri.load("RUN", device="cpu")
        >>> str(segmenter.segment("CASE", subset="T1c+FLAIR").subset)
        'T1c+FLAIR'
        """
        check_lane(lane)
        where = pick_device(device)
        file = choose().weights.file if weights is None else find_weights(Path(weights))
        before = sha256(file)
        system, card = load_weights(file, where)
        if sha256(file) != before:
            raise WeightsError(f"{file} was replaced while it was read.", "Run the command again.")
        return cls(system, card, file, enter(lane, system, card, before))

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.system.parameters()).device

    @property
    def computed_on(self) -> str:
        """Device and lane for provenance, as "cpu" or "cpu, torch-bf16"."""
        return on_device(self.device, self.lane)

    def segment(
        self,
        case: RawStudy | Preparation | Study | Case | Path | str | Mapping[str, Path | str | Volume],
        subset: Subset | str | None = None,
        output: Path | str | None = None,
        *,
        space: str | None = None,
        brain: str = "auto",
        registration: bool = True,
        n4: bool = False,
        probabilities: bool = False,
        uncertainty: bool = False,
        smallest_ml: float = 0.0,
        reconstruct: bool = False,
        progress: Progress = silent,
    ) -> Result:
        """Segment one case; its scans are prepared as far as that is needed.

        case           a folder, file or zip archive with images or DICOM series; scans: any alias of a modality ->
                       file, as in {"t1c": "t1c.nii.gz"}, nibabel image or (array, affine); or a case that was read or
                       prepared
        subset         modalities to use, for example "T1c+FLAIR"; by default all that exist. If the scans are used as
                       they are, the others help to find the brain
        output         folder in which the result is saved; by default nothing is written
        space          a modality, whose grid the result has, or "prepared", the grid of the network; by default the
                       first of T1c, FLAIR, T2 and T1 that exists
        brain          how the brain is found in scans with skull: auto, deepbet, hd-bet, fallback or none
        registration   whether scans on different grids are registered; otherwise their headers are trusted
        n4             correct the bias fields
        probabilities  add the probabilities of the regions to the result
        uncertainty    add the entropy of the prediction
        smallest_ml    remove tumours, connected components of WT, below this volume in millilitres; the largest stays
        reconstruct    add the modalities that are missing, reconstructed; raises `ConfigurationError` if the system
                       cannot
        progress       called with what is done next, "preparation" or "window", and how many of how many steps are done

        Raises an `AnymriError` that names the file and the remedy.
        """
        check_space(self.card)
        found = as_raw(case)
        chosen, target = chosen_subset(found, subset), chosen_space(found, space)
        inputs = found.inputs | self.inputs
        if output is not None:
            check_output(Path(output), inputs)
        # After all that can be wrong with the files, and before the work.
        with nullcontext() if output is None else locked(Path(output)):
            ready = found
            if isinstance(ready, RawStudy):
                progress("preparation", 0, 1)
                ready = prepare(ready, brain, n4, registration, needed={*chosen, *([target] if target else [])})
            prepared = self.prepare(ready.study)
            (prediction,) = predict(self.system, prepared.only(chosen), [chosen], self.windows, reconstruct, progress)
            reconstructed = {m: image.numpy() for m, image in prediction.reconstructed.items()}
            predicted = Predicted(
                chosen, prediction.probabilities.numpy(), prediction.kind, prepared.box, reconstructed
            )
            wanted = Wanted(target, probabilities, uncertainty, smallest_ml)
            result = assemble(ready, predicted, wanted, self.card, ready.inputs | self.inputs, self.computed_on)
            if output is not None:
                result.save(output)
        return result

    def encode(
        self,
        study: Study | Prepared,
        memory_limit: int = MEMORY_LIMIT_BYTES,
        half: bool = False,
        progress: Progress = silent,
    ) -> EncodedVolume:
        """Encode a case once, to decode any subset of its modalities later.

        memory_limit  bytes of encodings kept in memory; what does not fit goes to a temporary file
        half          keep encodings as float16: half the size, at the cost of precision
        progress      called with "encoding", and how many of how many windows are done
        """
        prepared = study if isinstance(study, Prepared) else self.prepare(study)
        return EncodedVolume(self.system, prepared, self.windows, memory_limit, half, progress)

    def prepare(self, study: Study) -> Prepared:
        """Return a study as the network takes it."""
        return preprocess(study, self.card.preprocessing)

    def predict(
        self, prepared: Prepared, subsets: Sequence[Subset], reconstruct: bool = False, progress: Progress = silent
    ) -> list[VolumePrediction]:
        """Return the prediction for each subset; each window is encoded once for all of them, and not kept.

        reconstruct  also reconstruct the modalities that are missing from each subset; raises `ConfigurationError` if
                     the system cannot
        """
        return predict(self.system, prepared, subsets, self.windows, reconstruct, progress)


def segment(
    case: Path | str | None = None,
    *,
    t1: Path | str | Volume | None = None,
    t1c: Path | str | Volume | None = None,
    t2: Path | str | Volume | None = None,
    flair: Path | str | Volume | None = None,
    brain_mask: Path | str | Volume | None = None,
    weights: Path | str | None = None,
    subset: Subset | str | None = None,
    device: str = "auto",
    lane: str = "torch",
    output: Path | str | None = None,
    space: str | None = None,
    brain: str = "auto",
    registration: bool = True,
    n4: bool = False,
    probabilities: bool = False,
    uncertainty: bool = False,
    smallest_ml: float = 0.0,
    reconstruct: bool = False,
    dicom_study: int | None = None,
) -> Result:
    """Segment one case: a case folder, or scans given one by one. For several cases use `anymri.load`.

    case         a folder, file or zip archive with images or DICOM series; scans given one by one overrule it
    t1           T1 scan: an image file, or a DICOM folder, file or zip archive; and so are t1c, t2 and flair. Or all of
                 them, and the brain mask, are in memory: nibabel images, or pairs of an array (x, y, z) and its affine
    brain_mask   mask of the brain, for scans with skull or with a background that is not constant
    weights      a weights file, run folder or name of installed weights; by default the best installed for the subset
    subset       modalities to use, for example "T1c+FLAIR"; by default all that exist
    device       auto, cpu, cuda, cuda:1, mps
    lane         how the network is computed, see `Segmenter.load`
    output       folder in which the result is saved; by default nothing is written
    dicom_study  number from 1 of the DICOM study to use, if there are several

    The other arguments are those of `Segmenter.segment`. Raises an `AnymriError` that names the file and the remedy.

    >>> import anymri
    >>> result = anymri.segment(t1c="t1c.nii.gz", flair="flair.nii.gz", weights="RUN")
    >>> list(result.volumes_ml)
    ['WT', 'TC', 'ET', 'NCR', 'ED']
    """
    given = {m: scan for m, scan in zip(MODALITIES, (t1, t1c, t2, flair), strict=True) if scan is not None}
    raw = read_given(case, given, brain_mask, dicom_study)
    chosen = chosen_subset(raw, subset)
    file = choose(chosen).weights.file if weights is None else find_weights(Path(weights))
    segmenter = Segmenter.load(file, device, lane)
    caution(segmenter.card, name_of_weights(file.absolute()), chosen)
    return segmenter.segment(
        raw,
        chosen,
        output,
        space=space,
        brain=brain,
        registration=registration,
        n4=n4,
        probabilities=probabilities,
        uncertainty=uncertainty,
        smallest_ml=smallest_ml,
        reconstruct=reconstruct,
    )
