"""Faults of files and disks: damaged files are made again or end in one sentence, and no input is overwritten."""

import json
import os
import resource
import shutil
from pathlib import Path

import pytest
import torch

from cli.command import TRAINING, anymri, check_refused
from robustness.killing import content
from untrained import write_weights


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with two cases in `data`, weights, an evaluation and a finished run."""
    folder = tmp_path_factory.mktemp("place")
    data = ["--data", folder / "data"]
    assert anymri("phantom", "-n", 2, "--size", 48, "-o", folder / "data").returncode == 0
    write_weights(folder / "w.safetensors")
    assert anymri(*evaluation(folder, folder / "evaluation")).returncode == 0
    train = ["train", "u_hved", *data, *TRAINING, "--set", "network.width=2", "--cache", folder / "cache"]
    assert anymri(*train, "-o", folder / "run").returncode == 0
    return folder


def evaluation(place, output):
    """Return the arguments of an evaluation of one subset."""
    chosen = ["--subsets", "FLAIR", "--metrics", "dice"]
    return ["evaluate", place / "w.safetensors", "--data", place / "data", *chosen, "-o", output]


def truncated(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zeroed(file):
    """Set the second half to zeros."""
    half = file.stat().st_size // 2
    file.write_bytes(file.read_bytes()[:half] + bytes(file.stat().st_size - half))


def changed(file):
    """Change a value, so that the file is still JSON."""
    text = file.read_text()
    assert "scored" in text or "brats2023" in text
    file.write_text(text.replace('"scored"', '"stored"').replace("brats2023", "brats2021"))


DAMAGES = {
    "truncated": truncated,
    "zeroed": zeroed,
    "changed": changed,
    "nothing": lambda file: file.write_bytes(b""),
    "null": lambda file: file.write_text("null"),
    "list": lambda file: file.write_text("[1, {}]"),
    "other keys": lambda file: file.write_text('{"rows": 1}'),
    "deep": lambda file: file.write_text("[" * 100_000),
    "not text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_case_result_is_evaluated_again(place, tmp_path, damage):
    copied = Path(shutil.copytree(place / "evaluation", tmp_path / "evaluation"))
    DAMAGES[damage](copied / "cases" / "PHANTOM-00000-000.json")
    assert anymri(*evaluation(place, copied)).returncode == 0
    assert content(copied) == content(place / "evaluation")


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_settings_are_written_again_or_refused(place, tmp_path, damage):
    copied = Path(shutil.copytree(place / "evaluation", tmp_path / "evaluation"))
    DAMAGES[damage](copied / "settings.json")
    result = anymri(*evaluation(place, copied))
    if damage in ("changed", "other keys"):
        check_refused(result, "other ", "-o")
    else:
        assert result.returncode == 0 and "settings.json is damaged and is written again" in result.stderr
        assert content(copied) == content(place / "evaluation")


def test_settings_of_something_else_are_not_replaced(place, tmp_path):
    (tmp_path / "settings.json").write_text("// of an editor")
    check_refused(anymri(*evaluation(place, tmp_path)), "not an evaluation")
    assert (tmp_path / "settings.json").read_text() == "// of an editor"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_split_is_written_again(place, tmp_path, damage):
    run = Path(shutil.copytree(place / "run", tmp_path / "run"))
    before = (run / "split.json").read_bytes()
    if damage == "changed":
        record = json.loads(before)
        (run / "split.json").write_text(json.dumps(record | {"train": {}}))
    else:
        DAMAGES[damage](run / "split.json")
    result = anymri("train", "--resume", "-o", run)
    assert result.returncode == 0, result.stderr
    assert (run / "split.json").read_bytes() == before


def test_a_damaged_split_of_another_cohort_is_refused(place, tmp_path):
    run = Path(shutil.copytree(place / "run", tmp_path / "run"))
    (run / "split.json").unlink()
    state = torch.load(run / "checkpoints" / "state.pt")
    state["position"]["split"] = "another"
    torch.save(state, run / "checkpoints" / "state.pt")
    check_refused(anymri("train", "--resume", "-o", run), "split.json is missing or damaged")


STATES = {
    "truncated": truncated,
    "zeroed": zeroed,
    "zeros among the tensors": lambda file: file.write_bytes(
        file.read_bytes()[: file.stat().st_size // 2] + bytes(64) + file.read_bytes()[file.stat().st_size // 2 + 64 :]
    ),
    "other": lambda file: torch.save([1, 2], file),
    "no position": lambda file: torch.save({"system": {}}, file),
    "wrong position": lambda file: torch.save({"position": {"stage": "x"}}, file),
    "far position": lambda file: torch.save({"position": {"stage": 9}}, file),
    "wrong network": lambda file: torch.save({"position": {}, "system": {"network": {"a": torch.ones(1)}}}, file),
    "wrong learner": lambda file: torch.save({"position": {}, "teacher": {}}, file),
}


@pytest.mark.parametrize("damage", STATES)
def test_a_damaged_state_is_refused(place, tmp_path, damage):
    run = Path(shutil.copytree(place / "run", tmp_path / "run"))
    STATES[damage](run / "checkpoints" / "state.pt")
    check_refused(anymri("train", "--resume", "-o", run), "state.pt is damaged", "new run")


@pytest.mark.parametrize("damage", [Path.unlink, truncated, write_weights])
@pytest.mark.parametrize("name", ["last", "best"])
def test_a_finished_run_with_damaged_weights_is_refused(place, tmp_path, damage, name):
    run = Path(shutil.copytree(place / "run", tmp_path / "run"))
    damage(run / "checkpoints" / f"{name}.safetensors")
    check_refused(anymri("train", "--resume", "-o", run), "is finished, but its weights", f"{name}.safetensors")


def test_a_killed_beginning_of_an_earlier_version_is_started_anew(place, tmp_path):
    (tmp_path / "split.json").write_text("{}")
    train = ["train", "u_hved", "--data", place / "data", *TRAINING, "--cache", place / "cache", "-o", tmp_path]
    check_refused(anymri("train", "--resume", "-o", tmp_path), "not a run that can be resumed", "Start one")
    assert anymri(*train).returncode == 0
    assert "train" in json.loads((tmp_path / "split.json").read_text())


def test_damaged_cases_in_the_cache_are_made_again_with_one_note(place, tmp_path):
    cache = Path(shutil.copytree(place / "cache", tmp_path / "cache"))
    for file in cache.glob("*/images.npy"):
        zeroed(file)
    train = ["train", "u_hved", "--data", place / "data", *TRAINING, "--set", "network.width=2", "--cache", cache]
    result = anymri(*train, "-o", tmp_path / "run")
    assert result.returncode == 0 and result.stderr.count("Note: Cases made again") == 1
    assert "were damaged: 2 (" in result.stderr
    for name in ("last", "best"):
        file = Path("run", "checkpoints", f"{name}.safetensors")
        assert (tmp_path / file).read_bytes() == (place / file).read_bytes()


def test_a_full_disk_in_the_file_of_tensorboard_ends_the_training_with_one_sentence(place, tmp_path, monkeypatch):
    from anymri.training import callbacks

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    append = callbacks.Curves._append

    def full(curves, events):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            append(curves, events)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    train = ["train", "u_hved", "--data", place / "data", *TRAINING, "--set", "network.width=2"]
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Curves, "_append", full)
        result = anymri(*train, "--cache", place / "cache", "-o", tmp_path / "run")
    check_refused(result, "tfevents", "cannot be written", "free space")
    assert anymri("train", "--resume", "-o", tmp_path / "run").returncode == 0
    for name in ("last", "best"):
        file = Path("run", "checkpoints", f"{name}.safetensors")
        assert (tmp_path / file).read_bytes() == (place / file).read_bytes()


@pytest.mark.parametrize("link", [shutil.move, os.symlink, os.link])
def test_segment_does_not_overwrite_its_scan(place, tmp_path, link):
    """The scan has the name of the result, or is the same file as it."""
    (tmp_path / "out").mkdir()
    scan = tmp_path / "t1.nii.gz"
    shutil.copy(place / "data" / "PHANTOM-00000-000" / "PHANTOM-00000-000-t1n.nii.gz", scan)
    before = scan.read_bytes()
    link(scan, tmp_path / "out" / "segmentation.nii.gz")
    given = scan if scan.exists() else tmp_path / "out" / "segmentation.nii.gz"
    result = anymri("segment", "--t1", given, "--weights", place / "w.safetensors", "-o", tmp_path / "out")
    check_refused(result, "segmentation.nii.gz would be overwritten")
    assert given.read_bytes() == before and len(list((tmp_path / "out").iterdir())) == 1


def test_a_table_and_a_conversion_do_not_overwrite_their_input(place, tmp_path):
    copied = Path(shutil.copytree(place / "evaluation", tmp_path / "evaluation"))
    check_refused(anymri("table", copied, "-o", copied / "metrics.csv"), "would be overwritten")
    check_refused(anymri("report", copied, "-o", copied / "provenance.json"), "would be overwritten")
    assert content(copied) == content(place / "evaluation")
    (tmp_path / "authors.pth").write_bytes(b"x")
    check_refused(anymri("convert", tmp_path / "authors.pth", "-o", tmp_path / "authors.pth"), "overwritten")


@pytest.mark.parametrize("command", ["train", "evaluate", "segment", "phantom", "demo"])
def test_a_second_command_on_an_output_folder_is_refused(place, tmp_path, command):
    from anymri.files import locked

    output, case = tmp_path / "out", place / "data" / "PHANTOM-00000-000"
    arguments = {
        "train": ["train", "u_hved", "--data", place / "data", *TRAINING, "--cache", place / "cache", "-o", output],
        "evaluate": evaluation(place, output),
        "segment": ["segment", case, "--weights", place / "w.safetensors", "-o", output],
        "phantom": ["phantom", "-n", 1, "--size", 48, "-o", output],
        "demo": ["demo", "-o", output],
    }
    with locked(output):
        check_refused(anymri(*arguments[command]), "Another anymri command is writing", f"process {os.getpid()} on")
        assert [path.name for path in output.iterdir()] == [".anymri-lock"]


def test_the_provenance_describes_the_scan_that_was_read(place, tmp_path, monkeypatch):
    """A scan that is replaced while the network runs."""
    from anymri.files import sha256
    from anymri.inference import segmenter

    scan = tmp_path / "t1.nii.gz"
    folders = [place / "data" / f"PHANTOM-0000{number}-000" for number in (0, 1)]
    shutil.copy(next(folders[0].glob("*-t1n.nii.gz")), scan)
    before, predict = sha256(scan), segmenter.predict

    def replacing(*arguments):
        shutil.copy(next(folders[1].glob("*-t1n.nii.gz")), scan)
        return predict(*arguments)

    monkeypatch.setattr(segmenter, "predict", replacing)
    result = anymri("segment", "--t1", scan, "--weights", place / "w.safetensors", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["inputs"]["T1"]["sha256"] == before
