"""Recognition of data sets, splits and verdicts of a reproduction."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anymri.analysis.published import quote
from anymri.analysis.statistics import Interval
from anymri.data.case import Case
from anymri.data.image import write_image
from anymri.modalities import MODALITIES, SUBSETS
from anymri.reproduction.dataset import DataSet, Kind, recognise
from anymri.reproduction.lists import draw_lists, read_lists, write_lists
from anymri.reproduction.plan import make_plan
from anymri.reproduction.verdict import Verdict, subset_differences, verdicts
from anymri.synthesis.phantoms import write_cohort
from anymri.systems import registry
from anymri.training.cohort.split import read_list


def case(name, label=None):
    return Case(name, {modality: Path(f"{modality}.nii.gz") for modality in MODALITIES}, label)


def data_set(names, published=None):
    kind = Kind("BraTS", 2023, "brats2023", published, ".*")
    return DataSet(Path("data"), kind, "brats2023", [case(name) for name in names], [])


@pytest.mark.parametrize(
    ("name", "year"),
    [
        ("Brats18_CBICA_AAB_1", 2018),
        ("BraTS19_2013_10_1", 2019),
        ("BraTS20_Training_001", 2020),
        ("BraTS2021_00000", 2021),
        ("PHANTOM-00000-000", None),
    ],
)
def test_recognise_returns_the_year_of_the_names(name, year):
    assert recognise([case(name)]).year == year


def test_recognise_returns_nothing_for_mixed_or_other_names():
    assert recognise([case("BraTS2021_00000"), case("BraTS20_Training_001")]) is None
    assert recognise([case("patient")]) is None


@pytest.mark.parametrize(("value", "year"), [(3, 2023), (4, 2024)])
def test_a_resection_cavity_distinguishes_2024_from_2023(tmp_path, value, year):
    label = tmp_path / "seg.nii.gz"
    write_image(label, np.full((2, 2, 2), value, np.uint8), np.eye(4))
    assert recognise([case("BraTS-GLI-00001-000", label)]).year == year


def test_a_complete_data_set_is_split_with_the_numbers_of_the_authors():
    # Some patients have two scans, and are trained on.
    names = [f"BraTS-GLI-{patient:05}-{time:03}" for patient in range(1211) for time in range(1 + (patient < 40))]
    split = draw_lists(data_set(names, published=1251), (875, 125, 251))
    assert [len(part) for part in (split.train, split.validation, split.test)] == [875, 125, 251]
    held_out = {each.name for each in (*split.validation, *split.test)}
    assert not any(name.startswith(f"BraTS-GLI-{patient:05}") for patient in range(40) for name in held_out)
    assert split == draw_lists(data_set(names, published=1251), (875, 125, 251))


def test_another_number_of_cases_is_split_in_proportion_and_by_patient():
    names = [f"BraTS-GLI-{patient:05}-{time:03}" for patient in range(20) for time in range(3)]
    split = draw_lists(data_set(names), (1080, 0, 270))
    assert len(split.test) == 12 and len(split.train) == 48 and split.test_chooses
    assert not {each.patient for each in split.train} & {each.patient for each in split.test}


def test_written_lists_keep_the_subsets_of_the_validation_cases(tmp_path):
    names = [f"case{number}" for number in range(6)]
    (tmp_path / "train.txt").write_text("\n".join(names[:3]))
    (tmp_path / "val.txt").write_text(names[3])
    (tmp_path / "val15splits.csv").write_text(f'case,mask\n{names[3]},"[True, False, False, True]"\n')
    (tmp_path / "test.txt").write_text(names[4])
    split = read_lists(tmp_path, data_set(names), (875, 125, 251))
    assert "Not in them: 1 case." in split.source
    files = write_lists(tmp_path / "out", split)
    assert {name: str(subset) for name, subset in read_list(files["validation"]).items()} == {"case3": "T2+FLAIR"}
    assert list(read_list(files["test"])) == ["case4"]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan") / "phantoms"
    write_cohort(folder, 4, size=48)
    return folder


@pytest.mark.parametrize("system", [name for name in registry.names() if registry.card(name).split])
def test_every_system_with_authors_has_a_plan_at_small_scale(phantoms, tmp_path, system):
    plan = make_plan(system, phantoms, tmp_path / "out", scale="small", device="cpu")
    assert 0 < plan.steps <= 16 and not plan.is_reproduction
    assert plan.configuration.recipe.precision != "16-mixed"


@pytest.mark.parametrize(
    ("published", "words"), [(0.5, "below"), (0.6, "inside"), (0.75, "inside"), (0.9, "above"), (math.nan, "-")]
)
def test_a_verdict_says_where_the_published_value_is(published, words):
    assert words in Verdict("WT", Interval(0.7, 0.6, 0.8, 100), published).words


def test_differences_are_ours_minus_published_in_percent():
    rows = [
        {"case": name, "subset": str(subset), "region": region, "metric": "dice", "value": 0.8, "status": "scored"}
        for name in ("a", "b")
        for subset in SUBSETS
        for region in ("WT", "TC", "ET")
    ]
    metrics = pd.DataFrame(rows)
    found = {each.region: each for each in verdicts(metrics, "dice", quote("xlstm_hved-2024"))}
    assert found["WT"].ours.value == pytest.approx(0.8) and found["WT"].published == pytest.approx(0.7453, abs=1e-3)
    grid = subset_differences(metrics, "dice", quote("xlstm_hved-2024"))
    assert len(grid.rows) == len(SUBSETS) + 1
    ours, published, difference = (cell.text for cell in grid.rows[-1][4:7])
    assert ours == "80.0 [80.0, 80.0]" and published == "74.5" and difference == "+5.5"
