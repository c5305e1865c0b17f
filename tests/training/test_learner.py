"""A step of training: parts of a batch, half precision, memory, and what a training is expected to need."""

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
from small_runs import Silent, configured
from two_processes import means_over_samples


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    write_cohort(folder / "data", 2, size=48)
    return folder


def begin(workshop, run, *assignments, **settings):
    train(configured(workshop / "data", workshop / "cache", *assignments), run, Silent(), **settings)


def test_parts_of_a_batch_give_the_gradients_of_the_whole(workshop, tmp_path, monkeypatch):
    """Where its losses are means over samples, and there is no noise. For parts of two patches see `MEANS`."""
    monkeypatch.setitem(u_hved.OBJECTIVES, "train", means_over_samples)
    found = []

    def keep(learners):
        found.append(torch.cat([p.grad.flatten() for p in learners.networks.parameters() if p.grad is not None]))
        raise StopIteration

    monkeypatch.setattr(Learners, "_descend", keep)
    for parts in (1, 2, 4):
        settings = ("network.reconstruction=true", "crop=32", "batch_size=8", f"accumulate={parts}")
        with pytest.raises(StopIteration):
            begin(workshop, tmp_path / str(parts), *settings)
    for accumulated in found[1:]:
        assert (accumulated - found[0]).norm() < 1e-5 * found[0].norm()


@pytest.mark.parametrize("setting", ["accumulate=3", "accumulate=4"])
def test_parts_that_do_not_divide_a_batch_are_refused_before_anything_is_written(workshop, tmp_path, setting):
    with pytest.raises(ConfigurationError, match=r"2 patches .* in \d parts.*\n.*batch_size="):
        begin(workshop, tmp_path / "run", setting)
    assert not (tmp_path / "run").exists()


def test_half_precision_leaves_images_weights_and_losses_whole(workshop, tmp_path, monkeypatch):
    """What the network computes is in half precision; what it is compared with, and the sums over voxels, are not."""
    seen = []

    def spy(system, batch):
        scores = system(batch.images, batch.available).metrics
        named = u_hved.losses(system, batch)
        kinds = [scores, batch.images, next(system.parameters()), *named.values()]
        seen.append([kind.dtype for kind in kinds])
        return named

    monkeypatch.setitem(u_hved.OBJECTIVES, "train", spy)
    begin(workshop, tmp_path / "run", "precision=bf16-mixed", "epochs=1", "network.reconstruction=true")
    for scores, *others in seen:
        assert scores == torch.bfloat16 and set(others) == {torch.float32}


def test_no_memory_is_answered_with_what_needs_less(workshop, tmp_path, monkeypatch):
    def need_too_much(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setitem(u_hved.OBJECTIVES, "train", need_too_much)
    with pytest.raises(RunError, match=r"more memory than cpu.*\n.*--set parts\.accumulate=2"):
        begin(workshop, tmp_path / "run")


def test_what_is_expected_counts_the_steps_that_are_left_and_changes_nothing(workshop, tmp_path, monkeypatch):
    heard = []
    clock = itertools.count()
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(clock))  # a second from one look to the next
    begin(workshop, tmp_path / "with", expect=heard.append)
    begin(workshop, tmp_path / "without")
    # Two stages of three epochs of two steps.
    assert heard[0].seconds == 12 and heard[0].memory > 1e8
    files = [
        torch.load(tmp_path / run / "checkpoints" / "state.pt")["system"]["network"] for run in ("with", "without")
    ]
    assert all(torch.equal(value, files[1][name]) for name, value in files[0].items())


MEASURED = """
import sys
from pathlib import Path
from anymri.training import estimate
from anymri.training.engine import train
from small_runs import Silent, configured
folder = Path(sys.argv[1])
settings = ("crop=32", "network.width=8", "epochs=1", "validation_share=0")
expected = []
train(configured(folder / "data", folder / "cache", *settings), folder / "measured", Silent(), expect=expected.append)
print(expected[0].memory, estimate._peak(__import__("torch").device("cpu")))
"""


def test_expected_memory_is_what_the_training_takes(workshop):
    paths = ":".join(sys.path)
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}.split(':')\n{MEASURED}", str(workshop)]
    expected, taken = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert expected <= taken < 1.5 * expected
