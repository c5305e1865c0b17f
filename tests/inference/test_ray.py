"""Cohorts on a Ray cluster of two workers on this machine, one of which is killed."""

import os
import signal
import sys
from pathlib import Path

import pytest

from anymri.errors import ConfigurationError
from anymri.inference.cohort import segment_cohort
from anymri.inference.cohort_work import Work
from anymri.inference.segmenter import Segmenter
from anymri.synthesis.phantoms import write_cohort
from untrained import write_weights

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore:.*failed:anymri.errors.AnymriWarning", "ignore::ResourceWarning")


@pytest.fixture
def weights(tmp_path):
    return write_weights(tmp_path / "weights.safetensors")


def actors():
    """Return the process identifiers of the actors that this machine runs for this process."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                title = (process / "cmdline").read_bytes()
                environment = (process / "environ").read_bytes()
            except OSError:
                continue
            if b"ray::_Actor" in title and MARK.encode() in environment:
                found.append(int(process.name))
    return found


MARK = f"ANYMRI_TEST={os.getpid()}"


@pytest.fixture(autouse=True)
def _marked(monkeypatch):
    name, _, value = MARK.partition("=")
    monkeypatch.setenv(name, value)


def spoil(cohort, name):
    path = cohort / name / f"{name}-t1c.nii.gz"
    path.write_bytes(path.read_bytes()[:100])


def check_cohort(tmp_path, weights, count, kill_after):
    """Segment a cohort with two corrupted cases and one worker killed, twice, and check what was done."""
    cohort, output = tmp_path / "cohort", tmp_path / "out"
    names = [folder.name for folder in write_cohort(cohort, count, size=32)]
    bad = {names[1], names[-2]}
    for name in bad:
        spoil(cohort, name)
    killed = []

    def progress(name, done, total):
        if done == kill_after:
            victim = actors()[0]
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)

    def run(**options):
        return segment_cohort(cohort, output, weights, device="cpu", engine="ray", workers=2, **options)

    first = run(progress=progress)
    assert killed and set(first.segmented) == set(names) - bad
    assert first.failed.keys() == bad and all("t1c" in failure.what for failure in first.failed.values())
    changed = {name: (output / name / "case.json").stat().st_mtime_ns for name in first.segmented}
    second = run()
    assert set(second.kept) == set(names) - bad and not second.segmented and second.failed.keys() == bad
    assert changed == {name: (output / name / "case.json").stat().st_mtime_ns for name in first.segmented}
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.acceptance
def test_sixty_cases_with_a_killed_worker_and_two_corrupted_cases(tmp_path, weights):
    check_cohort(tmp_path, weights, 60, 20)


def die_at_the_second_case(result, folder, notes):
    """End the process, as the operating system does where memory is short."""
    if folder.name.endswith("00001-000"):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.acceptance
def test_a_case_that_kills_its_worker_twice_fails_alone(tmp_path, weights):
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests
    cohort, output = tmp_path / "cohort", tmp_path / "out"
    names = [folder.name for folder in write_cohort(cohort, 3, size=24)]
    work = Work(export=die_at_the_second_case)
    outcome = segment_cohort(cohort, output, weights, device="cpu", engine="ray", workers=1, work=work)
    assert outcome.segmented == (names[0], names[2]) and list(outcome.failed) == [names[1]]
    assert "ended 2 times" in outcome.failed[names[1]].what
    assert [path.name for path in (output / names[1]).iterdir() if path.name == "case.json"] == []
    assert not list(output.rglob(".anymri-*"))


@pytest.mark.acceptance
def test_workers_that_cannot_load_the_weights_stop_the_command(tmp_path, weights):
    import torch

    if torch.cuda.is_available():
        pytest.skip("workers can load weights on the GPU of this machine")
    write_cohort(tmp_path / "cohort", 2, size=24)
    with pytest.raises(ConfigurationError, match="could not start") as refusal:
        segment_cohort(tmp_path / "cohort", tmp_path / "out", weights, device="cuda", engine="ray", workers=1)
    assert "cuda" in refusal.value.what


@pytest.mark.acceptance
def test_a_cluster_that_does_not_exist_is_refused(tmp_path, weights):
    write_cohort(tmp_path / "cohort", 1, size=24)
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:1.*cannot be used"):
        segment_cohort(tmp_path / "cohort", tmp_path / "out", weights, engine="ray", address="127.0.0.1:1")


def test_a_loaded_model_is_refused(tmp_path, weights):
    write_cohort(tmp_path / "cohort", 1, size=24)
    with pytest.raises(ConfigurationError, match="cannot be sent to a Ray cluster"):
        segment_cohort(tmp_path / "cohort", tmp_path / "out", Segmenter.load(weights, "cpu"), engine="ray")


def test_a_cohort_without_work_starts_no_cluster(tmp_path, weights):
    cohort, output = tmp_path / "cohort", tmp_path / "out"
    write_cohort(cohort, 1, size=24)
    segment_cohort(cohort, output, weights, device="cpu", workers=0)
    outcome = segment_cohort(cohort, output, weights, device="cpu", engine="ray", address="127.0.0.1:1")
    assert len(outcome.kept) == 1  # what the local engine did counts
