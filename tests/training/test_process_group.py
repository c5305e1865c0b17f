"""Two processes with gloo train as one does; what they leave, and what happens when one of them dies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import two_processes
from anymri.errors import ConfigurationError
from anymri.synthesis.phantoms import write_cohort
from anymri.systems.u_hved import recipe as u_hved
from anymri.training.engine import _check_shares, train
from anymri.training.launch import Launch
from anymri.training.learner import Learners
from anymri.training.run import Run
from small_runs import Silent, configured, same, weights
from two_processes import GAME, MEANS, ONE_STEP, means_over_samples


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """The folder in which two processes did all of `two_processes`."""
    folder = tmp_path_factory.mktemp("workshop")
    write_cohort(folder / "data", 5, size=48)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    paths = [str(Path(__file__).parents[1]), *sys.path]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    ended = subprocess.run(
        [*torchrun, two_processes.__file__, str(folder)], capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode != 0  # the last training was killed
    assert (folder / "error").exists(), ended.stderr
    return folder


@pytest.mark.parametrize(
    ("name", "system", "settings"),
    [
        ("means", "u_hved", MEANS),
        ("u_hved", "u_hved", (*ONE_STEP, "accumulate=2")),
        ("game", "ra_hved", (*GAME, "accumulate=2")),
    ],
    ids=["as one batch", "with noise and Dice over each part", "against a discriminator"],
)
def test_two_processes_have_the_gradients_of_one(workshop, name, system, settings, monkeypatch):
    """Where losses are means over samples, and there is no noise, one process may take the batch whole. What systems
    draw, and sum over samples, belongs to a part of a batch: one process takes it in as many parts."""
    monkeypatch.setattr(Learners, "_descend", Learners._descend)
    if name == "means":
        monkeypatch.setitem(u_hved.OBJECTIVES, "train", means_over_samples)
    two_processes.keep_gradients(workshop / f"{name}-one")
    train(
        configured(workshop / "data", workshop / "cache", *settings, system=system), workshop / f"{name}-run", Silent()
    )
    steps = sorted((workshop / f"{name}-one").iterdir())
    assert len(steps) >= 2
    for step in steps:
        one, *two = (
            torch.load(workshop / f"{name}-{who}" / step.name) for who in ("one", "gradients-0", "gradients-1")
        )
        assert all(each.keys() == one.keys() for each in two)
        assert all(torch.equal(two[0][parameter], two[1][parameter]) for parameter in one)
        expected, found = (torch.cat([gradient.flatten() for gradient in each.values()]) for each in (one, two[0]))
        assert (found - expected).norm() < 1e-5 * expected.norm()


def test_one_process_writes(workshop):
    log = pd.read_csv(workshop / "whole" / "log.csv")
    assert log["step"].tolist() == [2, 4, 6, 8, 10, 12]
    assert pd.read_csv(workshop / "whole" / "validation.csv")["epoch"].unique().tolist() == [2, 3]
    assert json.loads((workshop / "whole" / "provenance.json").read_text())["processes"] == 2
    assert len(list((workshop / "whole" / "tensorboard").iterdir())) == 2  # one a stage


def test_a_signal_to_one_process_stops_both_and_they_go_on_as_if_nothing_had_been(workshop):
    for number in (0, 1):
        assert "--resume" in (workshop / f"stopped-{number}").read_text()
    assert same(weights(workshop / "whole"), weights(workshop / "interrupted"))


def test_a_killed_process_ends_the_others_with_a_message_and_a_state_to_go_on_from(workshop):
    what, fix = (workshop / "error").read_text().splitlines()
    assert "Another process of this training has ended" in what and "--resume" in fix
    position, _ = Run(workshop / "killed").load_state()
    assert (position.epoch, position.step) == (1, 0)
    train(configured(workshop / "data", workshop / "cache"), workshop / "killed", Silent(), resume=True)
    assert pd.read_csv(workshop / "killed" / "log.csv")["step"].tolist() == [2, 4, 6, 8, 10, 12]


def test_more_processes_than_patches_are_refused(workshop):
    settings = configured(workshop / "data", workshop / "cache")
    with pytest.raises(ConfigurationError, match=r"2 patches .* 3 processes.*\n.*batch_size=3"):
        _check_shares(settings.recipe.stages, 3)


SRUN = {
    "SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2",
    "SLURM_PROCID": "6", "SLURM_LOCALID": "2",
}  # fmt: skip


def test_how_a_process_was_started_is_read_from_its_surroundings():
    assert Launch.found({}) == Launch() and Launch().count == 1
    torchrun = {"RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x"}
    assert Launch.found(torchrun) == Launch("torchrun", 3, 1, 2, 2)
    assert Launch.found(SRUN) == Launch("slurm", 6, 2, 4, 2)
    # In a batch script, without srun, there is one process, however many the job may start.
    assert Launch.found({name: SRUN[name] for name in ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_NNODES")}) == Launch()
    with pytest.raises(ConfigurationError, match="--ntasks-per-node"):
        Launch.found({name: value for name, value in SRUN.items() if name != "SLURM_NTASKS_PER_NODE"})
