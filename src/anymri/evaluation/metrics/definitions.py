"""Definition of each metric: name, convention in words, rule for empty masks, and how a comparison gives its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from anymri.evaluation.metrics import overlap
from anymri.evaluation.metrics.axes import voxel_mm3
from anymri.evaluation.metrics.calibration import brier
from anymri.evaluation.metrics.comparison import Comparison
from anymri.evaluation.metrics.lesions import GLI_2023, MEN_2023, MET_2023, LesionMetrics, Rules
from anymri.evaluation.metrics.lesions_2024 import RULES_2024, legacy_hd95
from anymri.evaluation.metrics.overlap import ET_SIZE_RULE_VOXELS, Mask
from anymri.evaluation.metrics.pair import Pair
from anymri.evaluation.metrics.reconstruction import RECONSTRUCTION
from anymri.modalities import MODALITIES
from anymri.regions import ET

# The diagonal of a BraTS volume (240 x 240 x 155 mm), the usual HD95 of a region that only one of two masks has.
ONE_EMPTY_HD95_MM = 373.13

Of = Callable[[Comparison, str], float]
Needs = Literal["masks", "probabilities", "reconstructed scans"]

_NESTED = ("WT", "TC", "ET", "RC")
_INNER = {"WT": ("TC", "ET"), "TC": ("ET",)}
_RECONSTRUCTION: Mapping[str, tuple[Literal["dB", "ratio"], str]] = {
    "psnr": ("dB", "20 log10(range of the real scan / root mean squared error)"),
    "ssim": ("ratio", "mean structural similarity (Gaussian windows of 11 voxels, sigma 1.5, K1 0.01, K2 0.03)"),
    "nmse": ("ratio", "squared error over the squared real scan"),
}
_SIZE_RULE = f"after a predicted ET of fewer than {ET_SIZE_RULE_VOXELS} voxels is emptied, for this metric only"


@dataclass(frozen=True)
class Metric:
    """Metric with one exact definition, which its name identifies.

    title             name in tables
    unit              unit of its values; fractions are printed in percent
    convention        definition in words, with the rule for empty masks
    of                (comparison, region) -> value; NaN where it is not defined
    higher_is_better  False for distances and errors
    regions           regions that it is computed for, where the data have them; of reconstructed scans: modalities
    needs             what it is computed from
    as_predicted      whether regions are taken as the network predicts them, see `Comparison.thresholded`
    published_as      name of the metric in published tables that it may be quoted beside; by default its own
    """

    name: str
    title: str
    unit: Literal["fraction", "mm", "mL", "dB", "ratio"]
    convention: str
    of: Of
    higher_is_better: bool = True
    regions: tuple[str, ...] = _NESTED
    needs: Needs = "masks"
    as_predicted: bool = False
    published_as: str = ""


def overlap_metrics() -> list[Metric]:
    """Return the metrics that count voxels."""
    one_empty = "both empty 1, one empty 0"
    dice = f"2|A and B| / (|A| + |B|); {one_empty}"
    recall = "share of the truth that is predicted; both empty 1, truth empty 0"
    precision = f"share of the prediction that is true; {one_empty}"
    specificity = "share of the background of the whole image that is predicted as background"
    by_dice = _on_masks(overlap.dice)
    size_rule = f"{dice}; {_SIZE_RULE}"
    by_threshold = (
        "each region where its own probability exceeds 0.5, also outside the outer region (of label maps and of "
        "networks that predict classes: as in the label map)"
    )
    regions = f"{dice}; {by_threshold}"
    plus_one = f"2|A and B| / (|A| + |B| + 1), so that 100 % is not reached; one or both empty 0; {by_threshold}"
    overwritten = f"{dice}; {by_threshold}, and each outer region with the inner ones"
    return [
        Metric("dice", "Dice", "fraction", dice, by_dice),
        Metric("dice_et500", "Dice, size rule", "fraction", size_rule, _by_size_rule(by_dice), regions=("ET",)),
        _as_predicted("dice_regions", "Dice, regions", regions, overlap.dice),
        _as_predicted("dice_plus_one", "Dice, plus one", plus_one, overlap.dice_plus_one),
        _as_predicted("dice_overwritten", "Dice, overwritten", overwritten, overlap.dice, with_inner=True),
        Metric("sensitivity", "sensitivity", "fraction", recall, _on_masks(overlap.sensitivity)),
        Metric("specificity", "specificity", "fraction", specificity, _specificity),
        Metric("precision", "precision", "fraction", precision, _on_masks(overlap.precision)),
        Metric("volume_error", "volume error", "mL", "absolute difference of volumes, mL", _volume_error, False),
    ]


def distance_metrics() -> list[Metric]:
    """Return the metrics that are a distance between whole masks."""

    def rule(what: str, one_empty: float) -> str:
        return f"{what}, mm; both empty 0, one empty {one_empty:g}"

    def of(compute: Callable[[Pair], float], one_empty: float) -> Of:
        return _unless_empty(compute, 0.0, one_empty)

    diagonal, penalty = ONE_EMPTY_HD95_MM, GLI_2023.penalty_mm
    pooled = rule("95th percentile of both directed surface distances pooled (as medpy)", diagonal)
    larger = "larger of the two directed 95th percentiles"
    directed = rule(f"{larger} of voxel surface distances (as MONAI)", diagonal)
    by_area = rule(f"{larger} weighted by surface area (as surface-distance and BraTS)", penalty)
    sobel = f"{larger} between surfaces of a Sobel filter, in voxels (as XLSTM-HVED); either empty 0"
    mean = rule("mean of both directed surface distances pooled (as medpy)", diagonal)
    hd95 = of(lambda pair: pair.voxel_gap.pooled_percentile(), diagonal)
    hd95_directed = of(lambda pair: pair.voxel_gap.directed_percentile(), diagonal)
    hd95_area = of(lambda pair: pair.surfel_gap.area_percentile(), penalty)
    assd = of(lambda pair: pair.voxel_gap.mean(), diagonal)
    size_rule = f"{pooled}; {_SIZE_RULE}"
    return [
        Metric("hd95", "HD95", "mm", pooled, hd95, False),
        Metric("hd95_et500", "HD95, size rule", "mm", size_rule, _by_size_rule(hd95), False, ("ET",)),
        Metric("hd95_directed", "HD95 directed", "mm", directed, hd95_directed, False),
        Metric("hd95_area", "HD95 by area", "mm", by_area, hd95_area, False),
        Metric("hd95_sobel", "HD95 Sobel", "mm", sobel, _hd95_sobel, False),
        Metric("assd", "ASSD", "mm", mean, assd, False),
    ]


def surface_dice_metrics() -> list[Metric]:
    """Return the surface Dice, by area and by voxels, at several tolerances."""

    def pair_at(t: float) -> list[Metric]:
        rule = f"within {t:g} mm of the other; both empty 1, one empty 0"
        area = f"share of both surfaces' area {rule} (as surface-distance)"
        voxels = f"mean of both surfaces' shares of voxels {rule} (as BraTS 2024)"
        by_area = _unless_empty(lambda pair: pair.surfel_gap.area_within(t), 1.0, 0.0)
        by_voxels = _unless_empty(lambda pair: pair.voxel_gap.share_within(t), 1.0, 0.0)
        return [
            Metric(f"nsd_{t:g}mm", f"NSD {t:g} mm", "fraction", area, by_area),
            Metric(f"nsd_voxels_{t:g}mm", f"NSD {t:g} mm, voxels", "fraction", voxels, by_voxels),
        ]

    return [metric for tolerance_mm in (0.5, 1.0, 2.0) for metric in pair_at(tolerance_mm)]


def lesion_metrics() -> list[Metric]:
    """Return the lesion-wise metrics of BraTS 2023 and 2024."""
    made = []
    for suffix, rules in (("2023", GLI_2023), ("2023_men", MEN_2023), ("2023_met", MET_2023)):
        what = f"BraTS 2023 lesion-wise: dilation {rules.dilation}, lesions up to {rules.threshold_mm3:g} mm³ ignored"
        of = partial(lambda comparison, region, rules: comparison.lesions_2023(region, rules), rules=rules)
        made += _by_lesion(suffix, what, rules, of, regions=("WT", "TC", "ET"))
    what = (
        "BraTS 2024 glioma lesion-wise: dilation 3 (NETC and RC 5), predicted groups up to 20 voxels (ET 10) removed, "
        "tissues merged, lesions up to 20 mm³ (ET 10) ignored"
    )
    made += _by_lesion("2024", what, RULES_2024["WT"], lambda c, region: c.lesions_2024[region], tuple(RULES_2024))
    legacy = (
        "HD95 by area of the whole region as the code of BraTS 2024 prints it (Legacy_HD95): small predicted groups "
        "removed, and wrong where there are several, as it takes their numbers for a mask; both empty 0, one empty 337"
    )
    return [*made, Metric("hd95_legacy_2024", "HD95 legacy 2024", "mm", legacy, _legacy, False, tuple(RULES_2024))]


def calibration_metrics() -> list[Metric]:
    """Return the metrics of a network's probabilities."""

    def squared_error(comparison: Comparison, region: str) -> float:
        assert comparison.probabilities is not None
        return brier(*comparison.probabilities.of(region))

    def calibration_error(comparison: Comparison, region: str) -> float:
        return comparison.reliability(region).error

    ece = "expected calibration error of the region's probability in the brain, 15 equal bins"
    squared = "mean squared error of the region's probability in the brain"
    return [
        Metric("ece", "ECE", "fraction", ece, calibration_error, False, needs="probabilities"),
        Metric("brier", "Brier", "fraction", squared, squared_error, False, needs="probabilities"),
    ]


def reconstruction_metrics() -> list[Metric]:
    """Return the metrics that compare the reconstruction of a missing modality with the real scan."""

    def metric(name: str, place: str) -> Metric:
        unit, what = _RECONSTRUCTION[name]
        convention = (
            f"{what} in the {place}, of modalities missing from the subset, reconstructed against real, with the "
            f"intensities of the network's input; no value without {place} or where the real scan is constant"
        )

        def of(comparison: Comparison, modality: str) -> float:
            assert comparison.reconstructed is not None
            return comparison.reconstructed.value(name, modality, place)

        title, better = f"{name.upper()} {place}", name != "nmse"
        return Metric(f"{name}_{place}", title, unit, convention, of, better, MODALITIES, "reconstructed scans")

    return [metric(name, place) for place in ("brain", "tumour") for name in RECONSTRUCTION]


def _on_masks(compute: Callable[[Mask, Mask], float]) -> Of:
    return lambda comparison, region: compute(comparison.pair(region).prediction, comparison.pair(region).truth)


def _as_predicted(
    name: str, title: str, convention: str, compute: Callable[[Mask, Mask], float], with_inner: bool = False
) -> Metric:
    """Return a Dice of regions that are not cut to outer ones.

    with_inner  add the inner regions to each, as a label map does into which inner regions are written last
    """

    def of(comparison: Comparison, region: str) -> float:
        prediction, truth = comparison.thresholded(region)
        for inner in _INNER.get(region, ()) if with_inner else ():
            prediction = prediction | comparison.thresholded(inner)[0]
        return compute(prediction, truth)

    return Metric(name, title, "fraction", convention, of, as_predicted=True, published_as="dice")


def _unless_empty(compute: Callable[[Pair], float], both_empty: float, one_empty: float) -> Of:
    """Return a metric that is computed from two masks that are not empty, with its values for all others."""

    def of(comparison: Comparison, region: str) -> float:
        pair = comparison.pair(region)
        if any(pair.empty):
            return both_empty if all(pair.empty) else one_empty
        return compute(pair)

    return of


def _by_size_rule(of: Of) -> Of:
    def value(comparison: Comparison, region: str) -> float:
        prediction, truth = comparison.masks(region)
        a, b = (np.where(m, np.uint8(ET), np.uint8(0)) for m in (overlap.without_small(prediction), truth))
        return of(Comparison(a, b, comparison.axes), region)

    return value


def _by_lesion(
    suffix: str, what: str, rules: Rules, of: Callable[[Comparison, str], LesionMetrics], regions: tuple[str, ...]
) -> list[Metric]:
    title = suffix.replace("_", " ").upper()
    rule = f"{what}; a missed or false lesion counts 0 (HD95 {rules.penalty_mm:g} mm); 1 (HD95 0) without any lesion"

    def metric(name: str, noun: str, rule: str, read: Callable[[LesionMetrics], float]) -> Metric:
        value = partial(lambda comparison, region, read: read(of(comparison, region)), read=read)
        unit: Literal["fraction", "mm"] = "mm" if name == "hd95" else "fraction"
        return Metric(
            f"lesion_{name}_{suffix}", f"lesion {noun} {title}", unit, rule, value, unit == "fraction", regions
        )

    def surface_dice(t: float) -> Metric:
        near = f"{rule}; NSD is the share of voxels of both surfaces within {t:g} mm of the other"
        return metric(f"nsd_{t:g}mm", f"NSD {t:g} mm", near, lambda lesions: lesions.nsd[t])

    return [
        metric("dice", "Dice", rule, lambda lesions: lesions.dice),
        metric("hd95", "HD95", f"{rule}; HD95 weighted by surface area", lambda lesions: lesions.hd95_mm),
        *map(surface_dice, rules.tolerances_mm),
    ]


def _legacy(comparison: Comparison, region: str) -> float:
    return legacy_hd95(comparison.lesions_2024[region], region, comparison.axes)


def _volume_error(comparison: Comparison, region: str) -> float:
    pair = comparison.pair(region)
    voxels = abs(np.count_nonzero(pair.prediction) - np.count_nonzero(pair.truth))
    return float(voxels * voxel_mm3(pair.axes) / 1000)


def _specificity(comparison: Comparison, region: str) -> float:
    pair = comparison.pair(region)
    return overlap.specificity(pair.prediction, pair.truth, pair.voxels)


def _hd95_sobel(comparison: Comparison, region: str) -> float:
    gap = comparison.pair(region).sobel_gap
    return gap.directed_percentile() if gap else 0.0
