"""Two processes that train together: gradients, files, signals, and the death of one of them."""

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
from anymri.training.engine import train
from anymri.training.launch import Launch
from anymri.training.process_group import check_shares
from anymri.training.run import Run
from small_runs import SIZE, Recorder, configured, same, weights
from two_processes import ADVERSARIAL, MEANS, ONE_STEP, gradients_in_float64, means_over_samples


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """Folder in which two processes ran all trainings of `two_processes`."""
    folder = tmp_path_factory.mktemp("workshop")
    write_cohort(folder / "data", 5, size=SIZE)
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
    ("name", "system", "objective", "settings"),
    [
        ("means", "u_hved", means_over_samples, MEANS),
        ("u_hved", "u_hved", None, (*ONE_STEP, "accumulate=2")),
        pytest.param(*("adversarial", "ra_hved", None, (*ADVERSARIAL, "accumulate=2")), marks=pytest.mark.acceptance),
    ],
    ids=["as one batch", "with noise and Dice per micro-batch", "against a discriminator"],
)
def test_two_processes_have_the_gradients_of_one(workshop, name, system, objective, settings):
    """With losses that are means over samples and without noise, one process may take the batch as a whole.

    Other losses draw noise and sum over samples per micro-batch: one process takes the batch in as many.
    """
    with gradients_in_float64(workshop / f"{name}-one", system, objective):
        configuration = configured(workshop / "data", workshop / "cache", *settings, system=system)
        train(configuration, workshop / f"{name}-run", Recorder())
    steps = sorted((workshop / f"{name}-one").iterdir())
    assert len(steps) >= 2
    for step in steps:
        one, *two = (
            torch.load(workshop / f"{name}-{who}" / step.name) for who in ("one", "gradients-0", "gradients-1")
        )
        assert all(each.keys() == one.keys() for each in two)
        assert all(torch.equal(two[0][parameter], two[1][parameter]) for parameter in one)
        expected, found = (torch.cat([gradient.flatten() for gradient in each.values()]) for each in (one, two[0]))
        assert expected.dtype == torch.float64
        assert (found - expected).norm() < 1e-10 * expected.norm()


def test_only_the_first_process_writes(workshop):
    log = pd.read_csv(workshop / "whole" / "log.csv")
    assert log["step"].tolist() == [2, 4, 6, 8, 10, 12]
    assert pd.read_csv(workshop / "whole" / "validation.csv")["epoch"].unique().tolist() == [2, 3]
    assert json.loads((workshop / "whole" / "provenance.json").read_text())["processes"] == 2
    assert len(list((workshop / "whole" / "tensorboard").iterdir())) == 2  # one per stage


def test_a_signal_to_one_process_stops_both_and_the_resumed_run_equals_the_uninterrupted_one(workshop):
    for number in (0, 1):
        assert "--resume" in (workshop / f"stopped-{number}").read_text()
    assert same(weights(workshop / "whole"), weights(workshop / "interrupted"))


def test_a_killed_process_ends_the_others_with_a_message_and_a_state_to_resume_from(workshop):
    what, fix = (workshop / "error").read_text().splitlines()
    assert "Another process of this training has ended" in what and "--resume" in fix
    position, _ = Run(workshop / "killed").load_state()
    assert (position.epoch, position.step) == (1, 0)
    train(configured(workshop / "data", workshop / "cache"), workshop / "killed", Recorder(), resume=True)
    assert pd.read_csv(workshop / "killed" / "log.csv")["step"].tolist() == [2, 4, 6, 8, 10, 12]


def test_more_processes_than_patches_are_refused(workshop):
    settings = configured(workshop / "data", workshop / "cache")
    with pytest.raises(ConfigurationError, match=r"batch_size=2 .* 3 processes.*\n.*batch_size=3"):
        check_shares(settings.recipe.stages, 3)


SRUN = {
    "SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2",
    "SLURM_PROCID": "6", "SLURM_LOCALID": "2",
}  # fmt: skip


def test_the_launch_is_read_from_the_environment():
    assert Launch.from_environment({}) == Launch() and Launch().processes == 1
    torchrun = {"RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x"}
    assert Launch.from_environment(torchrun) == Launch("torchrun", 3, 1, 2, 2)
    assert Launch.from_environment(SRUN) == Launch("slurm", 6, 2, 4, 2)
    # In a batch script, without srun, there is one process, even if the job may start more.
    assert (
        Launch.from_environment({name: SRUN[name] for name in ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_NNODES")})
        == Launch()
    )
    with pytest.raises(ConfigurationError, match="--ntasks-per-node"):
        Launch.from_environment({name: value for name, value in SRUN.items() if name != "SLURM_NTASKS_PER_NODE"})
