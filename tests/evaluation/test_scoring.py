"""Scoring of label maps of other tools, and the refusal of folders that do not fit."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from anymri.analysis.tables import write_tables
from anymri.data.image import write_image
from anymri.errors import CohortError, ConfigurationError, GeometryError, ImageError, LabelError, RunError
from anymri.evaluation.metrics import METRICS
from anymri.evaluation.metrics import score as metric_of_masks
from anymri.evaluation.scoring import score
from anymri.synthesis.phantoms import write_cohort

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
SHAPE = (20, 18, 12)
# classes to the values of brats2021
OLD = np.array([0, 1, 2, 4], np.uint8)


def classes(seed):
    """Return a map of a few nested boxes."""
    low = np.random.default_rng(seed).integers(2, 6, 3)
    labels = np.zeros(SHAPE, np.uint8)
    for size, value in ((6, 2), (4, 1), (2, 3)):
        x, y, z = low
        labels[x : x + size, y : y + size, z : z + size] = value
    return labels


def write(path, array, affine=AFFINE):
    write_image(path, array, affine)
    return path


@pytest.fixture
def folders(tmp_path):
    """Labels of two cases in one folder, predictions of both in another; other values and orientation."""
    for number in (0, 1):
        write(tmp_path / "labels" / f"case{number}-seg.nii.gz", classes(number))
        turned = np.diag([1.0, -1.0, 2.0, 1.0])
        turned[0, 3] = -(SHAPE[0] - 1)
        write(tmp_path / "predictions" / f"case{number}.nii.gz", OLD[classes(number + 5)][::-1].copy(), turned)
    return tmp_path


def run(folder, **options):
    given = {"prediction_scheme": "brats2021", **options}
    return score(folder / "predictions", folder / "labels", folder / "out", "brats2023", **given).metrics


def test_predictions_in_another_scheme_and_orientation_are_scored(folders):
    metrics = run(folders, metrics=("dice", "hd95", "nsd_1mm"))
    assert set(metrics["subset"]) == {"T1+T1c+T2+FLAIR"} and (metrics["status"] == "scored").all()
    for number in (0, 1):
        for region, labels in (("WT", (1, 2, 3)), ("ET", (3,))):
            a, b = (np.isin(classes(seed), labels) for seed in (number + 5, number))
            rows = metrics[(metrics["case"] == f"case{number}") & (metrics["region"] == region)]
            expected = [metric_of_masks(name, a, b, (1, 1, 2)) for name in ("dice", "hd95", "nsd_1mm")]
            assert rows["value"].tolist() == pytest.approx(expected)
    text = write_tables(folders / "out", metrics)
    assert text.startswith("# predictions on 2 cases\n") and "NSD 1 mm: share of both surfaces' area" in text


def test_distances_on_a_sheared_grid_are_those_of_world_coordinates(tmp_path):
    """A gantry tilt of 30 degrees in the sform: a ball moved by 4 slices."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 2] = np.tan(np.pi / 6)
    indices = np.indices((48, 48, 48)).reshape(3, -1).T
    ball = (np.linalg.norm(indices - (28, 22, 26), axis=1) <= 8).reshape(48, 48, 48).astype(np.uint8)
    for kind, array in (("labels", ball), ("predictions", np.roll(ball, 4, 2))):
        image = nib.Nifti1Image(array, affine)
        image.set_qform(None, 0)
        image.set_sform(affine, 1)
        (tmp_path / kind).mkdir()
        nib.save(image, tmp_path / kind / "c1.nii.gz")
    metrics = run(tmp_path, prediction_scheme=None, metrics=("hd95", "assd")).query("region == 'WT'")
    assert dict(zip(metrics["metric"], metrics["value"].round(4), strict=True)) == {"hd95": 4.0119, "assd": 1.8962}


def test_every_metric_of_masks_has_a_value(folders):
    names = [name for name, metric in METRICS.items() if metric.needs == "masks"]
    metrics = run(folders, metrics=names)
    assert set(metrics["metric"]) == set(names) and metrics["value"].notna().all()
    assert set(metrics.query("metric == 'lesion_dice_2024'")["region"]) == {"WT", "TC", "ET", "NETC", "SNFH"}
    write_tables(folders / "out", pd.read_csv(folders / "out" / "metrics.csv"))


def test_folders_named_by_subset_are_scored_separately(folders):
    source = folders / "predictions"
    for subset, cases in (("FLAIR", (0, 1)), ("t1ce+flair", (0,))):
        (source / subset).mkdir()
        for number in cases:
            data = (source / f"case{number}.nii.gz").read_bytes()
            (source / subset / f"case{number}.nii.gz").write_bytes(data)
    for file in source.glob("*.nii.gz"):
        file.unlink()
    metrics = run(folders)
    assert list(metrics["subset"].unique()) == ["FLAIR", "T1c+FLAIR"]
    without = metrics[metrics["status"] != "scored"]
    assert set(zip(without["case"], without["subset"], without["status"], strict=True)) == {
        ("case1", "T1c+FLAIR", "no prediction")
    }
    assert "case1: no prediction, in no mean." in write_tables(folders / "out", metrics)


def test_a_cohort_gives_the_labels_and_case_folders_the_predictions(tmp_path):
    write_cohort(tmp_path / "labels", 1, size=48)
    (case,) = [p for p in (tmp_path / "labels").iterdir() if p.is_dir()]
    mask = tmp_path / "predictions" / case.name / "segmentation.nii.gz"
    mask.parent.mkdir(parents=True)
    mask.write_bytes(next(case.glob("*-seg.nii.gz")).read_bytes())
    metrics = run(tmp_path, prediction_scheme=None)
    assert set(metrics["case"]) == {case.name}
    assert set(metrics.query("metric == 'dice'")["value"]) == {1.0}


def test_regions_that_the_scheme_of_the_predictions_does_not_define_are_marked(folders):
    for file in (folders / "predictions").iterdir():
        file.unlink()
    for number in (0, 1):
        labels = np.array([0, 2, 1, 2], np.uint8)[classes(number)]
        write(folders / "predictions" / f"case{number}.nii.gz", labels)
    metrics = run(folders, prediction_scheme="brats2012")
    assert set(metrics.query("region == 'ET'")["status"]) == {"no ET in brats2012"}
    assert set(metrics.query("region != 'ET' and metric == 'dice'")["value"]) == {1.0}


def refused(folders, error, *words, **options):
    with pytest.raises(error) as caught:
        run(folders, **options)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.fix.endswith((".", "..."))
    assert not (folders / "out" / "metrics.csv").exists()


def test_another_grid_is_refused(folders):
    file = write(folders / "predictions" / "case1.nii.gz", np.zeros((20, 18, 11), np.uint8))
    refused(folders, GeometryError, "case1", "20x18x11", "20x18x12")
    shifted = AFFINE.copy()
    shifted[2, 3] = 3
    write(file, np.zeros(SHAPE, np.uint8), shifted)
    refused(folders, GeometryError, "case1", "3.00 mm")


def test_values_outside_the_scheme_are_refused(folders):
    write(folders / "predictions" / "case0.nii.gz", np.full(SHAPE, 3, np.uint8))
    refused(folders, LabelError, "case0.nii.gz", "3", "brats2021")


def test_a_case_without_a_label_is_refused(folders):
    write(folders / "predictions" / "case7.nii.gz", np.zeros(SHAPE, np.uint8))
    refused(folders, CohortError, "case7", "no label")


def test_a_case_without_a_prediction_is_marked_and_not_zero(folders):
    (folders / "predictions" / "case0.nii.gz").unlink()
    metrics = run(folders)
    rows = metrics[metrics["case"] == "case0"]
    assert set(rows["status"]) == {"no prediction"} and rows["value"].isna().all()


@pytest.mark.parametrize("which", ["predictions", "labels"])
def test_an_empty_or_missing_folder_is_refused(folders, which):
    for file in (folders / which).iterdir():
        file.unlink()
    refused(folders, CohortError, str(folders / which))
    (folders / which).rmdir()
    refused(folders, CohortError, str(folders / which))


def test_two_files_of_one_case_are_refused(folders):
    write(folders / "predictions" / "case0-seg.nii.gz", np.zeros(SHAPE, np.uint8))
    refused(folders, CohortError, "case0.nii.gz", "case0-seg.nii.gz")


@pytest.mark.parametrize(("names", "words"), [(["a\nb"], "U+000A"), (["x", "X"], "differ only in capitals")])
def test_names_that_results_cannot_have_are_refused(folders, names, words):
    for name in names:
        write(folders / "predictions" / f"{name}.nii.gz", classes(0))
    refused(folders, CohortError, words)


def test_files_that_are_not_label_maps_are_refused(folders):
    (folders / "predictions" / "case0.nii.gz").write_bytes(b"nothing")
    refused(folders, ImageError, "case0.nii.gz")
    write(folders / "predictions" / "case0.nii.gz", np.full(SHAPE, 0.5, np.float32))
    refused(folders, LabelError, "not whole numbers")


def test_metrics_that_need_more_than_masks_are_refused(folders):
    refused(folders, ConfigurationError, "ece", "probabilities", metrics=("dice", "ece"))
    refused(folders, ConfigurationError, "psnr_brain", "reconstructed scans", metrics=("dice", "psnr_brain"))


def test_other_settings_are_refused_and_the_same_settings_give_the_same_rows(folders):
    before = run(folders)
    with pytest.raises(RunError, match="metrics"):
        run(folders, metrics=("dice",))
    with pytest.raises(RunError, match="name"):
        run(folders, name="other")
    pd.testing.assert_frame_equal(run(folders), before)


def test_names_and_paths_as_text_give_the_same_result(folders):
    predictions, labels, output = (str(folders / name) for name in ("predictions", "labels", "text"))
    evaluation = score(predictions, labels, output, "brats2023", "brats2021", subset="t1ce+flair")
    assert {row["subset"] for row in evaluation.rows} == {"T1c+FLAIR"}
    assert evaluation.card is None and evaluation.seen_in_training == [] and evaluation.folder == folders / "text"
    assert evaluation.metrics["value"].tolist() == run(folders)["value"].tolist()
    assert json.loads((folders / "text" / "provenance.json").read_text())["command"] == "score"


def test_label_maps_are_scored_without_the_packages_of_extras(folders):
    arguments = [str(folders / "predictions"), str(folders / "labels"), "out", "brats2023", "brats2021"]
    code = f"""
import sys
sys.modules.update(dict.fromkeys(["pandas", "matplotlib", "jinja2", "lightning", "monai", "pyarrow"]))
import anymri
print(anymri.score(*{arguments}).plain_table())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folders)
    assert "anymri[report]" in done.stdout, done.stderr
    written = pd.read_csv(folders / "out" / "metrics.csv", float_precision="round_trip")
    pd.testing.assert_frame_equal(written, run(folders))
