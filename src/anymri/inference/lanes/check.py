"""Comparison of a lane with float32: one window of a synthetic case, the same for all lanes and machines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.prepared import Prepared
from anymri.data.preprocessing import preprocess
from anymri.inference.tiling import Windows
from anymri.inference.windows import VolumePrediction, predict
from anymri.modalities import ALL, Subset
from anymri.regions import region_mask
from anymri.synthesis.realistic.generator import SMALLEST, generate
from anymri.synthesis.realistic.study import as_study
from anymri.systems.computation import Computation, computed_by
from anymri.systems.contract import System
from anymri.systems.crops import Sides
from anymri.weights.card import WeightsCard

# Increased with every change of the case or of the rule.
RULE = 1
SUBSETS = (ALL, Subset.parse("T1c+FLAIR"), Subset.parse("T2"))
REGIONS = ("WT", "TC", "ET")
LOWEST_DICE = 0.995
# So many voxels of a region may differ whatever its size: rounding decides voxels on the surface.
MOST_VOXELS = 10
# Mean over the voxels of the largest difference of the probabilities of a voxel.
LARGEST_DIFFERENCE = 0.01
# A solid tumour in the middle of the brain, which reaches into the smallest windows.
SEED, INDEX = 1, 0


@dataclass(frozen=True)
class Verdict:
    """Result of the comparison of a lane with float32 on these weights.

    allowed  whether the lane may be used
    finding  what was found, as a part of a sentence
    speed    time of float32 / time of the lane, for one window and one subset
    """

    allowed: bool
    finding: str
    speed: float


def compare(system: System[Any], card: WeightsCard, computation: Computation) -> Verdict:
    """Return the verdict on a computation of a system.

    It is allowed if, for each of `SUBSETS` that the network has seen, label maps agree with those of float32 (Dice of
    each region of `REGIONS` at least 0.995, or at most 10 voxels that differ), and probabilities differ by at most 0.01
    in the mean.
    """
    windows = Windows.of(card)
    case = check_case(card, system.crop or windows.sides)
    subsets = [subset for subset in SUBSETS if card.saw(subset)] or [ALL]
    exact, others = predict(system, case, subsets, windows), _predict_by(computation, system, case, subsets, windows)
    found = [_departure(*each) for each in zip(subsets, exact, others, strict=True)]
    started = time.perf_counter()
    predict(system, case, [ALL], windows)
    middle = time.perf_counter()
    _predict_by(computation, system, case, [ALL], windows)
    speed = (middle - started) / (time.perf_counter() - middle)
    worst = max(found, key=lambda departure: (departure.is_too_large, 1 - departure.dice))
    return Verdict(not worst.is_too_large, worst.text, speed)


def check_case(card: WeightsCard, sides: Sides) -> Prepared:
    """Return the case of the comparison, one window of `sides` voxels around a tumour, as the network takes it."""
    x, y, z = (max(SMALLEST, side) for side in sides)
    made = generate(SEED, INDEX, float(card.preprocessing.coarsening), (x, y, z), easy=True)
    # Made on the grid of the network.
    return preprocess(as_study(made, "synthetic"), card.preprocessing.model_copy(update={"coarsening": 1}))


def _predict_by(
    computation: Computation, system: System[Any], case: Prepared, subsets: Sequence[Subset], windows: Windows
) -> list[VolumePrediction]:
    with computed_by(computation, system):
        return predict(system, case, subsets, windows)


@dataclass(frozen=True)
class _Departure:
    """Difference of a prediction from that of float32.

    is_too_large  whether it is beyond the rule
    dice          Dice of the region that differs most
    text          what differs most, as a part of a sentence
    """

    is_too_large: bool
    dice: float
    text: str


def _departure(subset: Subset, exact: VolumePrediction, found: VolumePrediction) -> _Departure:
    labels, others = exact.label_map(), found.label_map()
    regions = [
        _of_region(region, subset, region_mask(labels, region), region_mask(others, region)) for region in REGIONS
    ]
    worst = max(regions, key=lambda each: (each.is_too_large, 1 - each.dice))
    difference = float((exact.probabilities - found.probabilities).abs().amax(0).mean())
    # Not "larger than", which is false for NaN.
    if not worst.is_too_large and not difference <= LARGEST_DIFFERENCE:
        text = f"on a synthetic case, probabilities from {subset} differ from float32 by {difference:.3f} in the mean"
        return _Departure(True, worst.dice, text)
    return worst


def _of_region(region: str, subset: Subset, mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> _Departure:
    differing, total = int((mask ^ other).sum()), int(mask.sum() + other.sum())
    dice = 1 - differing / total if total else 1.0
    text = f"on a synthetic case, {region} from {subset} has Dice {dice:.3f} to float32 ({differing} voxels differ)"
    if not differing:
        text = "its label maps of a synthetic case equal those of float32"
    return _Departure(differing > MOST_VOXELS and dice < LOWEST_DICE, dice, text)
