"""Trainings that end at any moment, by a signal or without: resumed, they equal the uninterrupted one."""

import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

import small_runs
from anymri.errors import AnymriWarning, ConfigurationError, Interrupted, OutputError, RunError
from anymri.synthesis.phantoms import write_cohort
from anymri.training import engine
from anymri.training.engine import train
from anymri.training.run import Run
from anymri.training.validation import Validation
from small_runs import SIZE, AtStep, Recorder, same, weights

SETTINGS = ("network.width=2", "steps_per_epoch=5", "epochs=2", "validation_epochs=1", "schedule=plateau")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Folder with a cohort and the uninterrupted run, of two stages of ten steps each."""
    folder = tmp_path_factory.mktemp("workshop")
    write_cohort(folder / "data", 5, size=SIZE)
    train(configured(folder), folder / "whole", Recorder())
    return folder


def configured(workshop, *assignments, **kind):
    return small_runs.configured(workshop / "data", workshop / "cache", *SETTINGS, *assignments, **kind)


def check_equals_the_uninterrupted_run(workshop, run):
    for name in ("last", "best"):
        assert same(weights(workshop / "whole", name), weights(run, name))
    logs = [pd.read_csv(folder / "log.csv") for folder in (workshop / "whole", run)]
    pd.testing.assert_frame_equal(*(log.drop(columns=["seconds", "patches_per_second", "data_wait"]) for log in logs))
    validations = [pd.read_csv(folder / "validation.csv") for folder in (workshop / "whole", run)]
    pd.testing.assert_frame_equal(*validations)


def send(number):
    return lambda: os.kill(os.getpid(), number)


def test_a_signal_lets_the_step_end_and_the_run_resumes_within_the_epoch(workshop, tmp_path):
    """Signals in the middle of an epoch and at its end (3 + 7 steps), again and again."""
    run = tmp_path / "run"
    taken = 0
    for steps, number in ((2, signal.SIGTERM), (6, signal.SIGINT), (1, signal.SIGINT), (1, signal.SIGTERM)):
        before = signal.getsignal(number)
        with pytest.raises(Interrupted, match=rf"{signal.Signals(number).name}.*\n.*--resume -o {run}") as stopped:
            train(configured(workshop), run, AtStep(steps, send(number)), resume=taken > 0)
        assert stopped.value.signal == number and signal.getsignal(number) == before
        # The signal came after a step had ended, so one more was taken.
        taken += steps + 1
        position, _ = Run(run).load_state()
        assert 10 * position.stage + 5 * position.epoch + position.step == taken
    train(configured(workshop), run, Recorder(), resume=True)
    check_equals_the_uninterrupted_run(workshop, run)


def test_a_signal_while_validating_ends_it_at_once_with_all_steps_saved(workshop, tmp_path, monkeypatch):
    validate = engine.validate

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(engine, "validate", interrupted)
    with pytest.raises(Interrupted):
        train(configured(workshop), tmp_path / "run", Recorder())
    assert Run(tmp_path / "run").load_state()[0].step == 5
    monkeypatch.setattr(engine, "validate", validate)
    train(configured(workshop), tmp_path / "run", Recorder(), resume=True)
    check_equals_the_uninterrupted_run(workshop, tmp_path / "run")


def test_a_second_ctrl_c_ends_the_training_immediately(workshop, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stopped:
        train(configured(workshop), tmp_path / "run", AtStep(1, twice))
    assert not isinstance(stopped.value, Interrupted)


def test_the_state_is_saved_within_long_epochs(workshop, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "SECONDS_BETWEEN_SAVES", 0)

    def crash():
        raise MemoryError

    with pytest.raises(MemoryError):
        train(configured(workshop), tmp_path / "run", AtStep(4, crash))
    assert Run(tmp_path / "run").load_state()[0].step == 3
    train(configured(workshop), tmp_path / "run", Recorder(), resume=True)
    check_equals_the_uninterrupted_run(workshop, tmp_path / "run")


def time_of_change(run):
    state = run / "checkpoints" / "state.pt"
    return state.stat().st_mtime_ns if state.exists() else 0


@pytest.mark.acceptance
def test_a_run_killed_at_random_moments_ends_with_the_same_weights(workshop, tmp_path):
    """Each process is killed without warning, as by a failure of the machine, and another one resumes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["anymri.training.engine", "torch.utils.tensorboard.writer"])
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(configured(workshop).to_yaml())
    rng = random.Random(0)
    saved = set()
    for _ in range(6):
        child = context.Process(target=train, args=(configured(workshop), run, Recorder(), True))
        writes, known = 0, time_of_change(run)
        child.start()
        # It is killed after the third state that it writes, at the latest.
        wanted = rng.choice((1, 3))
        while child.is_alive() and writes < wanted:
            if (now := time_of_change(run)) != known:
                writes, known = writes + 1, now
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        child.kill()
        child.join()
        assert child.exitcode in (0, -signal.SIGKILL)
        position, _ = Run(run).load_state()
        saved.add((position.stage, position.epoch, position.step))
        if child.exitcode == 0:
            break
    assert len(saved) > 1
    train(configured(workshop), run, Recorder(), resume=True)
    check_equals_the_uninterrupted_run(workshop, run)


def test_a_full_disk_ends_the_run_with_the_last_state_intact(workshop, tmp_path):
    """Writing fails in the middle of a file, by a limit on the size of files."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))

    try:
        with pytest.raises(OutputError, match=r"last\.safetensors cannot be written.*\n.*free space"):
            train(configured(workshop), tmp_path / "run", AtStep(7, fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "run" / "checkpoints").glob(".anymri-*"))
    train(configured(workshop), tmp_path / "run", Recorder(), resume=True)
    check_equals_the_uninterrupted_run(workshop, tmp_path / "run")


def test_a_run_of_another_system_is_not_resumed(workshop, tmp_path):
    run = Path(shutil.copytree(workshop / "whole", tmp_path / "run"))
    other = configured(workshop, "crop=32", "network.width=4", system="shaspec")
    with pytest.raises(RunError, match=r"another configuration: .*recipe\.system"):
        train(other, run, Recorder(), resume=True)
    with pytest.raises(RunError, match="holds a run already"):
        train(other, run, Recorder())
    check_equals_the_uninterrupted_run(workshop, run)


def test_patience_ends_a_stage_and_the_next_begins(workshop, tmp_path, monkeypatch):
    """Neither the second nor the third validation has a better mean Dice than the first."""
    scores = iter([0.5, 0.4, 0.5, 0.7, 0.6])
    monkeypatch.setattr(engine, "validate", lambda *_: Validation({"mean": next(scores)}, 1.0))
    settings = ("steps_per_epoch=1", "parts.epochs=5", "whole.epochs=2", "patience=2")
    with pytest.warns(AnymriWarning, match="parts ends after epoch 3: 2 validations"):
        train(configured(workshop, *settings), tmp_path / "run", Recorder())
    log = pd.read_csv(tmp_path / "run" / "log.csv")
    assert log["stage"].tolist() == ["parts"] * 3 + ["whole"] * 2
    position, _ = Run(tmp_path / "run").load_state()
    assert position.best == 0.7 and position.worse == 1
    callback = Recorder()
    train(configured(workshop, *settings), tmp_path / "run", callback, resume=True)
    assert not callback.rows


def test_a_run_stopped_after_patience_ended_a_stage_resumes_with_the_next(workshop, tmp_path, monkeypatch):
    scores = iter([0.5, 0.4, 0.7])
    monkeypatch.setattr(engine, "validate", lambda *_: Validation({"mean": next(scores)}, 1.0))
    settings = ("steps_per_epoch=1", "parts.epochs=5", "whole.epochs=1", "patience=1")
    with pytest.warns(AnymriWarning), pytest.raises(KeyboardInterrupt):
        train(configured(workshop, *settings), tmp_path / "run", Recorder(stop_after=2))
    train(configured(workshop, *settings), tmp_path / "run", Recorder(), resume=True)
    assert pd.read_csv(tmp_path / "run" / "log.csv")["stage"].tolist() == ["parts", "parts", "whole"]


def test_patience_without_validations_is_refused(workshop):
    with pytest.raises(ConfigurationError, match="patience counts validations"):
        configured(workshop, "patience=2", "validation_epochs=null")


@pytest.mark.parametrize("name", ["split.json", "provenance.json"])
def test_a_pipe_in_a_run_folder_is_replaced_by_resuming(workshop, tmp_path, name):
    run = Path(shutil.copytree(workshop / "whole", tmp_path / "run"))
    (run / name).unlink()
    os.mkfifo(run / name)
    train(configured(workshop), run, Recorder(), resume=True)
    assert (run / name).is_file()


def test_a_pipe_as_saved_state_is_refused(workshop, tmp_path):
    run = Path(shutil.copytree(workshop / "whole", tmp_path / "run"))
    (run / "checkpoints" / "state.pt").unlink()
    os.mkfifo(run / "checkpoints" / "state.pt")
    with pytest.raises(RunError, match=r"state\.pt is damaged"):
        Run(run).load_state()
