"""Training on small phantoms: files of a run, exact resuming, optimisers, and errors."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import small_runs
from anymri.data.cache import cache_case
from anymri.data.layouts import find_cases
from anymri.data.preprocessing import Preprocessing
from anymri.errors import AnymriError, CohortError, ConfigurationError, LabelError, RunError, WeightsError
from anymri.regions import label_scheme
from anymri.synthesis.phantoms import write_cohort
from anymri.systems.recipes.schema import Stage
from anymri.systems.registry import build
from anymri.training.engine import train
from anymri.training.learner import make_schedule
from anymri.training.patches import batches, random_start
from anymri.training.run import Position, Run
from anymri.training.validation import subsets_for
from anymri.weights.store import load_weights
from small_runs import SIZE, Recorder, same, weights

# Columns of log.csv that say how fast this machine is.
SPEED = ["seconds", "patches_per_second", "data_wait"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder with a cohort of five small phantoms."""
    folder = tmp_path_factory.mktemp("workshop") / "cohort"
    write_cohort(folder, 5, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def run(cohort):
    """Run of a finished training with the default configuration of this file; only read."""
    folder = cohort.parent / "run"
    train(configured(cohort), folder, Recorder())
    return folder


def configured(data, *assignments, **kind):
    """Return the configuration of a small training on a cohort, whose cache is beside it."""
    return small_runs.configured(data, data.parent / "cache", *assignments, **kind)


def copied(folder, to):
    """Return a copy of a folder."""
    return Path(shutil.copytree(folder, to))


def test_a_run_has_weights_logs_split_and_provenance(run):
    log = pd.read_csv(run / "log.csv")
    assert log["step"].tolist() == [2, 4, 6, 8, 10, 12] and np.isfinite(log["loss/total"]).all()
    assert log["stage"].tolist() == ["parts"] * 3 + ["whole"] * 3
    np.testing.assert_allclose(log["patches_per_second"] * log["seconds"], 4, rtol=0.5)
    assert log["data_wait"].between(0, 1, inclusive="neither").all()
    assert pd.read_csv(run / "validation.csv")["epoch"].unique().tolist() == [2, 3]
    split = json.loads((run / "split.json").read_text())
    assert len(split["train"]) == 4 and len(split["validation"]) == 1
    assert not set(split["train"]) & set(split["validation"])
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["configuration"]["recipe"]["seed"] == 0 and len(provenance["inputs"]) == 25
    assert weights(run).keys() == weights(run, "best").keys()
    assert list((run / "tensorboard").iterdir())


def test_logs_have_the_format_of_pandas_with_empty_cells_for_missing_values(tmp_path):
    rows = [{"epoch": 1, "loss": 1e-5}, {"epoch": 2, "loss": float("nan"), "dice, mean": 0.1 + 0.2, "WT": float("inf")}]
    Run(tmp_path).save_state(Position(log=rows))
    assert (tmp_path / "log.csv").read_text() == pd.DataFrame(rows).to_csv(index=False)
    assert not (tmp_path / "validation.csv").exists()


def test_a_stage_without_validation_keeps_its_last_weights_as_best(cohort, tmp_path):
    configuration = configured(cohort, "whole.validation_epochs=null", "epochs=1", "steps_per_epoch=1")
    train(configuration, tmp_path / "run", Recorder())
    assert same(weights(tmp_path / "run"), weights(tmp_path / "run", "best"))
    assert set(pd.read_csv(tmp_path / "run" / "validation.csv")["stage"]) == {"parts"}


@pytest.mark.parametrize("schedule", ["poly_by_step", "plateau"])
def test_a_resumed_run_equals_an_uninterrupted_one(cohort, tmp_path, schedule):
    settings = ("network.width=2", "steps_per_epoch=1", f"schedule={schedule}", "augmentation=rotate_flip_intensity")
    configuration = configured(cohort, *settings)
    train(configuration, tmp_path / "whole", Recorder())
    with pytest.raises(KeyboardInterrupt):
        train(configuration, tmp_path / "parts", Recorder(stop_after=1))
    train(configuration, tmp_path / "parts", Recorder(), resume=True)
    for name in ("last", "best"):
        assert same(weights(tmp_path / "whole", name), weights(tmp_path / "parts", name))
    logs = [pd.read_csv(tmp_path / run / "log.csv").drop(columns=SPEED) for run in ("whole", "parts")]
    pd.testing.assert_frame_equal(*logs)
    if schedule == "poly_by_step":  # after each of three steps
        begin = configuration.recipe.stages[0].optimiser.learning_rate
        assert logs[0]["learning_rate"][:3].tolist() == pytest.approx([begin * (part / 3) ** 0.9 for part in (2, 1, 0)])


HVED = (
    *("crop=32", "steps_per_epoch=1", "batch_size=1", "epochs=1", "discriminator_width=4"),
    "validation_share=0",
)


def test_a_resumed_training_against_a_discriminator_equals_an_uninterrupted_one(cohort, tmp_path):
    """Stopped within a stage and at its end: the discriminator is resumed, and new in the next stage."""
    configuration = configured(cohort, *HVED, "parts.epochs=2", system="ra_hved")
    train(configuration, tmp_path / "whole", Recorder())
    for resume in (False, True, True):
        with pytest.raises(KeyboardInterrupt):
            train(configuration, tmp_path / "parts", Recorder(stop_after=1), resume)
    train(configuration, tmp_path / "parts", Recorder(), resume=True)
    states = [torch.load(tmp_path / run / "checkpoints" / "state.pt") for run in ("whole", "parts")]
    for learner in ("system", "discriminator"):
        networks = [{name: value.numpy() for name, value in s[learner]["network"].items()} for s in states]
        assert same(*networks)
    log = pd.read_csv(tmp_path / "parts" / "log.csv")
    assert log["stage"].tolist() == ["images", "parts", "parts", "whole"] and np.isfinite(log["loss/total"]).all()
    assert np.isfinite(log["loss/discriminator"][1:]).all()


def test_later_stages_continue_with_the_pretrained_weights(cohort, tmp_path):
    constant = [f"{stage}.optimiser.learning_rate=1e-30" for stage in ("parts", "whole")]
    configuration = configured(cohort, *HVED, *constant, system="xlstm_hved")
    with pytest.raises(KeyboardInterrupt):
        train(configuration, tmp_path / "run", Recorder(stop_after=1))
    pretrained = weights(tmp_path / "run")
    train(configuration, tmp_path / "run", Recorder(), resume=True)
    learnt = [name for name in pretrained if "running" not in name and "num_batches" not in name]
    assert all(np.allclose(pretrained[n], weights(tmp_path / "run")[n], rtol=0, atol=1e-20) for n in learnt)
    torch.manual_seed(configuration.recipe.seed)
    fresh = {
        name: value.numpy() for name, value in build("xlstm_hved", configuration.recipe.network).state_dict().items()
    }
    moved = {name.split(".")[0] for name in learnt if not np.array_equal(pretrained[name], fresh[name])}
    assert {"levels", "guide", "attention", "expansions", "vil", "image_decoders"} == moved


M3AE = ("network.grid=[24,24,24]", "validation_share=0", "steps_per_epoch=1", "batch_size=1", "epochs=1")


def test_frozen_modules_are_constant_stored_once_beside_the_weights_and_resumed(cohort, tmp_path):
    configuration = configured(cohort, *M3AE, "parts.epochs=2", system="m3ae")
    train(configuration, tmp_path / "whole", Recorder())
    for resume in (False, True, True):
        with pytest.raises(KeyboardInterrupt):
            train(configuration, tmp_path / "parts", Recorder(stop_after=1), resume)
        if not resume:  # trained in this stage, so it is in the weights file
            pretrained = weights(tmp_path / "parts")["substitute"]
    train(configuration, tmp_path / "parts", Recorder(), resume=True)
    assert same(*(weights(tmp_path / run) for run in ("whole", "parts")))
    assert "substitute" not in weights(tmp_path / "parts", "best")
    [frozen] = (tmp_path / "parts" / "checkpoints").glob("frozen-*")
    assert np.array_equal(load_file(frozen)["substitute"].numpy(), pretrained)
    for name in ("best", "last"):
        system, _ = load_weights(tmp_path / "parts" / "checkpoints" / f"{name}.safetensors")
        assert np.array_equal(system.substitute.detach().numpy(), pretrained)
    log = pd.read_csv(tmp_path / "parts" / "log.csv")
    assert log["stage"].tolist() == ["pretraining", "parts", "parts", "whole"]
    assert np.isfinite(log["loss/distillation"][1:]).all() and np.isfinite(log["loss/total"]).all()


def test_modules_are_trained_at_their_rates(cohort, tmp_path):
    rates = "optimiser.module_rates={substitute: 0.25, unet.encoder.0: 1e-30}"
    configuration = configured(cohort, *M3AE, rates, system="m3ae")
    with pytest.raises(KeyboardInterrupt):
        train(configuration, tmp_path / "run", Recorder(stop_after=1))
    torch.manual_seed(configuration.recipe.seed)
    fresh = build("m3ae", configuration.recipe.network).state_dict()
    # The first step of Adam is as long as the rate.
    moved = {name: np.abs(value - fresh[name].numpy()).max() for name, value in weights(tmp_path / "run").items()}
    assert moved["substitute"] == pytest.approx(0.25, rel=1e-3) and moved["unet.encoder.0.0.weight"] < 1e-20
    rate = configuration.recipe.stages[0].optimiser.learning_rate
    assert moved["unet.encoder.1.0.weight"] == pytest.approx(rate, rel=1e-3) and "heads.0.weight" in moved
    assert pd.read_csv(tmp_path / "run" / "log.csv")["learning_rate"][0] == rate


def test_the_length_of_a_step_follows_from_rate_momentum_and_clipping(cohort, tmp_path):
    descent = "optimiser={name: sgd, learning_rate: 0.5, momentum: 0.99, clip_norm: 0.01}"
    settings = ("validation_share=0", "steps_per_epoch=1", "epochs=1", descent)
    configuration = configured(cohort, *settings)
    with pytest.raises(KeyboardInterrupt):
        train(configuration, tmp_path / "run", Recorder(stop_after=1))
    torch.manual_seed(configuration.recipe.seed)
    fresh = build("u_hved", configuration.recipe.network).state_dict()
    steps = [(value - fresh[name].numpy()).ravel() for name, value in weights(tmp_path / "run").items()]
    # The first step of Nesterov's momentum is 1 + 0.99 times the gradient.
    assert np.linalg.norm(np.concatenate(steps)) == pytest.approx(0.5 * 1.99 * 0.01, rel=1e-3)


def test_unknown_modules_are_refused_before_training(cohort):
    with pytest.raises(
        ConfigurationError, match=r"no module 'subsitute'.*stage parts.*\n.*mean substitute.*substitute, unet"
    ):
        configured(cohort, *M3AE, "parts.frozen=[subsitute]", system="m3ae")


def rates_by_epoch(stage, epochs):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=stage.optimiser.learning_rate)
    steps = make_schedule(stage, optimiser)
    found = []
    for _ in range(epochs):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        steps.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [1, 1, 1]), ("poly", [1, 0.5**0.9, 0]), ("cosine", [1, 0.5, 0])],
)
def test_schedules_fall_to_zero_or_are_constant(schedule, rates):
    stage = Stage(epochs=4, steps_per_epoch=1, crop=16, schedule=schedule, optimiser={"learning_rate": 1})
    found = rates_by_epoch(stage, 5)
    assert found[::2] == pytest.approx(rates, abs=1e-12)


def test_a_warm_cosine_rises_for_twenty_steps_and_falls_to_zero():
    rate = {"learning_rate": 1}
    found = rates_by_epoch(
        Stage(epochs=2, steps_per_epoch=100, crop=16, schedule="warm_cosine_by_step", optimiser=rate), 201
    )
    assert found[:20] == sorted(found[:20]) and found[0] == pytest.approx(0.05) and found[19] == max(found) > 0.95
    assert found[100] == pytest.approx(0.5) and found[200] == pytest.approx(0)


def test_averaged_weights_are_saved_and_resumed(cohort, tmp_path):
    settings = ("network.width=2", "epochs=2", "averaging=0.5")
    configuration = configured(cohort, *settings)
    train(configuration, tmp_path / "whole", Recorder())
    with pytest.raises(KeyboardInterrupt):
        train(configuration, tmp_path / "parts", Recorder(stop_after=1))
    train(configuration, tmp_path / "parts", Recorder(), resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    state = torch.load(tmp_path / "whole" / "checkpoints" / "state.pt")["system"]
    saved = weights(tmp_path / "whole")
    assert not same(saved, {name: value.numpy() for name, value in state["network"].items()})
    assert all(np.array_equal(value, state["average"][f"module.{name}"]) for name, value in saved.items())


def test_a_training_begins_with_initial_weights_of_the_same_network(run, cohort, tmp_path):
    settings = ("epochs=1", "steps_per_epoch=1", "optimiser.learning_rate=1e-12", "validation_epochs=null")
    configuration = configured(cohort, *settings).model_copy(update={"initial_weights": run})
    train(configuration, tmp_path / "run", Recorder())
    initial = weights(run, "best")
    for name, value in weights(tmp_path / "run").items():
        np.testing.assert_allclose(value, initial[name], atol=1e-9)
    inputs = json.loads((tmp_path / "run" / "provenance.json").read_text())["inputs"]
    assert inputs["initial weights"]["file"].endswith("best.safetensors")
    other = configured(cohort, *settings, "network.width=2").model_copy(update={"initial_weights": run})
    with pytest.raises(WeightsError, match="do not fit this training"):
        train(other, tmp_path / "other", Recorder())


def test_learning_rates_of_the_im_fuse_family_are_rounded():
    stage = Stage(epochs=300, steps_per_epoch=1, crop=16, schedule="poly_rounded", optimiser={"learning_rate": 1e-4})
    found = rates_by_epoch(stage, 300)
    # Exact rates are 9.97e-5, 5.36e-5 and 5.89e-7; 8 decimals are kept.
    assert [found[epoch] for epoch in (0, 1, 150, 299)] == pytest.approx([1e-4, 9.97e-5, 5.359e-5, 5.9e-7], rel=1e-9)


def test_modules_without_gradient_are_constant_or_decay_if_listed(cohort, tmp_path):
    settings = (
        "subsets=T1c",
        "optimiser={learning_rate: 0.25, weight_decay: 0.1, zero_gradient_updates: [encoders.T2]}",
    )
    configuration = configured(cohort, *settings, "validation_share=0", "steps_per_epoch=1", "epochs=1")
    with pytest.raises(KeyboardInterrupt):
        train(configuration, tmp_path / "run", Recorder(stop_after=1))
    torch.manual_seed(configuration.recipe.seed)
    fresh = build("u_hved", configuration.recipe.network).state_dict()
    moved = {name: np.abs(value - fresh[name].numpy()).max() for name, value in weights(tmp_path / "run").items()}
    # Decay alone is a gradient, and the first step of Adam is as long as the rate.
    assert moved["encoders.T2.stem.weight"] == pytest.approx(0.25, rel=1e-3)
    assert moved["encoders.T1c.stem.weight"] > 0 and moved["encoders.FLAIR.stem.weight"] == 0


def test_a_killed_command_resumes_to_the_same_weights(run, cohort, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(configured(cohort).to_yaml())
    command = [sys.executable, "-m", "anymri", "train", "--resume", "-o", str(tmp_path / "run")]
    log = tmp_path / "run" / "log.csv"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert log.exists()
    train(configured(cohort), tmp_path / "run", Recorder(), resume=True)
    assert same(weights(run), weights(tmp_path / "run"))


def test_a_finished_run_resumes_without_further_steps(run, cohort, tmp_path):
    resumed = copied(run, tmp_path / "run")
    callback = Recorder()
    train(configured(cohort), resumed, callback, resume=True)
    assert not callback.rows and same(weights(run), weights(resumed))


def test_a_run_is_never_overwritten(run, cohort):
    before = weights(run)
    with pytest.raises(RunError, match="--resume"):
        train(configured(cohort), run, Recorder())
    assert same(before, weights(run))


def test_resuming_with_another_configuration_names_what_differs(run, cohort):
    with pytest.raises(RunError, match=r"recipe\.seed"):
        train(configured(cohort, "seed=9"), run, Recorder(), resume=True)


def test_a_damaged_state_is_named(run, cohort, tmp_path):
    damaged = copied(run, tmp_path / "run")
    state = damaged / "checkpoints" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"state\.pt is damaged"):
        train(configured(cohort), damaged, Recorder(), resume=True)


def test_incomplete_cases_are_trained_on(cohort, tmp_path):
    incomplete = copied(cohort, tmp_path / "incomplete")
    for number, suffix in enumerate(("t1n", "t1c", "t2w", "t2f")):
        next(sorted(incomplete.iterdir())[number].glob(f"*-{suffix}.nii.gz")).unlink()
    callback = Recorder()
    train(configured(incomplete, "epochs=1"), tmp_path / "run", callback)
    assert len(callback.rows) == 2 and all(np.isfinite(row["loss/total"]) for row in callback.rows)


def test_one_case_is_trained_on_without_validation(cohort, tmp_path):
    one = copied(next(cohort.iterdir()), tmp_path / "one" / "case")
    train(configured(one, "epochs=1"), tmp_path / "run", Recorder())
    assert not (tmp_path / "run" / "validation.csv").exists()
    assert same(weights(tmp_path / "run"), weights(tmp_path / "run", "best"))


def without_labels(folder):
    for file in folder.glob("*/*-seg.nii.gz"):
        file.unlink()


def with_a_truncated_scan(folder):
    scan = next(folder.glob("*/*-t2f.nii.gz"))
    scan.write_bytes(scan.read_bytes()[:500])


@pytest.mark.parametrize(
    ("harm", "scheme", "error"),
    [
        (without_labels, "brats2023", CohortError),
        (with_a_truncated_scan, "brats2023", AnymriError),
        (lambda folder: None, "brats2021", LabelError),
        (lambda folder: None, "brats2012", LabelError),
    ],
    ids=["no labels", "truncated scan", "scheme of another data set", "scheme without ET"],
)
def test_an_unusable_cohort_is_refused_before_anything_is_written(cohort, tmp_path, harm, scheme, error):
    harmed = copied(cohort, tmp_path / "copy")
    harm(harmed)
    with pytest.raises(error):
        train(configured(harmed, scheme=scheme), tmp_path / "run", Recorder())
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_ends_the_run_with_advice(cohort, tmp_path):
    settings = ("optimiser.learning_rate=1000", "optimiser.name=sgd", "optimiser.momentum=0.9")
    with pytest.raises(RunError, match="learning rate"):
        train(configured(cohort, *settings), tmp_path / "run", Recorder())


def test_a_loss_of_shaspec_that_is_not_finite_names_its_initialisation(cohort, tmp_path):
    """Gradients of an empty image overflow in norms whose biases are zero; sheet shaspec, section 7."""
    settings = ("network.init=reference", "crop=64", "missing=0.5")
    with pytest.raises(RunError, match=r"network\.init=anymri"):
        train(configured(cohort, *settings, system="shaspec"), tmp_path / "run", Recorder())


@pytest.mark.parametrize("augmentation", ["none", "flip_intensity"])
def test_copies_of_a_patch_differ_in_their_subset_alone_and_have_its_corners(cohort, augmentation):
    case = cached(cohort)
    whole = case.read()
    stage = Stage(epochs=1, steps_per_epoch=1, batch_size=2, copies=3, crop=16, augmentation=augmentation)
    seen = list(batches([case], stage, 0, 0, 6, 0))
    mirrored = 0
    for batch in seen:
        assert batch.patch.tolist() == [0, 0, 0, 1, 1, 1] and len(batch.images) == 6
        for tensor in (batch.images, batch.labels, batch.corners):
            assert torch.equal(tensor, tensor[[0, 0, 0, 3, 3, 3]])
        for labels, (first, last) in zip(
            batch.labels, (batch.corners - torch.tensor(whole.origin)).tolist(), strict=True
        ):
            box = tuple(slice(min(pair), max(pair) + 1) for pair in zip(first, last, strict=True))
            turned = [axis for axis, (a, b) in enumerate(zip(first, last, strict=True)) if a > b]
            assert torch.equal(labels, whole.classes[box].flip(turned).long())
            mirrored += len(turned)
    assert (mirrored > 0) == (augmentation != "none")
    assert len({tuple(row) for batch in seen for row in batch.available[:3].tolist()}) > 3


def test_patches_are_inside_the_box_and_contain_tumour_if_oversampled(cohort):
    case = cached(cohort)
    rng = np.random.default_rng(0)
    for crop in (16, 40):
        for _ in range(50):
            start = random_start(case, patches_of(crop, foreground_oversampling=1), rng)
            assert all(
                0 <= s <= side - crop if side >= crop else s == (side - crop) // 2
                for s, side in zip(start, case.shape, strict=True)
            )
            assert case.read_patch(start, (crop,) * 3).classes.any()


def test_patches_around_voxels_are_at_the_edges_as_often_as_windows(tmp_path):
    write_cohort(tmp_path / "cohort", 1, size=48)
    case = cached(tmp_path / "cohort")
    rng = np.random.default_rng(0)
    last = case.shape[0] - 16
    ends = {}
    for patch_sampling in ("uniform", "around_voxels"):
        starts = [random_start(case, patches_of(16, patch_sampling=patch_sampling), rng)[0] for _ in range(400)]
        assert min(starts) == 0 and max(starts) == last
        ends[patch_sampling] = sum(start in (0, last) for start in starts) / 400
    assert ends["uniform"] < 0.15 and ends["around_voxels"] > 0.35


def cached(cohort):
    """Return the first case of a cohort in the cache."""
    return cache_case(find_cases(cohort)[0], label_scheme("brats2023"), Preprocessing(), cohort.parent / "cache")


def patches_of(crop, **settings):
    return Stage(epochs=1, steps_per_epoch=1, crop=crop, **settings)


@pytest.mark.parametrize(("cases", "each"), [(1, 15), (4, 4), (15, 1), (40, 1)])
def test_all_subsets_are_validated_on_by_few_cases(cohort, cases, each):
    case = cached(cohort)
    dealt = [subsets_for(case, number, cases) for number in range(cases)]
    assert all(len(hand) == each for hand in dealt)
    assert len({subset for hand in dealt for subset in hand}) == 15
