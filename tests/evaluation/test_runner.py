"""Evaluation of weights on a cohort: rows, missing modalities, continuing after an interruption, refused inputs."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import anymri
from anymri import extras
from anymri.analysis.reading import read_evaluation
from anymri.analysis.tables import write_tables
from anymri.data.case import read_study
from anymri.data.image import read_image, write_image, write_like
from anymri.data.layouts import find_cases
from anymri.errors import AnymriError, CohortError, ConfigurationError, InputWarning, MissingExtraError, RunError
from anymri.evaluation import folder as evaluation_folder
from anymri.evaluation import runner
from anymri.evaluation.metrics import dice, score
from anymri.evaluation.rows import COLUMNS
from anymri.evaluation.runner import evaluate
from anymri.inference.segmenter import Segmenter
from anymri.modalities import SUBSETS
from anymri.regions import label_scheme
from anymri.synthesis.phantoms import write_cohort
from untrained import write_weights

FIRST, SECOND = "PHANTOM-00000-000", "PHANTOM-00001-000"
# Two subsets and one metric, where a test does not depend on them.
FEW = {"subsets": SUBSETS[-2:], "metrics": ["dice"]}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 2, size=32)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture(scope="module")
def complete(cohort, weights, tmp_path_factory):
    """Evaluation with all subsets and the default metrics."""
    return evaluate(weights, cohort, tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def calibrated(cohort, weights, tmp_path_factory):
    """Evaluation with a calibration error, of two subsets."""
    folder = tmp_path_factory.mktemp("calibrated")
    return evaluate(weights, cohort, folder, subsets=FEW["subsets"], metrics=["dice", "ece"])


@pytest.fixture(scope="module")
def resumed(cohort, weights, tmp_path_factory):
    """Evaluation that is interrupted in its second case and run again; names of cases in the order of their work."""
    plain, calls, folder = runner.evaluate_case, [], tmp_path_factory.mktemp("resumed")

    def stopping(segmenter, study, *rest):
        calls.append(study.case.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(segmenter, study, *rest)

    chosen = {"subsets": FEW["subsets"], "metrics": ["dice", "ece"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "evaluate_case", stopping)
        with pytest.raises(KeyboardInterrupt):
            evaluate(weights, cohort, folder, **chosen)
        assert not (folder / "metrics.csv").exists()
        return evaluate(weights, cohort, folder, **chosen), calls


def without(cohort, folder, *suffixes, cases=2):
    """Return a copy of the cohort whose first case does not have some scans."""
    copied = Path(shutil.copytree(cohort, folder))
    for suffix in suffixes:
        next(sorted(copied.iterdir())[0].glob(f"*-{suffix}.nii.gz")).unlink()
    for case in sorted(copied.iterdir())[cases:]:
        shutil.rmtree(case)
    return copied


def test_every_case_subset_region_and_metric_is_one_row(complete):
    assert tuple(complete.metrics.columns) == COLUMNS
    assert len(complete.metrics) == 2 * 15 * 3 * 2 and (complete.metrics["status"] == "scored").all()
    stored = pd.read_csv(complete.folder / "metrics.csv", float_precision="round_trip")
    pd.testing.assert_frame_equal(stored, complete.metrics, check_exact=True, check_dtype=False)
    assert list(stored["subset"].unique()) == [str(s) for s in SUBSETS]


def test_metrics_csv_has_the_bytes_that_pandas_writes(complete, calibrated, tmp_path):
    for evaluation in (complete, calibrated):
        evaluation.metrics.to_csv(tmp_path / "metrics.csv", index=False)
        assert (evaluation.folder / "metrics.csv").read_bytes() == (tmp_path / "metrics.csv").read_bytes()


def test_values_are_those_of_the_segmentation_itself(complete, cohort, weights):
    case = cohort / FIRST
    result = anymri.segment(case, weights=weights, subset="T1c+FLAIR")
    truth = read_image(next(case.glob("*-seg.nii.gz"))).array
    rows = complete.metrics.query("case == @case.name and subset == 'T1c+FLAIR' and region == 'TC'")
    a, b = np.isin(result.classes, (1, 3)), np.isin(truth, (1, 3))
    assert rows["value"].tolist() == pytest.approx([dice(a, b), score("hd95", a, b)])


def test_the_table_has_fifteen_rows_and_their_mean(complete):
    text = write_tables(complete.folder, complete.metrics)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 15 + 1


def test_the_plain_table_has_the_numbers_of_the_table(complete):
    rows = [line.split() for line in complete.plain_table().splitlines() if line and not line.startswith("For")]
    lines = [line for line in write_tables(complete.folder, complete.metrics).splitlines() if line.startswith("|")]
    assert " ".join(rows[0]) == "subset Dice WT Dice TC Dice ET HD95 WT HD95 TC HD95 ET"
    assert [row[0] for row in rows[1:]] == [*map(str, SUBSETS), "mean"]
    assert [row[1:] for row in rows[1:]] == [[cell.strip() for cell in line.split("|")[5:11]] for line in lines[2:]]


def test_without_pandas_rows_are_there_and_the_table_names_the_extra(cohort, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    evaluation = evaluate(weights, cohort, tmp_path, **FEW)
    assert len(evaluation.rows) == 2 * 2 * 3 and "anymri[report]" in evaluation.plain_table()
    with pytest.raises(MissingExtraError, match=r"pip install 'anymri\[report\]'"):
        _ = evaluation.metrics


def test_cases_seen_in_training_are_named(complete):
    assert complete.seen_in_training == [SECOND]


def test_a_loaded_segmenter_gives_the_same_rows_from_names_of_subsets(calibrated, cohort, weights, tmp_path):
    segmenter = Segmenter.load(weights)
    names = [str(subset) for subset in FEW["subsets"]]
    again = evaluate(segmenter, str(cohort), str(tmp_path), subsets=names, metrics=["dice", "ece"])
    assert again.rows == calibrated.rows and again.card == calibrated.card
    for name in ("metrics.csv", "settings.json"):
        assert (tmp_path / name).read_bytes() == (calibrated.folder / name).read_bytes()


def test_a_segmenter_without_a_file_of_weights_is_refused(weights, cohort, tmp_path):
    loaded = Segmenter.load(weights)
    with pytest.raises(ConfigurationError, match="not loaded from a file"):
        evaluate(Segmenter(loaded.system, loaded.card), cohort, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_subsets_with_missing_modalities_are_marked_and_not_zero(cohort, weights, tmp_path):
    copied = without(cohort, tmp_path / "data", "t1n", "t2w", cases=1)
    rows = evaluate(weights, copied, tmp_path / "out", metrics=["dice"]).metrics
    assert len(rows) == 15 * 3
    assert set(rows.loc[rows["status"] == "scored", "subset"]) == {"T1c", "FLAIR", "T1c+FLAIR"}
    assert rows.loc[rows["status"] != "scored", "value"].isna().all()
    assert set(rows.loc[rows["subset"] == "T1+T2", "status"]) == {"T1, T2 missing"}
    text = write_tables(tmp_path / "out", rows)
    assert f"{FIRST} has no T1 and no T2: 12 of 15 subsets not scored" in text


def test_a_region_that_the_scheme_does_not_define_is_marked(cohort, weights, tmp_path):
    copied = without(cohort, tmp_path / "data")
    for label in copied.glob("*/*-seg.nii.gz"):
        image = read_image(label)
        write_like(label, np.array([0, 2, 1, 2], np.uint8)[image.array.astype(int)], image)
    metrics = evaluate(weights, copied, tmp_path / "out", "brats2012", **FEW).metrics
    assert set(metrics.query("region == 'ET'")["status"]) == {"no ET in brats2012"}
    assert (metrics.query("region != 'ET'")["status"] == "scored").all()


def test_chosen_subsets_and_metrics_have_the_values_of_the_whole_table(complete, cohort, weights, tmp_path):
    names = ["hd95", "assd", "brier", "ece"]
    metrics = evaluate(weights, cohort, tmp_path / "out", subsets=["T1c+FLAIR", "T2"], metrics=names).metrics
    assert list(metrics["subset"].unique()) == ["T1c+FLAIR", "T2"] and list(metrics["metric"].unique()) == names
    assert len(metrics) == 2 * 2 * 3 * 4 and metrics["value"].between(0, 1e3).all()
    both = metrics.merge(complete.metrics, on=["case", "subset", "region", "metric"])
    assert len(both) == 2 * 2 * 3 and both["value_x"].tolist() == both["value_y"].tolist()


def test_other_subsets_or_metrics_need_another_folder(complete, cohort, weights):
    with pytest.raises(RunError, match="other settings: metrics"):
        evaluate(weights, cohort, complete.folder, metrics=["dice"])
    with pytest.raises(RunError, match="other settings: subsets"):
        evaluate(weights, cohort, complete.folder, subsets=SUBSETS[:2])


def test_calibration_is_that_of_the_probabilities_in_the_brain(cohort, weights, tmp_path):
    segmenter = Segmenter.load(weights)
    metrics = evaluate(segmenter, cohort, tmp_path / "out", subsets=SUBSETS[-1:], metrics=["brier"]).metrics
    case = read_study(find_cases(cohort)[0], label_scheme("brats2023"))
    (prediction,) = segmenter.predict(segmenter.prepare(case), SUBSETS[-1:])
    brain = np.any([scan != 0 for scan in case.images.values()], axis=0)
    x, y, z = (np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3))
    box = tuple(slice(axis[0], axis[-1] + 1) for axis in (x, y, z))
    whole = prediction.probabilities[1:4].sum(0).double().numpy()
    expected = ((whole - (case.classes[box] > 0)) ** 2)[brain[box]].mean()
    assert metrics["value"].iloc[0] == pytest.approx(expected, rel=1e-5)
    assert metrics["region"].iloc[0] == "WT"


def test_bins_of_probability_give_the_calibration_error(calibrated, complete, cohort):
    bins = pd.read_csv(calibrated.folder / "reliability.csv")
    assert list(bins.columns) == ["case", "subset", "region", "bin", "voxels", "confidence", "frequency"]
    assert bins["bin"].between(0, 14).all() and (bins["voxels"] > 0).all()
    gap = (bins["confidence"] - bins["frequency"]).abs() * bins["voxels"]
    errors = gap.groupby([bins[key] for key in ("case", "subset", "region")]).sum()
    voxels = bins.groupby(["case", "subset", "region"])["voxels"].sum()
    expected = calibrated.metrics.query("metric == 'ece'").set_index(["case", "subset", "region"])["value"]
    pd.testing.assert_series_equal((errors / voxels).sort_index(), expected.sort_index(), check_names=False)
    for case in find_cases(cohort):
        brain = np.any([scan != 0 for scan in read_study(case).images.values()], axis=0)
        assert set(voxels[case.name]) == {np.count_nonzero(brain)}
    assert not (complete.folder / "reliability.csv").exists()


def test_an_interrupted_evaluation_continues_and_keeps_finished_cases(resumed):
    evaluation, calls = resumed
    assert calls == [FIRST, SECOND, SECOND]
    assert evaluation.metrics["case"].nunique() == 2


def test_an_interrupted_evaluation_ends_with_the_files_of_an_uninterrupted_one(resumed, calibrated):
    for name in ("metrics.csv", "reliability.csv"):
        assert (resumed[0].folder / name).read_bytes() == (calibrated.folder / name).read_bytes()


def test_parquet_holds_the_rows_of_the_csv(complete):
    pytest.importorskip("pyarrow")
    stored = pd.read_parquet(complete.folder / "metrics.parquet")
    pd.testing.assert_frame_equal(stored, complete.metrics, check_dtype=False)


def test_without_pyarrow_parquet_is_not_written_and_an_old_file_is_removed(cohort, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation_folder, "find_spec", lambda name: None)
    evaluate(weights, cohort, tmp_path, subsets=SUBSETS[-1:], metrics=["dice"])
    (tmp_path / "metrics.parquet").write_text("of an earlier run")
    evaluate(weights, cohort, tmp_path, subsets=SUBSETS[-1:], metrics=["dice"])
    assert not (tmp_path / "metrics.parquet").exists() and (tmp_path / "metrics.csv").exists()


def test_a_changed_case_is_evaluated_again(cohort, weights, tmp_path):
    copied = without(cohort, tmp_path / "data")
    before = evaluate(weights, copied, tmp_path / "out", **FEW).metrics
    label = next((copied / FIRST).glob("*-seg.nii.gz"))
    image = read_image(label)
    write_like(label, np.where(image.array == 3, 1, image.array).astype(np.uint8), image)
    after = evaluate(weights, copied, tmp_path / "out", **FEW).metrics
    changed = before["value"] != after["value"]
    assert set(before.loc[changed, "case"]) == {FIRST}


def test_a_folder_of_other_weights_is_refused_and_kept(complete, cohort, tmp_path):
    before = (complete.folder / "metrics.csv").read_bytes()
    write_weights(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(RunError, match="other settings: weights"):
        evaluate(tmp_path / "other.safetensors", cohort, complete.folder)
    assert (complete.folder / "metrics.csv").read_bytes() == before


def test_a_folder_with_other_files_is_refused(cohort, weights, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        evaluate(weights, cohort, tmp_path)


def test_a_cohort_without_labels_is_refused(cohort, weights, tmp_path):
    with pytest.raises(CohortError, match="label"):
        evaluate(weights, without(cohort, tmp_path / "data", "seg", cases=1), tmp_path / "out")


def test_labels_of_another_scheme_are_refused_with_their_file(cohort, weights, tmp_path):
    with pytest.raises(AnymriError, match=r"seg\.nii\.gz.*brats2021"):
        evaluate(weights, cohort, tmp_path / "out", "brats2021")


def test_labels_on_another_grid_are_refused(cohort, weights, tmp_path):
    copied = without(cohort, tmp_path / "data")
    label = next((copied / FIRST).glob("*-seg.nii.gz"))
    write_image(label, np.zeros((28, 32, 32), np.uint8), np.diag([-1.0, -1.0, 1.0, 1.0]))
    with pytest.raises(AnymriError, match="28x32x32"):
        evaluate(weights, copied, tmp_path / "out")


def test_settings_record_weights_and_conventions(complete):
    settings = json.loads((complete.folder / "settings.json").read_text())
    assert settings["label_scheme"] == "brats2023" and "medpy" in settings["conventions"]["hd95"]
    assert len(settings["weights_sha256"]) == 64


@pytest.mark.parametrize("table", ["metrics.csv", "reliability.csv"])
def test_a_table_that_has_changed_is_refused_until_the_same_evaluation_writes_it_again(
    calibrated, cohort, weights, tmp_path, table
):
    folder = Path(shutil.copytree(calibrated.folder, tmp_path / "evaluation"))
    written = (folder / table).read_bytes()
    lines = written.splitlines(keepends=True)
    (folder / table).write_bytes(b"".join(lines[: len(lines) // 2]))
    with pytest.raises(RunError, match=rf"{table} has changed since the evaluation\.\nRun the same .* again"):
        read_evaluation(folder)
    (folder / table).unlink()
    with pytest.raises(RunError, match=f"does not contain {table}"):
        read_evaluation(folder)
    evaluate(weights, cohort, folder, subsets=FEW["subsets"], metrics=["dice", "ece"])
    assert (folder / table).read_bytes() == written
    assert len(read_evaluation(folder).metrics) == len(calibrated.rows)


@pytest.mark.parametrize("name", ["settings.json", f"cases/{FIRST}.json", "provenance.json"])
@pytest.mark.filterwarnings("ignore:.*settings.json is damaged")
def test_a_pipe_in_an_evaluation_folder_is_replaced(calibrated, cohort, weights, tmp_path, name):
    folder = Path(shutil.copytree(calibrated.folder, tmp_path / "evaluation"))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    again = evaluate(weights, cohort, folder, subsets=FEW["subsets"], metrics=["dice", "ece"])
    assert again.rows == calibrated.rows and (folder / name).is_file()


def test_a_cohort_of_other_spacing_is_noted_once(weights, tmp_path):
    write_cohort(tmp_path / "coarse", 2, style="realistic", spacing=4.0)
    with pytest.warns(InputWarning, match=r"voxels of 4.00 x 4.00 x 4.00 mm") as noted:
        evaluate(weights, tmp_path / "coarse", tmp_path / "out", subsets=["T1c"], metrics=["dice"], device="cpu")
    assert sum("voxels of" in str(each.message) for each in noted) == 1
