"""Segmentation of a cohort: what is done once, again or not at all, and failures of single cases."""

import csv
import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from functools import partial

import pytest
import torch

import anymri
from anymri.data.image import read_image
from anymri.data.sources import Shard, Source
from anymri.errors import AnymriWarning, CohortError, ConfigurationError, InputWarning, OutputError
from anymri.files import locked
from anymri.inference import result as result_module
from anymri.inference.cohort import segment_cohort
from anymri.inference.cohort_work import Work
from anymri.inference.segmenter import Segmenter
from anymri.synthesis.phantoms import write_cohort
from anymri.systems.contract import Encoding, Prediction, System
from untrained import card, write_weights

NAMES = [f"PHANTOM-{number:05d}-000" for number in range(3)]
pytestmark = pytest.mark.filterwarnings("ignore:.*failed:anymri.errors.AnymriWarning")


def add_file(text, result, folder, notes):
    """Add a file to the folder of a result."""
    (folder / "added.txt").write_text(f"{result.case.name}: {text}{''.join(notes)}")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_cohort(folder, 3, size=24)
    return folder


@dataclass
class Images(Encoding):
    images: torch.Tensor


class Brightness(System):
    """A system that costs nothing: the mean of the modalities, without any layer, is the logit of every class."""

    output_kind = "classes"

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.arange(4.0)[:, None, None, None])

    def _encode(self, images, present):
        return Images(present, images)

    def _decode(self, encoding, available, reconstruct):
        used = encoding.images.masked_fill(~available[..., None, None, None], 0)
        return Prediction(used.sum(1, keepdim=True) * self.scale, self.output_kind)


def loaded(file):
    """Return a segmenter that costs nothing, as if it were loaded from a file."""
    segmenter = Segmenter(Brightness(), card())
    segmenter.inputs = {"weights": {"file": str(file), "sha256": f"hash of {file}"}}
    return segmenter


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return loaded(tmp_path_factory.mktemp("weights") / "one.safetensors")


@pytest.fixture
def cohort(phantoms, tmp_path):
    return shutil.copytree(phantoms, tmp_path / "cohort")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


@pytest.fixture(scope="module")
def results(tmp_path_factory, phantoms, segmenter):
    folder = tmp_path_factory.mktemp("results")
    run(phantoms, folder, segmenter)
    return folder


@pytest.fixture
def finished(results, output):
    """Return the output after all cases of the cohort were segmented."""
    return shutil.copytree(results, output)


def scan(cohort, name, suffix="t1c"):
    return cohort / name / f"{name}-{suffix}.nii.gz"


def spoil(path):
    """Cut a file off in the middle."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rows(output):
    with (output / "summary.csv").open(newline="", encoding="utf-8") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


def run(cohort, output, model, **options):
    return segment_cohort(cohort, output, model, **{"workers": 0, **options})


def test_every_case_gets_a_folder_with_the_result_of_a_single_case(cohort, output, segmenter):
    outcome = run(cohort, output, segmenter)
    assert outcome.segmented == tuple(NAMES) and not outcome.failed
    for name in NAMES:
        alone = segmenter.segment(cohort / name)
        assert (read_image(output / name / "segmentation.nii.gz").array == alone.classes).all()
        assert (output / name / "provenance.json").is_file()


def test_worker_processes_give_the_same_results(cohort, finished, segmenter, tmp_path):
    assert run(cohort, tmp_path / "other", segmenter, workers=2).segmented == tuple(NAMES)
    for name in NAMES:
        maps = [read_image(folder / name / "segmentation.nii.gz").array for folder in (finished, tmp_path / "other")]
        one, other = maps
        assert (one == other).all()


def test_a_second_run_does_nothing(cohort, finished, segmenter):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if not path.name.startswith("summary.")}
    again = run(cohort, finished, segmenter)
    assert again.kept == tuple(NAMES) and not again.segmented
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if not path.name.startswith("summary.")}
    changed = [path for path in before if before[path] != after[path] and path.is_file()]
    assert not changed and before.keys() == after.keys()


def test_a_touched_scan_is_compared_by_content(cohort, finished, segmenter):
    os.utime(scan(cohort, NAMES[0]), (0, 0))
    assert run(cohort, finished, segmenter).kept == tuple(NAMES)


def test_a_changed_scan_is_segmented_again(cohort, finished, segmenter):
    shutil.copy(scan(cohort, NAMES[1]), scan(cohort, NAMES[0]))
    assert run(cohort, finished, segmenter).segmented == (NAMES[0],)


def test_a_changed_label_map_changes_nothing(cohort, finished, segmenter):
    scan(cohort, NAMES[0], "seg").unlink()
    assert run(cohort, finished, segmenter).kept == tuple(NAMES)


@pytest.mark.parametrize("file", ["segmentation.nii.gz", "provenance.json", "case.json"])
def test_a_case_without_a_file_of_its_result_is_segmented_again(cohort, finished, segmenter, file):
    (finished / NAMES[2] / file).unlink()
    assert run(cohort, finished, segmenter).segmented == (NAMES[2],)


@pytest.mark.parametrize("content", ["{", "[]", '{"settings": 3}'])
def test_a_damaged_record_is_ignored(cohort, finished, segmenter, content):
    (finished / NAMES[0] / "case.json").write_text(content)
    assert run(cohort, finished, segmenter).segmented == (NAMES[0],)


def test_other_weights_and_other_settings_segment_again(cohort, finished, segmenter, tmp_path):
    other = loaded(tmp_path / "other.safetensors")
    assert run(cohort, finished, other).segmented == tuple(NAMES)
    assert run(cohort, finished, other, work=Work({"subset": "T1c"})).segmented == tuple(NAMES)
    assert run(cohort, finished, other, work=Work({"subset": "T1c"})).kept == tuple(NAMES)
    assert rows(finished)[NAMES[0]]["modalities"] == "T1c"


def test_a_case_that_fails_does_not_stop_the_others(cohort, output, segmenter):
    spoil(scan(cohort, NAMES[1]))
    outcome = run(cohort, output, segmenter)
    assert outcome.segmented == (NAMES[0], NAMES[2])
    failure = outcome.failed[NAMES[1]]
    assert f"{NAMES[1]}-t1c.nii.gz" in failure.what and failure.fix
    assert json.loads((output / "failures.json").read_text()) == {NAMES[1]: {"what": failure.what, "fix": failure.fix}}
    assert rows(output)[NAMES[1]]["status"] == "failed" and failure.what in rows(output)[NAMES[1]]["error"]


def test_worker_processes_report_failures_and_leave_no_lock(cohort, output, segmenter):
    spoil(scan(cohort, NAMES[1]))
    with locked(output / NAMES[0]):
        outcome = run(cohort, output, segmenter, workers=1)
    assert outcome.elsewhere == (NAMES[0],) and outcome.segmented == (NAMES[2],) and list(outcome.failed) == [NAMES[1]]
    assert f"{NAMES[1]}-t1c.nii.gz" in outcome.failed[NAMES[1]].what
    assert not list(output.rglob(".anymri-*"))


def test_a_failure_is_removed_once_the_case_succeeds(cohort, phantoms, output, segmenter):
    spoil(scan(cohort, NAMES[1]))
    run(cohort, output, segmenter)
    shutil.copy(scan(phantoms, NAMES[1]), scan(cohort, NAMES[1]))
    assert run(cohort, output, segmenter).segmented == (NAMES[1],)
    assert json.loads((output / "failures.json").read_text()) == {}
    assert [row["status"] for row in rows(output).values()] == ["segmented"] * 3


def test_a_case_that_fails_later_keeps_no_result_of_earlier_scans(cohort, finished, segmenter):
    (finished / NAMES[1] / "remark.txt").write_text("written by a person")
    spoil(scan(cohort, NAMES[1]))
    assert NAMES[1] in run(cohort, finished, segmenter).failed
    assert sorted(path.name for path in (finished / NAMES[1]).iterdir()) == ["failure.json", "remark.txt"]


def test_a_missing_modality_fails_only_the_cases_that_lack_it(cohort, output, segmenter):
    scan(cohort, NAMES[0], "t2f").unlink()
    outcome = run(cohort, output, segmenter, work=Work({"subset": "FLAIR"}))
    assert list(outcome.failed) == [NAMES[0]] and "FLAIR" in outcome.failed[NAMES[0]].what


def test_failures_and_warnings_are_issued_with_the_name_of_the_case(cohort, output, segmenter):
    spoil(scan(cohort, NAMES[1]))
    with pytest.warns(AnymriWarning, match=f"{NAMES[1]} failed: "):
        run(cohort, output, segmenter)


def test_notes_about_input_are_kept_and_fail_a_case_if_they_are_errors(cohort, output, segmenter):
    label = scan(cohort, NAMES[1], "seg")
    shutil.move(label, scan(cohort, NAMES[1]))
    shapes_differ = pytest.warns(AnymriWarning, match=f"{NAMES[1]}: The brains of .* overlap by")
    with shapes_differ, pytest.warns(AnymriWarning, match=f"{NAMES[1]}: .*label map"):
        outcome = run(cohort, output, segmenter, workers=1, work=Work(export=partial(add_file, "")))
    assert outcome.segmented == tuple(NAMES)
    assert "label map" in (output / NAMES[1] / "added.txt").read_text()  # the note came from another process
    assert "label map" in rows(output)[NAMES[1]]["warnings"]
    (output / NAMES[1] / "case.json").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnymriWarning)
        warnings.simplefilter("error", InputWarning)
        outcome = run(cohort, output, segmenter)
    assert "label map" in outcome.failed[NAMES[1]].what and "--strict" in outcome.failed[NAMES[1]].fix


def test_added_files_belong_to_the_result(cohort, finished, segmenter):
    one, other = (Work(export=partial(add_file, text)) for text in ("one", "other"))
    assert run(cohort, finished, segmenter, work=one).segmented == tuple(NAMES)
    assert (finished / NAMES[0] / "added.txt").read_text() == f"{NAMES[0]}: one"
    assert run(cohort, finished, segmenter, work=one).kept == tuple(NAMES)
    (finished / NAMES[0] / "added.txt").unlink()
    assert run(cohort, finished, segmenter, work=one).segmented == (NAMES[0],)
    assert run(cohort, finished, segmenter, work=other).segmented == tuple(NAMES)
    assert run(cohort, finished, segmenter).segmented == tuple(NAMES)
    assert not (finished / NAMES[0] / "added.txt").exists()


def test_shards_share_one_folder(cohort, output, segmenter):
    first = run(cohort, output, segmenter, shard=Shard.parse("1/2"))
    second = run(cohort, output, segmenter, shard=Shard.parse("2/2"))
    assert first.segmented == (NAMES[0], NAMES[2]) and second.segmented == (NAMES[1],)
    assert list(rows(output)) == NAMES
    assert run(cohort, output, segmenter).kept == tuple(NAMES)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_shard_that_does_not_exist_is_refused(text):
    with pytest.raises(CohortError, match="not a shard"):
        Shard.parse(text)


def test_a_case_that_another_command_works_on_is_left_to_it(cohort, output, segmenter):
    with locked(output / NAMES[0]):
        outcome = run(cohort, output, segmenter)
    assert outcome.elsewhere == (NAMES[0],) and outcome.segmented == (NAMES[1], NAMES[2])
    assert not outcome.failed and list(rows(output)) == NAMES[1:]


def test_locks_are_released_after_each_case(cohort, output, segmenter):
    spoil(scan(cohort, NAMES[1]))
    run(cohort, output, segmenter)
    for folder in (output, *(output / name for name in NAMES)):
        with locked(folder):
            pass
    assert not list(output.rglob(".anymri-*"))


def test_a_full_disk_stops_the_work_with_one_error(cohort, output, segmenter, monkeypatch):
    calls = []

    def full(path, *content):
        calls.append(path)
        raise OutputError(f"{path} cannot be written.", "Free space.") from OSError(28, "No space left on device")

    monkeypatch.setattr(result_module, "write_like", full)
    with pytest.raises(OutputError, match="cannot be written"):
        run(cohort, output, segmenter)
    assert len(calls) == 1 and not list(output.rglob("failure.json"))
    monkeypatch.undo()
    assert run(cohort, output, segmenter).segmented == tuple(NAMES)


def test_a_folder_that_cannot_be_written_is_refused(cohort, tmp_path, segmenter):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        run(cohort, tmp_path / "file" / "out", segmenter)


def test_a_file_in_the_place_of_a_folder_fails_that_case_only(cohort, output, segmenter):
    output.mkdir()
    (output / NAMES[0]).write_text("a file")
    outcome = run(cohort, output, segmenter)
    assert list(outcome.failed) == [NAMES[0]] and outcome.segmented == (NAMES[1], NAMES[2])
    assert list(json.loads((output / "failures.json").read_text())) == [NAMES[0]]


def test_results_among_the_scans_are_refused(cohort, segmenter):
    with pytest.raises(OutputError, match="among its scans"):
        run(cohort, cohort, segmenter)
    assert not list(cohort.rglob("segmentation.nii.gz"))


def test_a_case_with_the_name_of_the_summary_is_refused(cohort, output, segmenter):
    case = anymri.find_cases(cohort)[0]
    with pytest.raises(CohortError, match=r"Summary\.csv"):
        run([Source("Summary.csv", case)], output, segmenter)


def test_an_unknown_engine_is_refused_with_the_known_ones(cohort, output, segmenter):
    with pytest.raises(ConfigurationError, match="no engine named 'rya'") as refusal:
        run(cohort, output, segmenter, engine="rya")
    assert "ray" in refusal.value.fix and not output.exists()


def test_progress_counts_the_cases_to_do(cohort, output, segmenter):
    run(cohort, output, segmenter, shard=Shard(1, 2))
    calls = []
    run(cohort, output, segmenter, progress=lambda *call: calls.append(call))
    assert calls == [("", 0, 1), (NAMES[1], 1, 1)]


def test_a_killed_command_continues_with_the_rest_and_the_case_in_work_last(cohort, output, tmp_path):
    weights = write_weights(tmp_path / "weights.safetensors")
    code = (
        "import os, sys\nfrom anymri.inference import cohort, result\n"
        "from anymri.inference.cohort_work import Work\n"
        "written = result.write_like\n"
        "def killed(path, *content):\n"
        "    if path.parent.name.endswith('00001-000'):\n"
        "        written(path, *content); os.kill(os.getpid(), 9)\n"
        "    written(path, *content)\n"
        "result.write_like = killed\n"
        "cohort.segment_cohort(*sys.argv[1:], device='cpu', workers=0, work=Work())\n"
    )
    command = [sys.executable, "-c", code, str(cohort), str(output), str(weights)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -9
    assert (output / NAMES[1] / "segmentation.nii.gz").exists()  # half a result, which is ignored
    calls = []
    outcome = run(cohort, output, weights, device="cpu", progress=lambda *call: calls.append(call))
    assert outcome.kept == (NAMES[0],) and outcome.segmented == (NAMES[1], NAMES[2])
    assert [name for name, *_ in calls] == ["", NAMES[2], NAMES[1]]
    assert not list(output.rglob(".anymri-*"))
