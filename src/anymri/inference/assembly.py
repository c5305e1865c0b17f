"""From the prediction on the grid of a network to a result on the grid that the user wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from anymri.data.image import from_lps
from anymri.data.prepared import Box
from anymri.errors import ConfigurationError, ModalityError, did_you_mean
from anymri.inference.lesions import without_small
from anymri.inference.result import Result
from anymri.inference.uncertainty import entropy, region_probabilities
from anymri.modalities import REFERENCE_ORDER, Subset, as_subset, find_modality
from anymri.prepare.preparation import PREPARED
from anymri.provenance import Inputs
from anymri.regions import OutputKind, to_label_map
from anymri.weights.card import WeightsCard

if TYPE_CHECKING:
    from anymri.prepare.preparation import Preparation
    from anymri.prepare.raw import RawStudy

V = TypeVar("V", bound=np.generic)


@dataclass(frozen=True)
class Wanted:
    """What a result holds beside the label map.

    space          a modality, whose grid the result has, or `prepared`; None for the first of T1c, FLAIR, T2 and T1
                   that exists
    probabilities  whether it holds the probabilities of the regions
    uncertainty    whether it holds their entropy
    smallest_ml    smaller tumours are removed, see `anymri.inference.lesions.without_small`
    """

    space: str | None = None
    probabilities: bool = False
    uncertainty: bool = False
    smallest_ml: float = 0.0


@dataclass(frozen=True, eq=False)
class Predicted:
    """Prediction for one subset, in a box of the grid of the study.

    subset         modalities that it was made from
    probabilities  (K, X, Y, Z) float32 in 0..1
    kind           meaning of the K channels, see `anymri.systems.contract.Prediction`
    box            position of the values in the grid of the study
    reconstructed  missing modality -> (X, Y, Z) float32 in the units of the network's input
    disagreement   (X, Y, Z) float16 in 0..1, of several predictions
    """

    subset: Subset
    probabilities: NDArray[np.float32]
    kind: OutputKind
    box: Box
    reconstructed: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    disagreement: NDArray[np.float16] | None = None


def assemble(
    preparation: Preparation, predicted: Predicted, wanted: Wanted, card: WeightsCard, inputs: Inputs, device: str
) -> Result:
    """Return the result of a prediction on the grid that is wanted.

    inputs  files of the case and of the weights

    On the grid of a study that was not prepared, values only change their orientation. On any other grid they are
    interpolated linearly, and the label map follows from the interpolated probabilities.
    """
    target = _Target(preparation, wanted.space, predicted.box)
    regions = None
    if wanted.probabilities or wanted.uncertainty:
        nested = region_probabilities(predicted.probabilities, predicted.kind)
        regions = np.stack([target.place(region) for region in nested])
    classes = target.label_map(predicted)
    if wanted.smallest_ml > 0:
        classes = without_small(classes, target.reference.voxel_volume_ml, wanted.smallest_ml)
    disagreement = None if predicted.disagreement is None else target.place(predicted.disagreement)
    return Result(
        classes=classes,
        subset=predicted.subset,
        reference=target.reference,
        case=preparation.study.case,
        card=card,
        inputs=inputs,
        device=device,
        probabilities=regions.astype(np.float16) if regions is not None and wanted.probabilities else None,
        uncertainty=entropy(regions) if regions is not None and wanted.uncertainty else None,
        disagreement=None if disagreement is None else disagreement.astype(np.float16),
        reconstructed={m: target.place(values) for m, values in predicted.reconstructed.items()},
        preparation=None if preparation.can_be_read_again else preparation,
        smallest_ml=wanted.smallest_ml,
    )


class _Target:
    """The grid of a result, and how maps in a box of the study's grid come to lie on it.

    reference  image whose geometry the result has
    """

    def __init__(self, preparation: Preparation, space: str | None, box: Box) -> None:
        self.preparation, self.box = preparation, box
        study = preparation.study
        # Without a preparation, the grid of the reference is that of the study in another orientation.
        self.turns_only = preparation.is_as_found and space in (None, preparation.raw.reference)
        self.space = space or next(m for m in REFERENCE_ORDER if m in preparation.images)
        self.reference = study.reference if self.turns_only else preparation.reference(self.space)

    def place(self, values: NDArray[V], outside: float = 0) -> NDArray[Any]:
        """Return a map (X, Y, Z) of the box on the grid of the result, (x, y, z) in the orientation of its file."""
        if not self.turns_only:
            return self.preparation.bring(self.space, values, self.box, outside)
        shape = next(iter(self.preparation.study.images.values())).shape
        whole = np.full(shape, outside, dtype=values.dtype)
        whole[self.box] = values
        return from_lps(whole, self.reference)

    def label_map(self, predicted: Predicted) -> NDArray[np.uint8]:
        """Return the classes on the grid of the result, (x, y, z) uint8."""
        if not self.turns_only:
            return self.preparation.labels_on(self.space, predicted.probabilities, predicted.kind, self.box)
        labels = to_label_map(torch.from_numpy(predicted.probabilities), predicted.kind).numpy()
        return self.place(labels)


def chosen_subset(study: RawStudy | Preparation, subset: Subset | str | None) -> Subset:
    """Return the modalities to use, by default all that exist; raise `ModalityError` if one does not exist."""
    chosen = study.subset if subset is None else as_subset(subset)
    if not chosen <= study.subset:
        raise ModalityError(
            f"{study.name} has {study.subset}, not {chosen}.", "Choose a subset of the modalities that exist."
        )
    return chosen


def chosen_space(study: RawStudy | Preparation, space: str | None) -> str | None:
    """Return the name of a space as it is used inside, for a modality by any alias; None for the default one.

    Raises `ConfigurationError` if the study does not have it.
    """
    if space is None or space == PREPARED:
        return space
    modality = find_modality(space)
    if modality is None or modality not in study.raw.scans:
        known = (*study.raw.scans, PREPARED)
        hint = did_you_mean(space, known)
        raise ConfigurationError(
            f"{study.name} does not have the space {space!r}.", f"{hint}Known: {', '.join(known)}."
        )
    return modality


def check_space(card: WeightsCard) -> None:
    """Raise `ConfigurationError` for weights that want scans in the space of an atlas, which is not made yet."""
    if card.space == "atlas":
        raise ConfigurationError(
            "These weights want scans in the space of an atlas, to which anymri cannot bring scans.",
            "Use weights for scans in their own space.",
        )
