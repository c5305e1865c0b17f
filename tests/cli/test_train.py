"""`anymri train`, `anymri recipe` and `anymri demo`."""

import os
import signal
from importlib.util import find_spec
from unittest.mock import patch

import pytest
import yaml

from anymri.cli.commands.demo import run_demo
from cli.command import TRAINING, anymri, anymri_alone, check_refused


def test_train_refuses_to_overwrite_and_resumes_by_the_same_command(workshop):
    data, cache = workshop / "data", workshop / "cache"
    again = ["train", "u_hved", "--data", data, "-o", workshop / "run", *TRAINING, "--cache", cache]
    check_refused(anymri(*again), "--resume")
    assert anymri(*again, "--resume").returncode == 0
    assert anymri("train", "--resume", "-o", workshop / "run").returncode == 0
    check_refused(anymri(*again, "--resume", "--set", "seed=5"), "recipe.seed")


def test_train_resumes_on_another_device_but_not_with_another_recipe(workshop):
    resume = "train", "--resume", "-o", workshop / "run"
    assert anymri(*resume, "--device", "cpu").returncode == 0
    check_refused(anymri(*resume, "--device", "cuda:99"), "cuda:99")
    check_refused(anymri(*resume, "--device", "meta"), "'meta'", "cpu")
    check_refused(anymri(*resume, "--label-scheme", "brats2021"), "label_scheme")
    check_refused(anymri(*resume, "--recipe", "corrected"), "--data")


def test_a_printed_recipe_can_be_trained_from_a_file(tmp_path):
    from anymri.training.configuration import resolve

    result = anymri("recipe", "u_hved", "--recipe", "nano", "--set", "whole.epochs=7", "--set", "seed=3")
    assert result.returncode == 0 and "For a laptop without a GPU" in result.stdout
    (tmp_path / "mine.yaml").write_text(result.stdout)
    options = {"data": tmp_path, "label_scheme": "brats2023"}
    from_file = resolve("u_hved", "corrected", options, tmp_path / "mine.yaml")
    assert from_file == resolve("u_hved", "nano", options, assignments=["whole.epochs=7", "seed=3"])
    assert yaml.safe_load(result.stdout)["recipe"]["sources"] == {"whole.epochs": "--set", "seed": "--set"}
    published = yaml.safe_load(anymri("recipe", "mmformer").stdout)["recipe"]
    assert "sheet mmformer, Training" in published["source"] and "Inference" in published["sources"]["window_overlap"]
    assert len(published["deviations"]) == 2 and published["stages"][0]["batch_size"] == 3


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["u_heved"], "u_hved"),
        (["u_hved", "--recipe", "tiny"], "corrected, reference, nano"),
        (["u_hved", "--set", "epoch=2"], "epochs"),
        (["u_hved", "--set", "crop=33"], "crop=32"),
        (["u_hved", "--set", "network.widht=4"], "width"),
        (["u_hved", "--set", "epochs=many"], "epochs: "),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(arguments, word):
    check_refused(anymri("recipe", *arguments), word)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_prints_the_command_that_continues_it(workshop, tmp_path, number, code):
    from anymri.training.learner import Learners

    step = Learners.step

    def interrupted(*arguments):
        os.kill(os.getpid(), number)
        return step(*arguments)

    train = ["train", "u_hved", "--data", workshop / "data", "-o", tmp_path / "run", *TRAINING]
    unexpected = patch("anymri.training.engine.estimate"), patch("anymri.cli.progress.TrainingProgress.expect")
    with unexpected[0], unexpected[1], patch.object(Learners, "step", interrupted):
        stopped = anymri(*train, "--cache", workshop / "cache")
    assert stopped.returncode == code
    assert f"Interrupted: Training was stopped by {number.name}" in stopped.stderr
    assert f"anymri train --resume -o {tmp_path / 'run'}" in stopped.stderr
    assert anymri("train", "--resume", "-o", tmp_path / "run").returncode == 0


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_logger_that_is_not_installed_is_refused_with_its_extra(workshop, tmp_path, name):
    if find_spec(name):
        pytest.skip(f"{name} is installed")
    train = ["train", "u_hved", "--data", workshop / "data", "-o", tmp_path / "run", *TRAINING]
    check_refused(anymri(*train, "--logger", name), f"anymri[{name}]")
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:.*has voxels of 4.00")  # coarse, so that it is quick
def test_a_small_demo_writes_its_table_segmentations_and_page(tmp_path, monkeypatch):
    monkeypatch.setattr("anymri.training.cohort.synthetic.VALIDATION_CASES", 1)
    monkeypatch.setattr("anymri.training.cohort.synthetic.AT_ONCE", 1)
    small = ("epochs=1", "steps_per_epoch=1", "batch_size=1", "crop=32", "network.width=8", "window_overlap=0")
    run_demo(tmp_path / "demo", 1, 4.0, (*small, "preprocessing.coarsening=4"))
    assert (tmp_path / "demo" / "evaluation" / "table.md").read_text().startswith("# unet_dropout on 1 case")
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image") >= 4 and "T1c+FLAIR" in page
    assert len(list((tmp_path / "demo" / "segmentations").glob("*/segmentation.nii.gz"))) == 4


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Folder of the whole demo, as `make demo` writes it."""
    folder = tmp_path_factory.mktemp("whole") / "demo"
    result = anymri_alone("demo", "-o", folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.acceptance
def test_the_demo_learns_the_cost_of_a_missing_modality(demo):
    """Bounds are below what it reaches and far above chance."""
    import pandas as pd

    metrics = pd.read_csv(demo / "evaluation" / "metrics.csv").query("metric == 'dice'")
    mean = metrics.groupby(["region", "subset"])["value"].mean()
    with_t1c = mean["ET"].index.str.contains("T1c")
    assert mean["WT"]["T1+T1c+T2+FLAIR"] >= 0.60
    assert mean["ET"][with_t1c].mean() >= mean["ET"][~with_t1c].mean() + 0.20
    page = (demo / "report.html").read_text()
    assert page.count("data:image") >= 4 and "T1c+FLAIR" in page
    assert len(list((demo / "segmentations").glob("*/segmentation.nii.gz"))) == 4


@pytest.mark.acceptance
@pytest.mark.parametrize(("subset", "whole", "core"), [("T1+T1c+T2+FLAIR", 0.75, 0.55), ("FLAIR", 0.70, 0)])
def test_the_demo_finds_the_tumour_of_a_real_scan(demo, real_data, tmp_path, subset, whole, core):
    """Goals of the project, with the label map of an expert."""
    from anymri import evaluate

    case = real_data / "brats-gli-00000-000"
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / case.name).symlink_to(case)
    found = evaluate(demo / "run", tmp_path / "cohort", tmp_path / "evaluation", subsets=[subset], metrics=["dice"])
    dice = {row["region"]: row["value"] for row in found.rows}
    assert dice["WT"] >= whole and dice["TC"] >= core, dice
