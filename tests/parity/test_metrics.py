"""Metrics against the libraries that the field uses, on label-map pairs built by rule. See `reference.py`."""

import numpy as np
import pytest

from anymri.evaluation.metrics import ONE_EMPTY_HD95_MM, dice, hd95
from parity import filler, reference

FIXTURE = reference.load("metrics")
TOLERANCE = FIXTURE["tolerance_abs"]
CASES = {case["name"]: case for case in FIXTURE["cases"]}
REGIONS = ("WT", "TC", "ET")


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
    case = CASES[request.param]
    return case, build(case["shape"], case["pred"]), build(case["shape"], case["truth"])


def test_label_maps_are_built_by_the_rule(pair):
    case, prediction, truth = pair
    for labels, name in ((prediction, "pred"), (truth, "truth")):
        counts = {value: int((labels == int(value)).sum()) for value in "1234"}
        assert counts == case["expected"]["voxels"][name]


@pytest.mark.parametrize("region", REGIONS)
def test_dice(pair, region):
    case, *maps = pair
    a, b = (np.isin(m, FIXTURE["regions"][region]) for m in maps)
    assert dice(a, b) == pytest.approx(case["expected"]["regions"][region]["dice_eps"], abs=TOLERANCE)


@pytest.mark.parametrize("region", REGIONS)
def test_pooled_hd95(pair, region):
    case, *maps = pair
    a, b = (np.isin(m, FIXTURE["regions"][region]) for m in maps)
    expected = case["expected"]["regions"][region]["hd95_medpy"]
    if expected is None:  # medpy raises on an empty mask; our rule is the field's usual one
        expected = 0 if a.any() == b.any() else ONE_EMPTY_HD95_MM
    assert hd95(a, b, case["spacing"]) == pytest.approx(expected, abs=TOLERANCE)
