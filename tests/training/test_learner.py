"""Training steps: micro-batches, half precision, memory, and the estimate before a training."""

import itertools
import subprocess
import sys

import pytest
import torch

from anymri.errors import ConfigurationError, RunError
from anymri.synthesis.phantoms import write_cohort
from anymri.systems.u_hved import recipe as u_hved
from anymri.training import estimate
from anymri.training.engine import train
from anymri.training.learner import Learners
from small_runs import SIZE, Recorder, configured
from two_processes import in_float64, means_over_samples


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    write_cohort(folder / "data", 2, size=SIZE)
    return folder


def begin(workshop, run, *assignments, **settings):
    train(configured(workshop / "data", workshop / "cache", *assignments), run, Recorder(), **settings)


def test_micro_batches_give_the_gradients_of_the_batch(workshop, tmp_path, monkeypatch):
    """With losses that are means over samples, and without noise."""
    monkeypatch.setitem(u_hved.OBJECTIVES, "train", in_float64(means_over_samples))
    found = []

    def keep(learners):
        found.append(torch.cat([p.grad.flatten() for p in learners.networks.parameters() if p.grad is not None]))
        raise StopIteration

    monkeypatch.setattr(Learners, "_update_weights", keep)
    for micro_batches in (1, 2, 4):
        settings = ("network.reconstruction=true", "batch_size=4", f"accumulate={micro_batches}")
        with pytest.raises(StopIteration):
            begin(workshop, tmp_path / str(micro_batches), *settings)
    for accumulated in found[1:]:
        assert accumulated.dtype == torch.float64
        assert (accumulated - found[0]).norm() < 1e-10 * found[0].norm()


@pytest.mark.parametrize("setting", ["accumulate=3", "accumulate=4"])
def test_micro_batches_that_do_not_divide_a_batch_are_refused_before_anything_is_written(workshop, tmp_path, setting):
    with pytest.raises(
        ConfigurationError,
        match=r"batch_size=2 cannot be divided into \d equal shares: 1 process with .*\n.*batch_size=",
    ):
        begin(workshop, tmp_path / "run", setting)
    assert not (tmp_path / "run").exists()


def test_half_precision_keeps_images_weights_and_losses_in_float32(workshop, tmp_path, monkeypatch):
    """Only the network computes in half precision; targets and sums over voxels do not."""
    logits, others = set(), set()

    def spy(system, batch):
        logits.add(system(batch.images, batch.available).logits.dtype)
        loss = u_hved.losses(system, batch)
        others.update(each.dtype for each in (batch.images, next(system.parameters()), *loss.named().values()))
        return loss

    monkeypatch.setitem(u_hved.OBJECTIVES, "train", spy)
    settings = ("precision=bf16-mixed", "epochs=1", "steps_per_epoch=1", "network.reconstruction=true")
    begin(workshop, tmp_path / "run", *settings)
    assert logits == {torch.bfloat16} and others == {torch.float32}


def test_an_out_of_memory_error_names_settings_that_need_less(workshop, tmp_path, monkeypatch):
    def need_too_much(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setitem(u_hved.OBJECTIVES, "train", need_too_much)
    with pytest.raises(RunError, match=r"more memory than cpu.*\n.*--set parts\.accumulate=2"):
        begin(workshop, tmp_path / "run")


def test_the_estimate_counts_the_remaining_steps_and_changes_nothing(workshop, tmp_path, monkeypatch):
    estimates = []
    clock = itertools.count()
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(clock))  # one second between two readings
    begin(workshop, tmp_path / "with", expect=estimates.append)
    begin(workshop, tmp_path / "without")
    # Two stages of three epochs of two steps.
    assert estimates[0].seconds == 12 and estimates[0].memory > 1e8
    files = [
        torch.load(tmp_path / run / "checkpoints" / "state.pt")["system"]["network"] for run in ("with", "without")
    ]
    assert all(torch.equal(value, files[1][name]) for name, value in files[0].items())


MEASURED = """
import sys
from pathlib import Path
from anymri.training import estimate
from anymri.training.engine import train
from small_runs import Recorder, configured
folder = Path(sys.argv[1])
settings = ("crop=32", "network.width=8", "epochs=1", "steps_per_epoch=1", "validation_share=0")
expected = []
train(configured(folder / "data", folder / "cache", *settings), folder / "measured", Recorder(), expect=expected.append)
print(expected[0].memory, estimate._peak(__import__("torch").device("cpu")))
"""


@pytest.mark.acceptance
def test_the_estimated_memory_is_what_the_training_takes(workshop):
    paths = ":".join(sys.path)
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}.split(':')\n{MEASURED}", str(workshop)]
    expected, taken = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert expected <= taken < 1.5 * expected
