"""Options of every command: quiet, verbose, log file, threads, paths in provenance; and output in a pipe."""

import json
import logging
import os
import subprocess
import sys
import unicodedata

import pytest

from anymri.cli.settings import settings
from cli.command import TRAINING, anymri, check_refused
from made_evaluations import write_evaluation


def segmented(workshop, case, out, *options):
    return anymri("segment", case, "--weights", workshop / "run", "--subset", "T1c", "-o", out, *options)


def test_options_work_before_and_after_the_name_of_a_command():
    for line in (["--json", "systems", "u_hved"], ["systems", "--json", "u_hved"], ["systems", "u_hved", "--json"]):
        assert json.loads(anymri(*line).stdout)["command"] == "systems"
    for line in (["--quiet", "weights", "path"], ["weights", "--quiet", "path"], ["weights", "path", "--quiet"]):
        assert anymri(*line).stdout.endswith("weights\n") and settings.quiet
    assert anymri("weights", "path").returncode == 0 and not settings.quiet


def test_quiet_keeps_what_is_asked_for_and_errors(tmp_path):
    assert anymri("cite", "u_hved", "--quiet").stdout.startswith("@")
    written = anymri("phantom", "-n", 1, "--size", 48, "-o", tmp_path / "phantoms", "--quiet")
    assert (written.returncode, written.stdout, written.stderr) == (0, "", "")
    check_refused(anymri("systems", "x_hved", "--quiet"), "u_hved")


def test_segment_names_the_file_of_each_modality(workshop, case, tmp_path):
    result = segmented(workshop, case, tmp_path / "out")
    for modality, suffix in {"T1": "t1n", "T1c": "t1c", "T2": "t2w", "FLAIR": "t2f"}.items():
        assert f"Read {next(case.glob(f'*-{suffix}.nii.gz'))} as {modality}\n" in result.stdout
    assert "segmenting 0/" in result.stderr


def test_verbose_prints_what_the_library_logs(workshop, case, tmp_path):
    plain, verbose = (segmented(workshop, case, tmp_path / "out", *options) for options in ([], ["--verbose"]))
    assert "anymri.data.image: read" in verbose.stderr and "anymri.data.image" not in plain.stderr
    assert "wrote" not in verbose.stderr  # that is for the log file


def test_the_log_file_gets_everything_with_time_stamps(workshop, case, tmp_path):
    log = tmp_path / "anymri.log"
    assert segmented(workshop, case, tmp_path / "out", "--quiet", "--log-file", log).returncode == 0
    anymri("systems", "x_hved", "--log-file", log)
    lines = log.read_text().splitlines()
    assert all(line[:4].isdecimal() and line[4] == "-" for line in lines)
    text = "\n".join(lines)
    for part in ("anymri segment", "as T1c", "anymri.weights.store", "segmentation.nii.gz", "ERROR", "x_hved"):
        assert part in text
    assert not logging.getLogger("anymri").handlers


def test_a_log_file_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    for log in (tmp_path, tmp_path / "nowhere" / "anymri.log"):
        result = anymri("phantom", "-n", 1, "-o", tmp_path / "phantoms", "--log-file", log)
        check_refused(result, f"--log-file {log}")
        assert result.stderr.count("cannot be written") == 1
    assert not (tmp_path / "phantoms").exists()


def test_threads_are_positive_and_limit_torch():
    assert "--threads" in anymri("segment", "-o", "x", "--threads", 0).stderr
    code = "import sys\nfrom anymri.cli import main\nsys.argv = ['anymri', 'info', '--json', '--threads', '3']\nmain()"
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)["result"]
    assert "3 threads" in found["devices"]["cpu"] and found["environment"]["OMP_NUM_THREADS"] == "3"


def test_no_paths_leaves_folders_out_of_provenance(workshop, case, tmp_path):
    data, run = tmp_path / "Jane Doe" / "cohort", workshop / "run"
    data.parent.mkdir()
    data.symlink_to(workshop / "data")
    segmented(workshop, data / case.name, tmp_path / "one", "--no-paths")
    few = ["--metrics", "dice", "--no-paths"]
    anymri("evaluate", run, "--data", data, "--subsets", "T1c", *few, "-o", tmp_path / "two")
    masks = tmp_path / "Jane Doe" / "masks"
    masks.mkdir()
    for label in data.glob("*/*-seg.nii.gz"):
        (masks / label.name).write_bytes(label.read_bytes())
    anymri("score", masks, "--labels", data, "--label-scheme", "brats2023", *few, "-o", tmp_path / "four")
    train = ["train", "u_hved", "--data", data, *TRAINING, "--cache", tmp_path / "Jane Doe" / "cache", "--no-paths"]
    anymri(*train, "-o", tmp_path / "five")
    anymri("segment", data, "--weights", run, "--subset", "T1c", "--workers", 0, "--no-paths", "-o", tmp_path / "three")
    files = [*tmp_path.glob("*/provenance.json"), *(tmp_path / "three").glob("*/provenance.json")]
    assert len(files) == 6
    for file in files:
        assert "Doe" not in file.read_text() and str(workshop) not in file.read_text()
        inputs = json.loads(file.read_text())["inputs"]
        assert all("/" not in each["file"] and len(each["sha256"]) == 64 for each in inputs.values()), inputs


@pytest.fixture(scope="module")
def piped(workshop, case, tmp_path_factory):
    """What commands print to a pipe."""
    out = tmp_path_factory.mktemp("piped")
    evaluation = write_evaluation(out / "a_system_with_quite_a_long_name_for_a_table", "name", cases=2)
    lines = [
        ["systems"],
        ["systems", "u_hved"],
        ["cite", "u_hved"],
        ["recipe", "u_hved"],
        ["recipe", "u_hved", "--diff"],
        ["info"],
        ["weights", "list"],
        ["weights", "path"],
        ["phantom", "-n", "1", "--size", "48", "-o", out / "phantoms"],
        ["doctor", case, "--no-registration"],
        ["segment", case, "--weights", workshop / "run", "--subset", "T1c", "-o", out / "one"],
        ["evaluate", workshop / "run", "--data", workshop / "data", "--subsets", "T1c", "-o", out / "evaluation"],
        ["table", evaluation],
        ["plot", evaluation, "-o", out / "plots"],
        ["report", evaluation, "--no-pictures"],
        ["systems", "x_hved"],
    ]
    return [anymri(*line) for line in lines]


def test_output_in_a_pipe_has_no_control_characters(piped):
    for result in piped:
        for text in (result.stdout, result.stderr):
            assert not [c for c in text if unicodedata.category(c) == "Cc" and c not in "\n"], result.args


def test_output_in_a_pipe_is_not_wrapped(piped):
    systems, card = piped[0].stdout.splitlines(), piped[1].stdout.splitlines()
    assert len(systems) == 12 and all(len(line) > 80 for line in systems if "HVED" in line)
    assert max(map(len, card)) > 150  # a field of a card is one line
    (error,) = (line for line in piped[-1].stderr.splitlines() if line.startswith("Did you mean"))
    assert len(error) > 80
