"""Starter weights: their card, and what they find on synthetic and on real cases."""

import numpy as np
import pytest

from anymri.data.case import read_study
from anymri.data.layouts import find_cases
from anymri.inference.segmenter import Segmenter
from anymri.modalities import SUBSETS, Subset
from anymri.regions import label_scheme, region_mask
from anymri.synthesis.phantoms import write_cohort
from anymri.weights.catalogue import installed


@pytest.fixture(scope="module")
def starter():
    return Segmenter.load("starter", device="cpu")


def dice(segmenter, folder, subset):
    """Dice of WT, TC and ET of the case in a folder."""
    (case,) = find_cases(folder)
    study = read_study(case, label_scheme("brats2023"))
    prepared = segmenter.prepare(study).only(Subset.parse(subset))
    (prediction,) = segmenter.predict(prepared, [Subset.parse(subset)])
    found = prepared.paste(prediction.label_map())
    values = []
    for region in ("WT", "TC", "ET"):
        a, b = region_mask(found, region), region_mask(study.classes, region)
        values.append(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))
    return values


def test_starters_are_small_and_say_what_they_are():
    starters = [each for each in installed() if each.is_starter]
    assert starters and sum(each.file.stat().st_size for each in starters) < 10_000_000
    for each in starters:
        card = each.card()
        assert card.synthetic_only and card.summary.startswith("Trained on synthetic brains only")
        assert card.licence == "Apache-2.0" and "generator" in card.trained_on[0]
        assert set(card.tables[0].dice) == set(map(str, SUBSETS)) and "synthetic" in card.tables[0].data
        assert any("BraTS-GLI-00000" in table.data for table in card.tables)


def test_the_starter_finds_a_synthetic_tumour(starter, tmp_path):
    (folder,) = write_cohort(tmp_path, 1, seed=1001, style="realistic")
    assert dice(starter, folder, "T1+T1c+T2+FLAIR")[0] > 0.6


@pytest.mark.parametrize(
    ("subset", "least"),
    [
        ("T1+T1c+T2+FLAIR", (0.91, 0.92, 0.84)),
        ("T1c+FLAIR", (0.89, 0.92, 0.88)),
        ("FLAIR", (0.87, 0.68, 0)),
        ("T2", (0.77, 0, 0)),
        ("T1c", (0.81, 0.92, 0.87)),
    ],
)
def test_the_starter_finds_the_tumour_of_a_real_case(starter, real_data, subset, least):
    found = dice(starter, real_data / "brats-gli-00000-000", subset)
    assert all(value >= bound for value, bound in zip(found, least, strict=True)), found
