"""Worker processes: replies, errors and warnings of calls, and processes that die."""

import math
import signal
import time

import nibabel as nib
import numpy as np
import pytest

from anymri.data.image import read_scan
from anymri.data.workers import Failure, Workers
from anymri.errors import ImageError


def test_a_call_returns_the_value_of_the_function():
    with Workers(2, math.factorial) as workers:
        replies = [workers.submit(number, str(number)) for number in range(5)]
        assert [each.result().value for each in replies] == [1, 1, 2, 6, 24]
        assert all(each.result().failure is None for each in replies)


def test_an_error_of_anymri_is_returned_with_both_sentences(tmp_path):
    with Workers(1, read_scan) as workers:
        reply = workers.submit(tmp_path / "absent.nii.gz", "case").result()
    with pytest.raises(ImageError) as error:
        read_scan(tmp_path / "absent.nii.gz")
    assert reply.value is None and reply.failure == Failure(error.value.what, error.value.fix)


def test_an_unexpected_error_is_named_and_called_a_bug():
    with Workers(1, math.factorial) as workers:
        failure = workers.submit(-1, "case").result().failure
    assert "ValueError" in failure.what and "bug" in failure.fix


def test_a_process_that_is_killed_fails_its_call_only():
    with Workers(1, eval) as workers:
        died = workers.submit(f"__import__('os').kill(__import__('os').getpid(), {signal.SIGKILL:d})", "case 7")
        following = workers.submit("3 + 3", "case 8")
        assert "case 7" in died.result().failure.what and "SIGKILL" in died.result().failure.what
        assert following.result().value == 6


def test_what_a_library_prints_does_not_disturb_the_replies(capfd):
    with Workers(1, print) as workers:
        assert workers.submit("printed by a library", "case").result().failure is None
    assert "printed by a library" in capfd.readouterr().err


def test_closing_stops_a_call_that_is_running():
    began = time.monotonic()
    with Workers(1, time.sleep) as workers:
        reply = workers.submit(600, "case")
        while not workers._processes:
            time.sleep(0.01)
    assert time.monotonic() - began < 60 and reply.result().failure is not None


def test_warnings_of_anymri_are_returned(tmp_path):
    array = (np.indices((8, 8, 8)).sum(0) % 2).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "scan.nii.gz")
    with Workers(1, read_scan) as workers:
        reply = workers.submit(tmp_path / "scan.nii.gz", "case").result()
    (note,) = reply.notes
    assert "label map" in str(note) and reply.value.shape == (8, 8, 8)


def test_a_large_value_arrives_whole():
    with Workers(1, bytes) as workers:
        assert len(workers.submit(50_000_000, "case").result().value) == 50_000_000


def test_a_worker_that_prepares_cases_does_not_import_torch():
    with Workers(1, eval) as workers:
        workers.submit("__import__('anymri.prepare.reading')", "case")
        assert workers.submit("'torch' in __import__('sys').modules", "case").result().value is False


def test_an_array_arrives_whole_and_can_be_changed():
    with Workers(1, np.arange) as workers:
        array = workers.submit(10_000_000, "case").result().value
    array += 1
    np.testing.assert_array_equal(array, np.arange(1, 10_000_001))


def test_a_value_that_cannot_be_sent_fails_its_call_only(tmp_path):
    with Workers(1, open) as workers:
        (tmp_path / "file").write_text("content")
        failure = workers.submit(tmp_path / "file", "case").result().failure
        assert "pickle" in failure.what
        assert workers.submit(tmp_path / "absent", "case").result().failure.what.endswith("No such file or directory.")
