"""An ensemble: several weights, or mirrored scans, whose predictions of a case are combined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from anymri.data.case import Case, Study
from anymri.data.prepared import Prepared, whole_box
from anymri.errors import ConfigurationError
from anymri.extras import need
from anymri.files import locked
from anymri.inference import combining
from anymri.inference.assembly import Predicted, Wanted, assemble, check_space, chosen_space, chosen_subset
from anymri.inference.case_input import as_raw
from anymri.inference.choices import check_combination, check_flips
from anymri.inference.lanes import Lane, on_device
from anymri.inference.result import Result, check_output
from anymri.inference.segmenter import Segmenter
from anymri.inference.tiling import mirrorings
from anymri.inference.uncertainty import disagreement, region_probabilities
from anymri.modalities import Subset
from anymri.prepare.in_memory import Volume
from anymri.prepare.preparation import Preparation, prepare
from anymri.prepare.raw import RawStudy
from anymri.progress import Progress, silent
from anymri.provenance import Inputs
from anymri.regions import OutputKind
from anymri.weights.card import WeightsCard


class Ensemble:
    """Several loaded segmenters that segment a case together; each prepares it and lays its windows by its own card.

    members  the segmenters, of one system or of several
    combine  mean: mean probability, of classes if all members predict classes, otherwise of regions; staple: STAPLE of
             the label maps, region by region
    flips    axes along which scans are mirrored too, as "x" or "xyz": each doubles the number of predictions. Given
             here, they are in place of those of the cards
    """

    def __init__(self, members: Sequence[Segmenter], combine: str = "mean", flips: str = "") -> None:
        """Create an ensemble; raise `ConfigurationError` if the members or settings do not fit together."""
        check_combination(combine)
        if combine == "staple":
            need("prepare", "SimpleITK", purpose="STAPLE")
        check_flips(flips)
        if len(members) * 2 ** len(flips) < 2:
            raise ConfigurationError("An ensemble needs two predictions or more.", "Give more weights, or flips.")
        classes = {member.card.network["num_classes"] for member in members}
        if len(classes) > 1:
            raise ConfigurationError(
                "Some of the weights have the resection cavity as a class, and others do not.",
                "Combine weights that were trained on the same label scheme.",
            )
        for member in members if flips else ():
            member.windows = member.windows._replace(mirrored="")
        self.members = tuple(members)
        self.combine = combine
        self.flips = flips

    @classmethod
    def load(
        cls,
        weights: Sequence[Path | str],
        device: str = "auto",
        lane: str = "torch",
        combine: str = "mean",
        flips: str = "",
    ) -> Self:
        """Return an ensemble with all weights loaded.

        weights  weights files or run folders, each at most once
        device   auto (a GPU if there is one, else the CPU), cpu, cuda, cuda:1, mps
        lane     how the networks are computed, see `Segmenter.load`; `auto` chooses for each of them

        Raises the errors of `Segmenter.load`, and `ConfigurationError` if the weights do not fit together.
        """
        members = [Segmenter.load(each, device, lane) for each in weights]
        seen: dict[str, Path | str] = {}
        for given, member in zip(weights, members, strict=True):
            first = seen.setdefault(member.inputs["weights"]["sha256"], given)
            if first is not given:
                raise ConfigurationError(f"{first} and {given} are the same weights.", "Give each weights once.")
        return cls(members, combine, flips)

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return self.members[0].device

    @property
    def lane(self) -> Lane:
        """The lanes of the members as one."""
        lanes = [member.lane for member in self.members]
        return Lane(" + ".join(dict.fromkeys(lane.name for lane in lanes)), "; ".join(lane.why for lane in lanes))

    @property
    def inputs(self) -> Inputs:
        """Files of the weights with their hashes: `weights`, `weights 2`, ..."""
        found = [each for member in self.members for each in member.inputs.values()]
        return {"weights" if not number else f"weights {number + 1}": each for number, each in enumerate(found)}

    @property
    def card(self) -> WeightsCard:
        """Card of the first weights, with the systems, origins and training cases of all and without their tables."""
        cards = [member.card for member in self.members]
        mirrored_along = f", mirrored along {', '.join(self.flips)}" if self.flips else ""
        origins = "; ".join(f"{card.system}: {card.origin}" for card in cards)
        changes = {
            "system": " + ".join(dict.fromkeys(card.system for card in cards)),
            "origin": f"ensemble of {len(cards)} weights by {self.combine}{mirrored_along} ({origins})",
            "trained_on": sorted({name for card in cards for name in card.trained_on}),
            "checksum": None,
            "summary": "",
            "tables": [],
        }
        return cards[0].model_copy(update=changes)

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
        """Segment one case; the result also has the disagreement of the predictions.

        The arguments are those of `Segmenter.segment`; raises `ConfigurationError` for `reconstruct`, because each of
        the networks has units of its own.
        """
        if reconstruct:
            raise ConfigurationError(
                "An ensemble does not reconstruct missing modalities.", "Use single weights for them."
            )
        for member in self.members:
            check_space(member.card)
        ready = as_raw(case)
        chosen, target = chosen_subset(ready, subset), chosen_space(ready, space)
        if output is not None:
            check_output(Path(output), ready.inputs | self.inputs)
        with nullcontext() if output is None else locked(Path(output)):
            if isinstance(ready, RawStudy):
                progress("preparation", 0, 1)
                ready = prepare(ready, brain, n4, registration, needed={*chosen, *([target] if target else [])})
            predicted = self.predict(ready.study, chosen, progress)
            wanted = Wanted(target, probabilities, uncertainty, smallest_ml)
            result = assemble(
                ready, predicted, wanted, self.card, ready.inputs | self.inputs, on_device(self.device, self.lane)
            )
            if output is not None:
                result.save(output)
        return result

    def predict(self, study: Study, subset: Subset, progress: Progress = silent) -> Predicted:
        """Return the combined prediction for one subset, on the whole grid of the study."""
        predictions, kinds = [], []
        for values, kind in self._predictions(study, subset, progress):
            predictions.append(values)
            kinds.append(kind)
        apart = disagreement(region_probabilities(each, kind) for each, kind in zip(predictions, kinds, strict=True))
        if self.combine == "staple":
            values, kind = combining.staple(predictions, kinds), "regions"
        else:
            values, kind = combining.mean(predictions, kinds)
        return Predicted(subset, values, kind, whole_box(values.shape[1:]), disagreement=apart)

    def _predictions(
        self, study: Study, subset: Subset, progress: Progress
    ) -> Iterator[tuple[NDArray[np.float32], OutputKind]]:
        """Yield the prediction of each member and mirroring: (K, X, Y, Z) on the grid of the study, and its kind."""
        for member in self.members:
            prepared = member.prepare(study).only(subset)
            for axes in mirrorings(self.flips):
                (prediction,) = member.predict(mirrored(prepared, axes), [subset], progress=progress)
                values = prediction.probabilities.flip([axis + 1 for axis in axes]).numpy()
                whole = prepared.paste(values)
                if prediction.kind == "classes":
                    around = np.ones(prepared.grid, dtype=bool)
                    around[prepared.box] = False
                    whole[0][around] = 1  # background
                yield whole, prediction.kind


def mirrored(prepared: Prepared, axes: Sequence[int]) -> Prepared:
    """Return a prepared case mirrored along axes, with its box where it is in the mirrored grid."""
    if not axes:
        return prepared
    x, y, z = (
        slice(side - part.stop, side - part.start) if axis in axes else part
        for axis, (part, side) in enumerate(zip(prepared.box, prepared.grid, strict=True))
    )
    return replace(prepared, images=prepared.images.flip([axis + 1 for axis in axes]), classes=None, box=(x, y, z))


Model = Segmenter | Ensemble


def load_model(
    weights: Model | Path | str | Sequence[Path | str], device: str, lane: str, combine: str, flips: str = ""
) -> Model:
    """Return the segmenter of weights, the ensemble of several or with flips, or a loaded one as it is."""
    if isinstance(weights, Path | str):
        weights = [weights]
    if not isinstance(weights, Sequence):
        return weights
    if len(weights) == 1 and not flips:
        return Segmenter.load(weights[0], device, lane)
    return Ensemble.load(weights, device, lane, combine, flips)
