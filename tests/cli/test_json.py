"""`--json`: one object of the published schema on stdout from every command, also for errors."""

import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from anymri.cli.app import commands
from anymri.cli.commands import demo
from anymri.cli.outcome import schema
from anymri.cli.results import Result
from anymri.cli.results.studies import Demo
from anymri.studio import server
from cli.command import TRAINING, anymri
from cli.schemas import problems
from made_evaluations import write_evaluation
from pacs.hospital import configuration
from pacs.orthanc import free_port
from untrained import write_weights
from weights.test_conversion import state_of

SCHEME = ["--label-scheme", "brats2023"]
PUBLISHED = schema(commands())
KEYS = ["command", "version", "exit_code", "warnings", "error", "result"]


def parsed(result):
    """Return the one object on stdout, which fits the schema, and the events on stderr."""
    assert result.stdout.isascii() and result.stdout.count("\n") == 1, result.stdout + result.stderr
    found = json.loads(result.stdout)
    assert list(found) == KEYS and found["exit_code"] == result.returncode
    assert problems(found, PUBLISHED, PUBLISHED) == []
    return found, [json.loads(line) for line in result.stderr.splitlines()]


def checkpoint(folder):
    """Write a checkpoint of u_hved as its authors do."""
    torch.save({"state_dict": state_of("u_hved")}, folder / "authors.pth")
    return folder / "authors.pth"


def masks(folder, data):
    """Copy the label maps of a cohort into a folder."""
    (folder / "masks").mkdir()
    for label in data.glob("*/*-seg.nii.gz"):
        (folder / "masks" / label.name).write_bytes(label.read_bytes())
    return folder / "masks"


def cases_of(data):
    """Return the folders of both cases of a cohort."""
    return [folder for folder in sorted(data.iterdir()) if folder.is_dir()]


def echo_server():
    """Start an archive that answers to C-ECHO."""
    from pynetdicom import AE

    archive = AE(ae_title="ORTHANC")
    archive.add_supported_context("1.2.840.10008.1.1")
    return archive.start_server(("127.0.0.1", 0), block=False)


@pytest.fixture(scope="module")
def outcomes(workshop, case, tmp_path_factory):
    """Name of a command -> what it printed; each command once, on small input."""
    out = tmp_path_factory.mktemp("json")
    run, data = workshop / "run", workshop / "data"
    evaluation = write_evaluation(out / "made", "made", cases=2)
    weights = write_weights(out / "w.safetensors")
    archive = echo_server()
    node = configuration(out, weights, free_port(), archive.server_address[1])
    lines = {
        "systems": [],
        "cite": ["u_hved"],
        "phantom": ["-n", 5, "--size", 48, "-o", out / "phantoms"],
        "recipe": ["u_hved"],
        "train": ["--resume", "-o", run],
        "doctor": [case, "--no-registration"],
        "follow-up": [*cases_of(data), "--weights", run, "--no-registration", "-o", out / "compared"],
        "segment": [case, "--weights", run, "--subset", "T1c", "-o", out / "one"],
        "evaluate": [run, "--data", data, "--subsets", "T1c", "--metrics", "dice", "-o", out / "evaluation"],
        "score": [masks(out, data), "--labels", data, *SCHEME, "--metrics", "dice", "-o", out / "scores"],
        "table": [evaluation],
        "plot": [evaluation, "-o", out / "plots"],
        "report": [evaluation, "--no-pictures"],
        "convert": [checkpoint(out), "--system", "u_hved", "-o", out / "converted.safetensors"],
        "export": [weights, "-o", out / "graphs"],
        "reproduce": ["u_hved", "--data", out / "phantoms", "-o", out / "again", "--scale", "small", "--dry-run"],
        "demo": ["-o", out / "demo"],
        "studio": ["--no-browser", "--corrections", out / "corrections"],
        "info": ["--schema"],
        "weights add": [weights, "--name", "tiny"],
        "weights list": [],
        "weights show": ["tiny"],
        "weights verify": ["tiny"],
        "weights path": [],
        "weights remove": ["tiny"],
        "pacs example": [],
        "pacs run": [node, "--once"],
        "pacs check": [node],
        "pacs status": [node],
        "pacs retry": [node],
    }
    # `run_demo` takes minutes, and has a test of its own.
    short = patch.object(demo, "run_demo", lambda folder: Demo(folder, folder / "run", folder / "e", folder / "r.html"))
    # The studio runs until it is interrupted.
    ended = patch.object(server, "run", lambda *given: "http://127.0.0.1:1/")
    with patch.dict(os.environ, {"ANYMRI_WEIGHTS": str(out / "installed")}), short, ended:
        outcomes = {name: anymri(*name.split(), *line, "--json") for name, line in lines.items()}
    archive.shutdown()
    return outcomes


@pytest.mark.parametrize("name", commands())
def test_every_command_prints_one_object_of_the_schema(outcomes, name):
    found, _ = parsed(outcomes[name])
    assert found["command"] == name and found["exit_code"] == 0 and found["error"] is None
    assert found["result"] is not None


def test_every_command_returns_a_result():
    for kinds in commands().values():
        assert all(issubclass(kind, Result) for kind in getattr(kinds, "__args__", (kinds,)))


def test_paths_and_numbers_are_those_of_the_files(outcomes):
    segmented = parsed(outcomes["segment"])[0]["result"]
    assert all(Path(path).exists() for path in [segmented["segmentation"], *segmented["files"], *segmented["weights"]])
    assert segmented["modalities"] == ["T1c"] and segmented["scans"].keys() == {"T1", "T1c", "T2", "FLAIR"}
    scores = parsed(outcomes["score"])[0]["result"]
    assert {mean["mean"] for mean in scores["means"]} == {1.0} and scores["cases"] == 2
    assert parsed(outcomes["info"])[0]["result"]["schema"] == PUBLISHED
    assert parsed(outcomes["table"])[0]["result"]["text"].startswith("# ")
    assert parsed(outcomes["weights list"])[0]["result"]["weights"][0]["name"] == "tiny"


def test_warnings_are_in_the_object_and_progress_in_lines_of_stderr(outcomes):
    found, events = parsed(outcomes["evaluate"])
    steps = [(each["step"], each["done"], each["total"]) for each in events if each["event"] == "progress"]
    assert ("evaluating", 0, 2) in steps and steps[-1] == ("evaluating", 2, 2)
    found, events = parsed(outcomes["segment"])
    assert found["warnings"] == [each["text"] for each in events if each["event"] == "warning"]
    assert events[-1] == {"event": "progress", "step": "segmenting", "name": "window", "done": 18, "total": 18}


def test_a_training_reports_its_epochs(workshop, tmp_path):
    train = ["--json", "train", "u_hved", "--data", workshop / "data", *TRAINING, "--cache", workshop / "cache"]
    found, events = parsed(anymri(*train, "-o", tmp_path / "run"))
    epochs = [each for each in events if each["event"] == "epoch"]
    assert {each["epoch"] for each in epochs} == {1} and all(each["loss/total"] > 0 for each in epochs)
    assert found["result"]["weights"].endswith("best.safetensors")
    assert "No patient is held out for validation" in " ".join(found["warnings"])


@pytest.mark.parametrize(
    ("arguments", "command", "what", "fix"),
    [
        (["systems", "x_hved"], "systems", "x_hved", "u_hved"),
        (["segment", "/nowhere", "-o", "x"], "segment", "/nowhere", "Check"),
        (["segment"], "segment", "--output", "anymri segment --help"),
        (["train", "--ouput", "x"], "train", "--ouput", "anymri train --help"),
        (["weights", "show", "unheard"], "weights show", "unheard", "anymri weights list"),
        (["trian"], "", "trian", "anymri --help"),
        (["phantom", "-n", "0", "-o", "x"], "phantom", "--count", "anymri phantom --help"),
    ],
)
def test_an_error_is_one_object_with_what_and_fix(arguments, command, what, fix):
    found, _ = parsed(anymri(*arguments, "--json"))
    assert found["exit_code"] == 2 and found["result"] is None and found["command"] == command
    assert what in found["error"]["what"] and fix in found["error"]["fix"]


def test_a_bug_is_one_object_with_exit_code_1():
    with patch("anymri.systems.registry.names", side_effect=RuntimeError("broken")):
        found, _ = parsed(anymri("systems", "--json"))
    assert found["exit_code"] == 1 and "broken" in found["error"]["what"] and "--debug" in found["error"]["fix"]


def test_a_cohort_with_a_failed_case_has_exit_code_3(workshop, case, tmp_path):
    for name, suffix in (("a", "t1c"), ("b", "t1c")):
        (tmp_path / "cohort" / name).mkdir(parents=True)
        scan = next(case.glob(f"*-{suffix}.nii.gz")).read_bytes()
        (tmp_path / "cohort" / name / f"{name}-{suffix}.nii.gz").write_bytes(scan if name == "a" else b"no scan")
    segment = ["segment", tmp_path / "cohort", "--weights", workshop / "run", "--workers", 0, "-o", tmp_path / "out"]
    found, events = parsed(anymri(*segment, "--json"))
    assert found["exit_code"] == 3 and found["error"] is None
    assert found["result"]["segmented"] == ["a"] and found["result"]["failed"][0]["name"] == "b"
    assert {"event": "progress", "step": "segmenting", "name": "b", "done": 2, "total": 2} in events
