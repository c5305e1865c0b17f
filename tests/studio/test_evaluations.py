"""Evaluations in the studio: tables, and their cases from the files that they name."""

import numpy as np
import pytest

from anymri.evaluation.runner import evaluate
from anymri.modalities import SUBSETS
from anymri.studio.weights import offered
from made_evaluations import write_evaluation
from studio.opened import opened


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, cohort, weights):
    folder = tmp_path_factory.mktemp("evaluated") / "evaluation"
    evaluate(weights["plain"], cohort, folder, subsets=["T1c", "T1c+FLAIR"], metrics=["dice"], device="cpu")
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory, evaluated, weights):
    with opened(tmp_path_factory.mktemp("studio"), evaluated, weights=weights) as found:
        yield found


def test_means_and_rows_are_those_of_the_evaluation(page, evaluated):
    import pandas as pd

    entry = page.entry("evaluation")
    assert entry["kind"] == "evaluation"
    found = page.get(f"/api/evaluations/{entry['id']}").json()
    table = pd.read_csv(evaluated / "metrics.csv")
    mean = table[(table.subset == "T1c") & (table.region == "WT")].value.mean()
    assert found["table"]["T1c"]["WT"]["dice"] == pytest.approx(mean, abs=1e-5)
    assert len(found["rows"]) == len(table) and found["metrics"] == {"dice": "fraction"}
    assert found["subsets"] == [str(subset) for subset in SUBSETS] and found["openable"]
    assert found["system"] == "u_hved" and found["weights"] == "plain.safetensors"
    row = found["rows"][0]
    assert row["case"] in found["cases"] and row["dice"] == pytest.approx(table.value[0], abs=1e-5)


def test_case_of_an_evaluation_opens_from_the_files_that_it_names(page):
    entry = page.entry("evaluation")
    path = f"/api/evaluations/{entry['id']}"
    opened_case = page.post(f"{path}/open", {"case": "PHANTOM-00001-000"}).json()["entry"]
    assert opened_case["parent"] == entry["id"] and opened_case["name"] == "PHANTOM-00001-000"
    case, found = page.ready(opened_case)
    assert [label["name"] for label in found["labels"]] == ["expert"]
    made = page.done(f"{case}/segment", {"weights": "plain", "subset": "T1c"})
    row = next(
        each
        for each in page.get(path).json()["rows"]
        if (each["case"], each["subset"], each["region"]) == ("PHANTOM-00001-000", "T1c", "WT")
    )
    assert made["dice"]["WT"] == pytest.approx(row["dice"], abs=1e-3)
    again = page.post(f"{path}/open", {"case": "PHANTOM-00001-000"}).json()["entry"]
    assert again["id"] == opened_case["id"]


@pytest.mark.parametrize("case", ["no", "../x", "", None, {"a": 1}])
def test_cases_that_the_evaluation_does_not_have_are_refused(page, case):
    refused = page.post(f"/api/evaluations/{page.entry('evaluation')['id']}/open", {"case": case})
    assert refused.status_code == 400 and refused.json()["error"]["fix"]


def test_evaluation_whose_scans_are_gone_is_shown_and_says_why_no_case_opens(tmp_path):
    with opened(tmp_path, write_evaluation(tmp_path / "made", cases=2, missing=[(0, "T1")])) as page:
        entry = page.entry("made")
        found = page.get(f"/api/evaluations/{entry['id']}").json()
        assert not found["openable"] and len(found["rows"]) == 2 * 15 * 3
        missing = next(row for row in found["rows"] if row["case"] == "case-00" and row["subset"] == "T1")
        assert missing["dice"] is None and missing["status"] == "T1 missing"
        assert np.isfinite(found["table"]["FLAIR"]["WT"]["dice"])
        refused = page.post(f"/api/evaluations/{entry['id']}/open", {"case": "case-00"})
        assert refused.status_code == 400 and "does not exist any more" in refused.json()["error"]["what"]


def test_weights_of_an_evaluation_are_offered_where_they_are_still_there(evaluated, weights, tmp_path):
    assert list(offered([weights["making"]], [evaluated])) == ["making", "plain"]
    assert list(offered([weights["plain"]], [evaluated])) == ["plain"]
    gone = write_evaluation(tmp_path / "gone", cases=1)
    assert list(offered([weights["plain"]], [gone])) == ["plain"]
