"""Evaluation of a cohort: what is scored, what is not, and going on after a stop."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import anymri
from anymri.analysis.tables import write_tables
from anymri.data.case import read_study
from anymri.data.image import read_image, write_image, write_like
from anymri.data.layouts import find_cases
from anymri.errors import AnymriError, CohortError, RunError
from anymri.evaluation import folder as evaluation_folder
from anymri.evaluation import runner
from anymri.evaluation.metrics import dice, score
from anymri.evaluation.rows import COLUMNS
from anymri.evaluation.runner import evaluate, seen_in_training
from anymri.modalities import SUBSETS, Subset
from anymri.regions import label_scheme
from anymri.synthesis.phantoms import write_cohort
from untrained import write_weights


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 2, size=48)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture(scope="module")
def complete(cohort, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    return folder, evaluate(weights, cohort, folder)


def stopped_once(monkeypatch):
    """Interrupts the second scoring of a case; returns the list that names of cases join as they are scored."""
    score, calls = runner.score_case, []

    def stopping(study, *rest):
        calls.append(study.case.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(study, *rest)

    monkeypatch.setattr(runner, "score_case", stopping)
    return calls


def without(cohort, folder, *suffixes):
    """A copy of the cohort whose first case lacks some scans."""
    copied = Path(shutil.copytree(cohort, folder))
    for suffix in suffixes:
        next(sorted(copied.iterdir())[0].glob(f"*-{suffix}.nii.gz")).unlink()
    return copied


def test_every_case_subset_region_and_metric_is_one_row(complete):
    folder, evaluation = complete
    assert tuple(evaluation.scores.columns) == COLUMNS
    assert len(evaluation.scores) == 2 * 15 * 3 * 2 and (evaluation.scores["status"] == "scored").all()
    stored = pd.read_csv(folder / "metrics.csv")
    np.testing.assert_allclose(stored["value"], evaluation.scores["value"])
    assert list(stored["subset"].unique()) == [str(s) for s in SUBSETS]


def test_scores_are_those_of_the_segmentation_itself(complete, cohort, weights):
    _, evaluation = complete
    case = sorted(cohort.iterdir())[0]
    result = anymri.segment(case, weights=weights, subset="T1c+FLAIR")
    truth = read_image(next(case.glob("*-seg.nii.gz"))).array
    rows = evaluation.scores.query("case == @case.name and subset == 'T1c+FLAIR' and region == 'TC'")
    a, b = np.isin(result.classes, (1, 3)), np.isin(truth, (1, 3))
    assert rows["value"].tolist() == pytest.approx([dice(a, b), score("hd95", a, b)])


def test_the_table_has_fifteen_rows_and_their_mean(complete):
    folder, evaluation = complete
    write_tables(folder, evaluation.scores)
    rows = [line for line in (folder / "table.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 15 + 1


def test_cases_seen_in_training_are_known(complete):
    assert seen_in_training(*vars(complete[1]).values()) == ["PHANTOM-00001-000"]


def test_subsets_that_a_case_lacks_are_marked_and_not_zero(cohort, weights, tmp_path):
    evaluation = evaluate(weights, without(cohort, tmp_path / "data", "t1n", "t2w"), tmp_path / "out")
    rows = evaluation.scores.query("case == 'PHANTOM-00000-000'")
    scored = rows[rows["status"] == "scored"]
    assert set(scored["subset"]) == {"T1c", "FLAIR", "T1c+FLAIR"}
    assert rows.loc[rows["status"] != "scored", "value"].isna().all()
    assert set(rows.loc[rows["subset"] == "T1+T2", "status"]) == {"T1, T2 absent"}
    write_tables(tmp_path / "out", evaluation.scores)
    said = "PHANTOM-00000-000 has no T1 and no T2: 12 of 15 subsets not scored"
    assert said in (tmp_path / "out" / "table.md").read_text()


def test_a_region_that_the_scheme_lacks_is_marked(cohort, weights, tmp_path):
    copied = without(cohort, tmp_path / "data")
    for label in copied.glob("*/*-seg.nii.gz"):
        image = read_image(label)
        write_like(label, np.array([0, 2, 1, 2], np.uint8)[image.array.astype(int)], image)
    evaluation = evaluate(weights, copied, tmp_path / "out", "brats2012")
    assert set(evaluation.scores.query("region == 'ET'")["status"]) == {"no ET in brats2012"}
    assert (evaluation.scores.query("region != 'ET'")["status"] == "scored").all()


def test_chosen_subsets_and_metrics_are_those_of_the_whole_table(complete, cohort, weights, tmp_path):
    subsets = [Subset.parse("T1c+FLAIR"), Subset.parse("T2")]
    names = ["hd95", "assd", "brier", "ece"]
    scores = evaluate(weights, cohort, tmp_path / "out", subsets=subsets, metrics=names).metrics
    assert list(scores["subset"].unique()) == ["T1c+FLAIR", "T2"] and list(scores["metric"].unique()) == names
    assert len(scores) == 2 * 2 * 3 * 4 and scores["value"].between(0, 1e3).all()
    keys = ["case", "subset", "region", "metric"]
    both = scores.merge(complete[1].scores, on=keys)
    assert len(both) == 2 * 2 * 3 and both["value_x"].tolist() == both["value_y"].tolist()


def test_other_subsets_or_metrics_need_another_folder(complete, cohort, weights):
    with pytest.raises(RunError, match="other metrics"):
        evaluate(weights, cohort, complete[0], metrics=["dice"])
    with pytest.raises(RunError, match="other subsets"):
        evaluate(weights, cohort, complete[0], subsets=SUBSETS[:2])


def test_calibration_is_that_of_the_probabilities_in_the_brain(cohort, weights, tmp_path, monkeypatch):
    answers = []
    plain = runner.predict
    monkeypatch.setattr(runner, "predict", lambda *arguments: answers.append(plain(*arguments)) or answers[-1])
    scores = evaluate(weights, cohort, tmp_path / "out", subsets=SUBSETS[-1:], metrics=["brier"]).metrics
    case = read_study(find_cases(cohort)[0], label_scheme("brats2023"))
    brain = np.any([scan != 0 for scan in case.images.values()], axis=0)
    x, y, z = (np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    box = tuple(slice(axis[0], axis[-1] + 1) for axis in (x, y, z))
    whole = answers[0][0, 1:4].sum(0).double().numpy()
    expected = ((whole - (case.classes[box] > 0)) ** 2)[brain[box]].mean()
    assert scores["value"].iloc[0] == pytest.approx(expected, rel=1e-5)
    assert scores["region"].iloc[0] == "WT"


def test_bins_of_probability_are_kept_where_their_error_is_asked_for(complete, cohort, weights, tmp_path, monkeypatch):
    """Interrupted and resumed, the files are those of a run from start to end, byte for byte."""
    chosen = {"subsets": SUBSETS[-2:], "metrics": ["dice", "ece"]}
    scores = evaluate(weights, cohort, tmp_path / "straight", **chosen).metrics
    bins = pd.read_csv(tmp_path / "straight" / "reliability.csv")
    assert list(bins.columns) == ["case", "subset", "region", "bin", "voxels", "confidence", "frequency"]
    assert bins["bin"].between(0, 14).all() and (bins["voxels"] > 0).all()
    gap = (bins["confidence"] - bins["frequency"]).abs() * bins["voxels"]
    errors = gap.groupby([bins[key] for key in ("case", "subset", "region")]).sum()
    voxels = bins.groupby(["case", "subset", "region"])["voxels"].sum()
    expected = scores.query("metric == 'ece'").set_index(["case", "subset", "region"])["value"]
    pd.testing.assert_series_equal((errors / voxels).sort_index(), expected.sort_index(), check_names=False)
    for case in find_cases(cohort):
        brain = np.any([scan != 0 for scan in read_study(case).images.values()], axis=0)
        assert set(voxels[case.name]) == {np.count_nonzero(brain)}

    calls = stopped_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        evaluate(weights, cohort, tmp_path / "resumed", **chosen)
    evaluate(weights, cohort, tmp_path / "resumed", **chosen)
    for name in ("metrics.csv", "reliability.csv"):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert len(calls) == 3 and not (complete[0] / "reliability.csv").exists()


def test_parquet_holds_the_rows_of_the_csv(complete):
    pytest.importorskip("pyarrow")
    folder, evaluation = complete
    stored = pd.read_parquet(folder / "metrics.parquet")
    pd.testing.assert_frame_equal(stored, evaluation.scores, check_dtype=False)


def test_without_pyarrow_no_parquet_is_written_and_none_is_left(cohort, weights, tmp_path, monkeypatch):
    chosen = {"subsets": SUBSETS[-1:], "metrics": ["dice"]}
    monkeypatch.setattr(evaluation_folder, "find_spec", lambda name: None)
    evaluate(weights, cohort, tmp_path, **chosen)
    (tmp_path / "metrics.parquet").write_text("of an earlier run")
    evaluate(weights, cohort, tmp_path, **chosen)
    assert not (tmp_path / "metrics.parquet").exists() and (tmp_path / "metrics.csv").exists()


def test_a_second_run_goes_on_and_does_not_score_again(cohort, weights, tmp_path, monkeypatch):
    calls = stopped_once(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        evaluate(weights, cohort, tmp_path)
    assert not (tmp_path / "metrics.csv").exists()
    evaluation = evaluate(weights, cohort, tmp_path)
    assert calls == ["PHANTOM-00000-000", "PHANTOM-00001-000", "PHANTOM-00001-000"]
    assert evaluation.scores["case"].nunique() == 2


def test_a_changed_case_is_scored_again(cohort, weights, tmp_path):
    copied = without(cohort, tmp_path / "data")
    before = evaluate(weights, copied, tmp_path / "out").metrics
    label = next(sorted(copied.iterdir())[0].glob("*-seg.nii.gz"))
    image = read_image(label)
    write_like(label, np.where(image.array == 3, 1, image.array).astype(np.uint8), image)
    after = evaluate(weights, copied, tmp_path / "out").metrics
    changed = before["value"] != after["value"]
    assert set(before.loc[changed, "case"]) == {"PHANTOM-00000-000"}


def test_a_folder_of_other_weights_is_refused_and_kept(complete, cohort, tmp_path):
    folder, _ = complete
    before = (folder / "metrics.csv").read_bytes()
    write_weights(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(RunError, match="other weights"):
        evaluate(tmp_path / "other.safetensors", cohort, folder)
    assert (folder / "metrics.csv").read_bytes() == before


def test_a_folder_with_other_things_is_refused(cohort, weights, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        evaluate(weights, cohort, tmp_path)


def test_a_cohort_without_labels_is_refused(cohort, weights, tmp_path):
    copied = without(cohort, tmp_path / "data", "seg")
    shutil.rmtree(sorted(copied.iterdir())[1])
    with pytest.raises(CohortError, match="label"):
        evaluate(weights, copied, tmp_path / "out")


def test_labels_of_another_scheme_are_refused_by_their_file(cohort, weights, tmp_path):
    with pytest.raises(AnymriError, match=r"seg\.nii\.gz.*brats2021"):
        evaluate(weights, cohort, tmp_path / "out", "brats2021")


def test_labels_on_another_grid_are_refused(cohort, weights, tmp_path):
    copied = without(cohort, tmp_path / "data")
    label = next(sorted(copied.iterdir())[0].glob("*-seg.nii.gz"))
    write_image(label, np.zeros((40, 48, 48), np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]))
    with pytest.raises(AnymriError, match="40x48x48"):
        evaluate(weights, copied, tmp_path / "out")


def test_settings_say_which_weights_and_conventions(complete):
    settings = json.loads((complete[0] / "settings.json").read_text())
    assert settings["label_scheme"] == "brats2023" and "medpy" in settings["conventions"]["hd95"]
