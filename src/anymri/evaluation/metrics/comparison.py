"""A prediction compared with the truth: what several metrics need is computed once and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.metrics.axes import Axes, as_axes
from anymri.evaluation.metrics.calibration import RegionProbabilities, Reliability, reliability
from anymri.evaluation.metrics.lesions import LesionMetrics, Rules, score_2023
from anymri.evaluation.metrics.lesions_2024 import score_2024
from anymri.evaluation.metrics.overlap import Mask
from anymri.evaluation.metrics.pair import Pair, box_around
from anymri.evaluation.metrics.reconstruction import ReconstructedScans
from anymri.regions import REGIONS, region_mask

# Lesion rules reach at most this many voxels beyond a mask: five dilations, and one more to find what touches.
_LESION_MARGIN = 6


class Comparison:
    """Comparison of a predicted map of classes with the true one, on one grid.

    prediction, truth  (X, Y, Z) uint8 classes of `anymri.regions`
    spacing_mm         sizes of a voxel along X, Y, Z; or its axes, (3, 3), which a sheared grid needs
    probabilities      probabilities of the prediction, for metrics of calibration
    reconstructed      reconstructed scans, for their metrics
    thresholded        region -> (X, Y, Z) bool, where its probability exceeds 0.5, for networks that predict regions.
                       The label map cuts inner regions to outer ones, these are as predicted
    """

    def __init__(
        self,
        prediction: NDArray[np.uint8],
        truth: NDArray[np.uint8],
        spacing_mm: Sequence[float] | Axes = (1, 1, 1),
        probabilities: RegionProbabilities | None = None,
        reconstructed: ReconstructedScans | None = None,
        thresholded: Mapping[str, Mask] = MappingProxyType({}),
    ) -> None:
        occupied = (prediction != 0) | (truth != 0)
        for mask in thresholded.values():
            occupied |= mask
        box = box_around(occupied, _LESION_MARGIN)
        self.prediction, self.truth = (np.ascontiguousarray(classes[box]) for classes in (prediction, truth))
        self.axes = as_axes(spacing_mm)
        self.voxels = prediction.size
        self.probabilities = probabilities
        self.reconstructed = reconstructed
        self._thresholded = {region: mask[box] for region, mask in thresholded.items()}
        self._kept: dict[Any, Any] = {}

    def masks(self, region: str) -> tuple[Mask, Mask]:
        """Return the region in prediction and truth, (X, Y, Z) bool, with the margin that lesion rules need."""
        return region_mask(self.prediction, region), region_mask(self.truth, region)

    def thresholded(self, region: str) -> tuple[Mask, Mask]:
        """Return the region in prediction and truth, as `masks`, but as predicted, also outside the outer regions.

        Label maps and networks that predict classes have only what `masks` returns.
        """
        prediction, truth = self.masks(region)
        return self._thresholded.get(region, prediction), truth

    def pair(self, region: str) -> Pair:
        """Return the masks of a region, with the distances between their surfaces."""
        if region not in self._kept:
            self._kept[region] = Pair(*self.masks(region), self.axes, self.voxels)
        pair: Pair = self._kept[region]
        return pair

    def reliability(self, region: str) -> Reliability:
        """Return the reliability curve of a region."""
        assert self.probabilities is not None
        key = ("reliability", region)
        if key not in self._kept:
            self._kept[key] = reliability(*self.probabilities.of(region))
        curve: Reliability = self._kept[key]
        return curve

    def lesions_2023(self, region: str, rules: Rules) -> LesionMetrics:
        """Return the lesion-wise metrics of a region by the rules of BraTS 2023."""
        key = (region, rules)
        if key not in self._kept:
            self._kept[key] = score_2023(*self.masks(region), self.axes, rules)
        metrics: LesionMetrics = self._kept[key]
        return metrics

    @cached_property
    def lesions_2024(self) -> dict[str, LesionMetrics]:
        """Lesion-wise metrics of each region by the glioma rules of BraTS 2024."""
        predicted, truth = ({region: self.masks(region)[i] for region in REGIONS} for i in (0, 1))
        return score_2024(predicted, truth, self.axes)
