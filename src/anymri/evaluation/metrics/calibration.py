"""Calibration of probabilities: Brier score, and expected calibration error with its reliability curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.metrics.overlap import Mask
from anymri.regions import REGIONS, OutputKind, region_mask

BINS = 15  # Guo et al. 2017


@dataclass(frozen=True)
class RegionProbabilities:
    """Probabilities of a case and its true classes, on one grid.

    probabilities  (K, X, Y, Z) float32 in 0..1: of classes, or of WT, TC, ET and perhaps RC
    kind           meaning of the K channels
    truth          (X, Y, Z) uint8 classes
    inside         (X, Y, Z) bool, voxels that count: the brain. Outside it predictions are trivially correct
    """

    probabilities: NDArray[np.float32]
    kind: OutputKind
    truth: NDArray[np.uint8]
    inside: Mask

    def of(self, region: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the probability of a region, (n,) in 0..1, in the n voxels that count, and where it is, (n,) bool."""
        if self.kind == "classes":
            classes = [c for c in sorted(REGIONS[region]) if c < len(self.probabilities)]
            probability = self.probabilities[classes][:, self.inside].sum(axis=0, dtype=np.float64)
        else:
            probability = self.probabilities[list(REGIONS).index(region)][self.inside].astype(np.float64)
        return probability.clip(0, 1), region_mask(self.truth[self.inside], region)


@dataclass(frozen=True)
class Reliability:
    """Reliability curve of one region, in `BINS` equal bins of probability.

    voxels     (BINS,) number of voxels
    predicted  (BINS,) their mean probability, 0 in an empty bin
    observed   (BINS,) share of them that is in the region, 0 in an empty bin
    """

    voxels: NDArray[np.int64]
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean |predicted - observed| over voxels; 0 without voxels."""
        return (
            float(np.average(np.abs(self.predicted - self.observed), weights=self.voxels)) if self.voxels.any() else 0.0
        )


def reliability(probability: NDArray[Any], present: NDArray[np.bool_]) -> Reliability:
    """Return the reliability curve of (n,) probabilities of one region and (n,) bool, where the region is."""
    bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    voxels = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, weights=values, minlength=BINS) for values in (probability, present))
    predicted, observed = (total / np.maximum(voxels, 1) for total in sums)
    return Reliability(voxels, predicted, observed)


def brier(probability: NDArray[Any], present: NDArray[np.bool_]) -> float:
    """Return the mean squared difference of (n,) probabilities and (n,) bool, where the region is; 0 without voxels."""
    return float(np.mean((probability - present) ** 2)) if probability.size else 0.0
