"""All metrics by name: convention in words, rule for empty masks, unit.

    metric = METRICS["hd95"]
    metric.of(Comparison(prediction, truth, spacing_mm), "TC")
    score("hd95", prediction_mask, truth_mask, spacing_mm)

Source of the conventions: protocol sheet, sections 8 and 9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from anymri.errors import ConfigurationError, did_you_mean
from anymri.evaluation.metrics.axes import Axes, axes_of
from anymri.evaluation.metrics.comparison import Comparison
from anymri.evaluation.metrics.definitions import (
    ONE_EMPTY_HD95_MM,
    Metric,
    calibration_metrics,
    distance_metrics,
    lesion_metrics,
    overlap_metrics,
    reconstruction_metrics,
    surface_dice_metrics,
)
from anymri.evaluation.metrics.overlap import Mask, dice
from anymri.regions import ET

__all__ = ["DEFAULT", "METRICS", "ONE_EMPTY_HD95_MM", "Metric", "axes_of", "choose", "conventions", "dice", "score"]

DEFAULT = ("dice", "hd95")

_DEFINED = (
    *overlap_metrics(),
    *distance_metrics(),
    *surface_dice_metrics(),
    *lesion_metrics(),
    *calibration_metrics(),
    *reconstruction_metrics(),
)
METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _DEFINED})


def score(name: str, prediction: Mask, truth: Mask, spacing_mm: Sequence[float] | Axes = (1, 1, 1)) -> float:
    """Return a metric of two masks of one region, (X, Y, Z) bool, for metrics that need masks only.

    spacing_mm  sizes of a voxel along X, Y, Z; or its axes, (3, 3), which a sheared grid needs: see `axes_of`
    """
    a, b = (np.where(mask, np.uint8(ET), np.uint8(0)) for mask in (prediction, truth))
    return METRICS[name].of(Comparison(a, b, spacing_mm), "ET")


def choose(names: Iterable[str]) -> list[Metric]:
    """Return the metrics with these names, each once; raise `ConfigurationError` for an unknown name."""
    chosen = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in chosen:
        if name not in METRICS:
            hint = did_you_mean(name, METRICS)
            raise ConfigurationError(f"There is no metric named {name!r}.", f"{hint}Known: {', '.join(METRICS)}.")
    if not chosen:
        raise ConfigurationError("No metric was named.", f"Known: {', '.join(METRICS)}.")
    return [METRICS[name] for name in chosen]


def conventions(metrics: Iterable[Metric]) -> dict[str, str]:
    """Return name -> definition in words, as the provenance records it."""
    return {metric.name: metric.convention for metric in metrics}
