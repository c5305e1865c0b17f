"""A prediction held against the truth: what several metrics need is computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.metrics.calibration import RegionProbabilities, Reliability, reliability
from anymri.evaluation.metrics.lesions import LesionMetrics, Rules, score_2023
from anymri.evaluation.metrics.lesions_2024 import score_2024
from anymri.evaluation.metrics.overlap import Mask
from anymri.evaluation.metrics.pair import Pair, box_around
from anymri.evaluation.metrics.reconstruction import ReconstructedScans
from anymri.regions import REGIONS, region_mask

# The farthest that lesion rules look beyond a mask: five dilations, and one more to see what touches.
_LESION_MARGIN = 6


class Comparison:
    """A predicted map of classes and the true one, on one grid.

    prediction, truth  (X, Y, Z) uint8, classes of `anymri.regions`
    spacing_mm         size of a voxel
    probabilities      what the prediction was made from, if it is known
    reconstructed            scans that the system made of the others, where it was asked to
    """

    def __init__(
        self,
        prediction: NDArray[np.uint8],
        truth: NDArray[np.uint8],
        spacing_mm: Sequence[float] = (1, 1, 1),
        probabilities: RegionProbabilities | None = None,
        reconstructed: ReconstructedScans | None = None,
    ) -> None:
        box = box_around((prediction != 0) | (truth != 0), _LESION_MARGIN)
        self.prediction, self.truth = (np.ascontiguousarray(classes[box]) for classes in (prediction, truth))
        self.spacing_mm = tuple(float(s) for s in spacing_mm)
        self.voxels = prediction.size
        self.probabilities = probabilities
        self.reconstructed = reconstructed
        self._kept: dict[Any, Any] = {}

    def masks(self, region: str) -> tuple[Mask, Mask]:
        """The region in the prediction and in the truth, with the margin that lesion rules need."""
        return region_mask(self.prediction, region), region_mask(self.truth, region)

    def pair(self, region: str) -> Pair:
        if region not in self._kept:
            self._kept[region] = Pair(*self.masks(region), self.spacing_mm, self.voxels)
        pair: Pair = self._kept[region]
        return pair

    def reliability(self, region: str) -> Reliability:
        """The region's probabilities in bins."""
        assert self.probabilities is not None
        key = ("reliability", region)
        if key not in self._kept:
            self._kept[key] = reliability(*self.probabilities.of(region))
        curve: Reliability = self._kept[key]
        return curve

    def lesions_2023(self, region: str, rules: Rules) -> LesionMetrics:
        """Lesion-wise scores by the rules of BraTS 2023."""
        key = (region, rules)
        if key not in self._kept:
            self._kept[key] = score_2023(*self.masks(region), self.spacing_mm, rules)
        scores: LesionMetrics = self._kept[key]
        return scores

    @cached_property
    def lesions_2024(self) -> dict[str, LesionMetrics]:
        """Lesion-wise scores of each region by the glioma rules of BraTS 2024."""
        predicted, truth = ({region: self.masks(region)[i] for region in REGIONS} for i in (0, 1))
        return score_2024(predicted, truth, self.spacing_mm)
