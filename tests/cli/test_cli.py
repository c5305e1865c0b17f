"""The command line as its user meets it: exit codes, two sentences, nothing half-written."""

import io
import json
import os
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from unittest.mock import patch

import nibabel as nib
import numpy as np
import pytest
import yaml

from anymri.cli import main
from anymri.systems import registry
from made_evaluations import write_evaluation

TRAINING = ["--recipe", "nano", "--label-scheme", "brats2023", "--set", "epochs=1", "--set", "steps_per_epoch=1"]
TRAINING += ["--set", "crop=16", "--set", "network.width=4", "--set", "batch_size=2", "--set", "window_overlap=0"]


def anymri(*arguments):
    """What the command does, in this process: a new one would take seconds to import torch."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["anymri", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def anymri_alone(*arguments):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "anymri", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A cohort of two small phantoms and a run trained on it, from the command line."""
    folder = tmp_path_factory.mktemp("workshop")
    assert anymri("phantom", "-n", 2, "--size", 48, "-o", folder / "data").returncode == 0
    trained = anymri(
        "train", "u_hved", "--data", folder / "data", "-o", folder / "run", *TRAINING, "--cache", folder / "cache"
    )
    assert trained.returncode == 0, trained.stderr
    assert "learning_rate" in trained.stdout  # the resolved configuration is shown
    assert "Expected: " in trained.stdout and "GB of memory" in trained.stdout and "patches/s" in trained.stdout
    return folder


@pytest.fixture
def case(workshop):
    return next(p for p in sorted((workshop / "data").iterdir()) if p.is_dir())


def check_refused(result, *words):
    """Exit code 2, two sentences with these words, no traceback."""
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    what, fix = result.stderr.strip().removeprefix("Error: ").splitlines()[-2:]
    assert what.strip() and fix.strip()
    for word in words:
        assert word in result.stderr


def test_help_and_systems_do_not_import_torch():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom anymri.cli.commands import app\n"
        "for arguments in (['--help'], ['systems'], ['systems', '--json'], ['train', '--help'], ['plot', '--help']):\n"
        "    assert CliRunner().invoke(app, arguments).exit_code == 0, arguments\n"
        "heavy = {'torch', 'monai', 'numpy', 'nibabel', 'scipy', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr == ""


def test_systems_as_json_hold_every_card():
    cards = json.loads(anymri("systems", "--json").stdout)
    parameters = {card["name"]: card["parameters"] for card in cards}
    assert parameters.keys() == set(registry.names()) and parameters["u_hved"] == 1_250_552


def test_a_card_is_shown_whole():
    shown = anymri_alone("systems", "u_hved").stdout
    assert "arXiv 1907.11150" in shown and "deviations" in shown


def test_segment_writes_what_it_promises(workshop, case, tmp_path):
    files = [next(case.glob(f"*-{suffix}.nii.gz")) for suffix in ("t1c", "t2f")]
    result = anymri(
        "segment", "--t1c", files[0], "--flair", files[1], "--weights", workshop / "run", "-o", tmp_path / "out"
    )
    assert result.returncode == 0, result.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "provenance.json",
        "segmentation.nii.gz",
        "volumes.json",
    ]
    assert "T1c+FLAIR" in result.stdout and "mL" in result.stdout


def test_evaluate_writes_scores_and_the_table(workshop, tmp_path):
    result = anymri("evaluate", workshop / "run", "--data", workshop / "data", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {"cases", "provenance.json", "metrics.csv", "settings.json", "table.md"}
    assert "trained on 2 of the cases" in result.stdout and "Dice WT" in result.stdout


def test_masks_of_any_tool_are_scored_and_put_in_a_table(workshop, tmp_path):
    (tmp_path / "masks").mkdir()
    for label in (workshop / "data").glob("*/*-seg.nii.gz"):
        (tmp_path / "masks" / label.name).write_bytes(label.read_bytes())
    masks = ["evaluate", "--predictions", tmp_path / "masks", "--labels", workshop / "data"]
    scheme = ["--label-scheme", "brats2023"]
    result = anymri(*masks, *scheme, "--name", "oracle", "--metrics", "dice,nsd_1mm", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "# oracle on 2 cases" in result.stdout and "100.0" in result.stdout
    table = anymri("table", tmp_path / "out", "--quote", "m3ae-2020", "--format", "latex")
    assert table.returncode == 0, table.stderr
    assert r"\toprule" in table.stdout and "m3ae-2020 (quoted)" in table.stdout
    written = anymri("table", tmp_path / "out", "--metric", "nsd_1mm", "--average", "-o", tmp_path / "table.md")
    assert written.returncode == 0 and "NSD 1 mm of oracle on 2 cases" in (tmp_path / "table.md").read_text()
    check_refused(anymri(*masks, "-o", tmp_path / "x"), "--label-scheme")
    check_refused(anymri(*masks, *scheme, "--metrics", "hd59", "-o", tmp_path / "x"), "hd95", "nsd_2mm")
    check_refused(anymri(*masks, *scheme, "--subsets", "T1,T2", "-o", tmp_path / "x"), "--subsets")
    check_refused(anymri(*masks, *scheme, "--data", workshop / "data", "-o", tmp_path / "x"), "--data")
    check_refused(anymri("evaluate", "--predictions", tmp_path / "masks", "-o", tmp_path / "x"), "--labels")
    check_refused(anymri("evaluate", "-o", tmp_path / "x"), "--data", "--predictions")
    check_refused(anymri("table", tmp_path / "out", "--metric", "hd95"), "--metrics hd95")
    assert not (tmp_path / "x").exists()


def test_train_refuses_to_overwrite_and_resumes_by_the_same_command(workshop):
    again = [
        "train",
        "u_hved",
        "--data",
        workshop / "data",
        "-o",
        workshop / "run",
        *TRAINING,
        "--cache",
        workshop / "cache",
    ]
    check_refused(anymri(*again), "--resume")
    assert anymri(*again, "--resume").returncode == 0
    assert anymri("train", "--resume", "-o", workshop / "run").returncode == 0
    check_refused(anymri(*again, "--resume", "--set", "seed=5"), "recipe.seed")


def test_a_run_resumes_on_another_device_but_not_with_another_recipe(workshop):
    resume = "train", "--resume", "-o", workshop / "run"
    assert anymri(*resume, "--device", "cpu").returncode == 0
    check_refused(anymri(*resume, "--device", "cuda:99"), "cuda:99")
    check_refused(anymri(*resume, "--device", "meta"), "'meta'", "cpu")
    check_refused(anymri(*resume, "--label-scheme", "brats2021"), "label_scheme")
    check_refused(anymri(*resume, "--recipe", "published"), "--data")


def test_a_recipe_is_printed_resolved_and_can_be_trained_from_a_file(tmp_path):
    from anymri.training.configuration import resolve

    result = anymri("recipe", "u_hved", "--recipe", "nano", "--set", "whole.epochs=7", "--set", "seed=3")
    assert result.returncode == 0 and "For a laptop without a GPU" in result.stdout
    (tmp_path / "mine.yaml").write_text(result.stdout)
    options = {"data": tmp_path, "label_scheme": "brats2023"}
    from_file = resolve("u_hved", "published", options, tmp_path / "mine.yaml")
    assert from_file == resolve("u_hved", "nano", options, assignments=["whole.epochs=7", "seed=3"])
    assert yaml.safe_load(result.stdout)["recipe"]["sources"] == {"whole.epochs": "--set", "seed": "--set"}
    published = yaml.safe_load(anymri("recipe", "mmformer").stdout)["recipe"]
    assert "sheet mmformer, Training" in published["source"] and "Inference" in published["sources"]["window_overlap"]
    assert len(published["deviations"]) == 3 and published["stages"][0]["batch_size"] == 3


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["u_heved"], "u_hved"),
        (["u_hved", "--recipe", "tiny"], "published, nano"),
        (["u_hved", "--set", "epoch=2"], "epochs"),
        (["u_hved", "--set", "crop=33"], "crop=32"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(arguments, word):
    check_refused(anymri("recipe", *arguments), word)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_says_how_to_go_on(workshop, tmp_path, monkeypatch, number, code):
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
def test_a_logger_that_is_not_installed_is_named_with_its_extra(workshop, tmp_path, name):
    if find_spec(name):
        pytest.skip(f"{name} is installed")
    train = ["train", "u_hved", "--data", workshop / "data", "-o", tmp_path / "run", *TRAINING]
    check_refused(anymri(*train, "--logger", name), f"anymri[{name}]")
    assert not (tmp_path / "run").exists()


def nothing(folder):
    return folder / "absent.nii.gz"


def truncated(folder, case):
    path = folder / "truncated.nii.gz"
    path.write_bytes(next(case.glob("*-t1c.nii.gz")).read_bytes()[:2000])
    return path


def no_image(folder, case):
    path = folder / "words.nii.gz"
    path.write_text("not an image")
    return path


def saved(folder, array):
    path = folder / "made.nii.gz"
    nib.save(nib.Nifti1Image(array, np.diag([-1, -1, 1, 1])), path)
    return path


BAD_SCANS = {
    "absent": lambda folder, case: folder / "absent.nii.gz",
    "a folder": lambda folder, case: folder,
    "truncated": truncated,
    "no image": no_image,
    "4-D": lambda folder, case: saved(folder, np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)),
    "2-D": lambda folder, case: saved(folder, np.ones((8, 8), np.float32)),
    "NaN": lambda folder, case: saved(folder, np.where(np.indices((8, 8, 8))[0] == 3, np.nan, 1).astype(np.float32)),
    "constant": lambda folder, case: saved(folder, np.full((8, 8, 8), 7, np.float32)),
    "complex": lambda folder, case: saved(folder, np.ones((8, 8, 8), np.complex64)),
}


@pytest.mark.parametrize("kind", BAD_SCANS)
def test_a_bad_scan_is_refused_by_name_and_nothing_is_written(workshop, case, tmp_path, kind):
    scan = BAD_SCANS[kind](tmp_path, case)
    result = anymri("segment", "--t1c", scan, "--weights", workshop / "run", "-o", tmp_path / "out")
    check_refused(result, scan.name)
    assert not (tmp_path / "out").exists()


def test_no_modality_is_refused(workshop, tmp_path):
    check_refused(anymri("segment", "--weights", workshop / "run", "-o", tmp_path / "out"), "No scan", "--flair")


def test_weights_that_are_none_are_refused(case, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    check_refused(
        anymri("segment", case, "--weights", tmp_path / "w.safetensors", "-o", tmp_path / "out"), "w.safetensors"
    )
    check_refused(anymri("segment", case, "--weights", tmp_path / "nowhere", "-o", tmp_path / "out"), "nowhere")


def test_an_output_in_the_way_of_a_file_is_refused(workshop, case, tmp_path):
    (tmp_path / "file").write_text("x")
    check_refused(
        anymri("segment", case, "--weights", workshop / "run", "-o", tmp_path / "file" / "out"), "cannot be written"
    )
    check_refused(anymri("phantom", "-n", 1, "-o", tmp_path / "file"), "cannot be written")
    trained = anymri("train", "u_hved", "--data", workshop / "data", *TRAINING, "-o", tmp_path / "file" / "run")
    check_refused(trained, "cannot be written")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train", "v_hved", "--data", ".", "--label-scheme", "brats2023"], "u_hved"),
        (["train", "u_hved", "--data", ".", "--label-scheme", "brats"], "brats2"),
        (["train", "u_hved", "--data", "/nowhere", "--label-scheme", "brats2023"], "/nowhere"),
        (["train", "u_hved"], "--data"),
        (["train"], "u_hved"),
        (["train", "--resume"], "no run"),
        (["systems", "x_hved"], "u_hved"),
    ],
)
def test_wrong_words_are_answered_with_right_ones(tmp_path, arguments, word):
    output = [] if arguments[0] == "systems" else ["-o", tmp_path / "out"]
    check_refused(anymri(*arguments, *output), word)
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback(tmp_path):
    result = anymri_alone("train", "--resume", "-o", tmp_path / "out", "--debug")
    assert result.returncode != 0 and "Traceback" in result.stderr


def test_plots_and_report_from_the_command_line(tmp_path):
    folders = [write_evaluation(tmp_path / name, name, cases=2) for name in ("a", "b")]
    drawn = anymri("plot", folders[0], "-o", tmp_path / "plots")
    assert drawn.returncode == 0 and drawn.stdout.startswith("4 plots in ")
    assert len(list((tmp_path / "plots").glob("*.svg"))) == len(list((tmp_path / "plots").glob("*.png"))) == 4
    written = anymri("report", folders[0])
    assert written.stdout.strip() == str(tmp_path / "a" / "report.html")
    assert "There are no pictures of case-" in (tmp_path / "a" / "report.html").read_text()
    check_refused(anymri("report", *folders), "-o report.html")
    check_refused(anymri("report", tmp_path / "nowhere"), "does not exist")
    check_refused(anymri("plot", *folders, "-o", tmp_path / "p", "--quote", "m3ae-2021"), "Did you mean m3ae-20")


@pytest.mark.demo
def test_the_demo_learns_what_a_missing_modality_costs(tmp_path):
    """The demo whole, as `make demo` runs it: slack below what it reaches, far above chance."""
    import pandas as pd

    result = anymri_alone("demo", "-o", tmp_path / "demo")
    assert result.returncode == 0, result.stderr
    scores = pd.read_csv(tmp_path / "demo" / "evaluation" / "metrics.csv").query("metric == 'dice'")
    mean = scores.groupby(["region", "subset"])["value"].mean()
    with_t1c = mean["ET"].index.str.contains("T1c")
    assert mean["WT"]["T1+T1c+T2+FLAIR"] >= 0.80
    assert mean["ET"][with_t1c].mean() >= mean["ET"][~with_t1c].mean() + 0.25
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image") >= 4 and "T1c+FLAIR" in page
    assert len(list((tmp_path / "demo" / "segmentations").glob("*/segmentation.nii.gz"))) == 4
