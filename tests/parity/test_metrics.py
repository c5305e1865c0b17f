"""Metrics against the libraries that the field uses, on label-map pairs built by rule. See `reference.py`."""

import math

import numpy as np
import pytest

from anymri.evaluation.metrics import METRICS, ONE_EMPTY_HD95_MM, score
from anymri.evaluation.metrics.comparison import Comparison
from anymri.evaluation.metrics.lesions import GLI_2023, MET_2023
from parity import filler, reference

FIXTURE = reference.load("metrics")
TOLERANCE = FIXTURE["tolerance_abs"]
CASES = {case["name"]: case for case in FIXTURE["cases"]}

# The fixture's fields and our metrics, with what stands for "undefined" if both masks are empty, and if one is.
FIELDS = {
    "dice_eps": ("dice", None),
    "dice_eps_post500": ("dice_et500", None),
    "hd95_medpy": ("hd95", (0, ONE_EMPTY_HD95_MM)),
    "assd_medpy": ("assd", (0, ONE_EMPTY_HD95_MM)),
    "hd95_area_weighted": ("hd95_area", None),
    "surface_dice_1mm": ("nsd_1mm", (1, None)),
    "nsd_unweighted_1mm": ("nsd_voxels_1mm", None),
    "hd95_sobel": ("hd95_sobel", None),
}


def build(shape, items):
    """A label map by the fixture's rule: items in order, later ones overwrite."""
    labels = np.zeros(shape, np.uint8)
    index = np.indices(shape)
    for item in items:
        if item["kind"] == "sphere":
            centre = np.reshape(item["center"], (3, 1, 1, 1))
            where = ((index - centre) ** 2).sum(0) <= item["radius"] ** 2
        elif item["kind"] == "box":
            low, high = (np.reshape(item[end], (3, 1, 1, 1)) for end in ("low", "high"))
            where = ((index >= low) & (index < high)).all(0)
        else:
            where = filler.tensor(item["seed"], item["name"], shape) > item["above"]
        if "only_label" in item:
            where &= labels == item["only_label"]
        labels[where] = item["label"]
    return labels


@pytest.fixture(scope="module", params=CASES)
def pair(request):
    """The case, its prediction and truth, and the comparison of both: label values are our classes."""
    case = CASES[request.param]
    maps = [build(case["shape"], case[kind]) for kind in ("pred", "truth")]
    return case, *maps, Comparison(*maps, case["spacing"])


def region_in(labels, region):
    return np.isin(labels, FIXTURE["regions"][region])


def check(actual, expected, what):
    if expected == "inf":
        expected = math.inf
    assert actual == pytest.approx(expected, abs=TOLERANCE), what


def test_label_maps_are_built_by_the_rule(pair):
    case, prediction, truth, _ = pair
    for labels, name in ((prediction, "pred"), (truth, "truth")):
        counts = {value: int((labels == int(value)).sum()) for value in "1234"}
        assert counts == case["expected"]["voxels"][name]


def test_regions_are_the_fixtures(pair):
    *_, truth, comparison = pair
    for region in FIXTURE["regions"]:
        assert comparison.masks(region)[1].sum() == region_in(truth, region).sum()


def test_metrics_of_whole_masks(pair):
    case, prediction, truth, comparison = pair
    for region, fields in case["expected"]["regions"].items():
        a, b = region_in(prediction, region), region_in(truth, region)
        for field, expected in fields.items():
            name, undefined = FIELDS[field]
            wanted = expected
            if expected is None:
                wanted = undefined[int(a.any() != b.any())]
            elif expected == "inf":
                assert a.any() != b.any()
                wanted = GLI_2023.penalty_mm
            check(METRICS[name].of(comparison, region), wanted, (region, field))
            if name != "dice_et500" or region == "ET":
                check(score(name, a, b, case["spacing"]), wanted, (region, field, "of masks alone"))


@pytest.mark.parametrize(("key", "rules"), [("lesionwise_2023_GLI", GLI_2023), ("lesionwise_2023_MET", MET_2023)])
def test_lesions_by_the_rules_of_2023(pair, key, rules):
    case, _, _, comparison = pair
    for region, expected in case["expected"][key].items():
        logits = comparison.lesions_2023(region, rules)
        actual = {
            "LesionWise_Score_Dice": logits.dice,
            "LesionWise_Score_HD95": logits.hd95_mm,
            "Num_TP": logits.found,
            "Num_FP": logits.false_positives,
            "Num_FN": logits.missed,
            "Sensitivity": METRICS["sensitivity"].of(comparison, region),
            "Specificity": METRICS["specificity"].of(comparison, region),
            "Legacy_Dice": METRICS["dice"].of(comparison, region),
            "Legacy_HD95": METRICS["hd95_area"].of(comparison, region),
        }
        for field, value in expected.items():
            check(actual[field], value, (region, field))


def test_lesions_by_the_rules_of_2024(pair):
    case, _, _, comparison = pair
    for region, expected in case["expected"]["lesionwise_2024_GLI"].items():
        logits = comparison.lesions_2024[region]
        actual = {
            "LesionWise_Score_Dice": logits.dice,
            "LesionWise_Score_HD95": logits.hd95_mm,
            **{f"LesionWise_Score_NSD @ {tolerance:.1f}": value for tolerance, value in logits.nsd.items()},
            "Num_TP": logits.found,
            "Num_FP": logits.false_positives,
            "Num_FN": logits.missed,
            "Legacy_Dice": score("dice", logits.predicted > 0, comparison.masks(region)[1]),
            "Legacy_HD95": METRICS["hd95_legacy_2024"].of(comparison, region),
        }
        for field, value in expected.items():
            check(actual[field], value, (region, field))


def test_registered_lesion_metrics_are_those_scores(pair):
    *_, comparison = pair
    for region, logits in comparison.lesions_2024.items():
        assert METRICS["lesion_dice_2024"].of(comparison, region) == logits.dice
        assert METRICS["lesion_hd95_2024"].of(comparison, region) == logits.hd95_mm
        assert METRICS["lesion_nsd_0.5mm_2024"].of(comparison, region) == logits.nsd[0.5]
    for region in ("WT", "TC", "ET"):
        met = comparison.lesions_2023(region, MET_2023)
        assert METRICS["lesion_dice_2023_met"].of(comparison, region) == met.dice
        assert METRICS["lesion_hd95_2023"].of(comparison, region) == comparison.lesions_2023(region, GLI_2023).hd95_mm
