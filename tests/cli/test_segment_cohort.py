"""`anymri segment` on a cohort: what it prints and writes, and its exit code."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import pytest

from anymri.cli.cohort import segment_many
from cli.command import anymri, check_refused

WORK = {"options": {"subset": "T1c"}}
# One modality, because most of the time goes to the networks that encode them.
FAST = ("--workers", 0, "--subset", "T1c")


@pytest.fixture
def cohort(workshop, tmp_path):
    return shutil.copytree(workshop / "data", tmp_path / "cohort")


def segmented(cohort, workshop, *options):
    return anymri("segment", cohort, "--weights", workshop / "run", "-o", cohort.parent / "out", *FAST, *options)


def test_a_cohort_gets_a_folder_per_case_and_a_summary(workshop, cohort):
    result = segmented(cohort, workshop)
    assert result.returncode == 0, result.stderr
    names = sorted(path.name for path in cohort.iterdir() if path.is_dir())
    out = cohort.parent / "out"
    assert [path.name for path in sorted(out.iterdir()) if path.is_dir()] == names
    assert (out / "summary.csv").exists() and "2 segmented" in result.stdout
    again = segmented(cohort, workshop)
    assert again.returncode == 0 and "2 kept" in again.stdout and "2 segmented" not in again.stdout


def test_a_shard_makes_a_cohort_of_one_case(workshop, cohort):
    name, other = sorted(path.name for path in cohort.iterdir() if path.is_dir())
    shutil.rmtree(cohort / other)
    assert segmented(cohort, workshop, "--shard", "1/1").returncode == 0
    out = cohort.parent / "out"
    assert (out / name / "segmentation.nii.gz").exists()
    assert (out / "summary.csv").read_text().splitlines()[1].startswith(f"{name},segmented")


def test_without_a_terminal_each_case_is_a_line_with_the_time_left(workshop, cohort, capsys):
    done = segment_many(cohort, cohort.parent / "out", [workshop / "run"], workers=0, device="cpu", work=WORK)
    assert done.exit_code == 0
    printed = capsys.readouterr()
    assert re.search(r"^segmenting 1/2 PHANTOM-00000-000 \(.* left\)$", printed.err, re.MULTILINE)
    first, second = printed.out.splitlines()
    assert first == "2 segmented" and second.endswith("summary.html")
    assert (cohort.parent / "out" / "summary.html").exists()


def test_a_failed_case_is_named_and_the_exit_code_is_3(workshop, cohort):
    bad, good = sorted(path.name for path in cohort.iterdir() if path.is_dir())
    (cohort / bad / f"{bad}-t1c.nii.gz").write_bytes(b"not a scan")
    result = segmented(cohort, workshop)
    assert result.returncode == 3 and "Traceback" not in result.stderr
    assert "1 segmented" in result.stdout and "1 failed" in result.stdout
    assert f"{bad} failed: " in result.stderr and f"{bad}-t1c.nii.gz" in result.stderr
    out = cohort.parent / "out"
    assert json.loads((out / "failures.json").read_text()).keys() == {bad}
    assert (out / good / "provenance.json").exists() and not (out / bad / "provenance.json").exists()


def test_the_page_of_a_cohort_names_no_file_of_a_raw_study(workshop, cohort):
    case = next(path for path in sorted(cohort.iterdir()) if path.is_dir())
    scan = next(case.glob("*-t1c.nii.gz"))
    for name in ("FIRST", "SECOND"):
        (cohort / name / "Jane x").mkdir(parents=True)
    shutil.copy(scan, cohort / "FIRST" / "Jane Doe.nii.gz")
    (cohort / "SECOND" / "Jane x" / "Jane Doe 7").write_bytes(bytes(128) + b"DICM" + bytes(99))
    with zipfile.ZipFile(cohort / "THIRD.zip", "w") as archive:
        archive.writestr("Jane/Doe Jane-t1c.nii.gz", scan.read_bytes()[:500])
    result = segmented(cohort, workshop)
    assert result.returncode == 3 and "3 failed" in result.stdout and "Jane Doe 7" in result.stderr
    page = (cohort.parent / "out" / "summary.html").read_text()
    assert all(name in page for name in ("FIRST", "SECOND", "THIRD"))
    assert "Jane" not in page and "Doe" not in page


def test_shards_fill_one_folder(workshop, cohort):
    for number in (1, 2):
        result = segmented(cohort, workshop, "--shard", f"{number}/2")
        assert result.returncode == 0 and "1 segmented" in result.stdout
    assert (cohort.parent / "out" / "summary.csv").read_text().count("segmented") == 2
    check_refused(segmented(cohort, workshop, "--shard", "3/2"), "'3/2'", "--shard 2/8")


def test_a_cohort_is_searched_once_and_its_notes_are_shown_once(workshop, cohort, monkeypatch):
    shutil.copy(next(cohort.rglob("*-t1c.nii.gz")), cohort / "stray.nii.gz")
    monkeypatch.delattr("anymri.inference.cohort.find_sources")
    result = segmented(cohort, workshop)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("stray.nii.gz") == 1


def test_an_output_that_a_file_blocks_is_refused_once(workshop, cohort):
    (cohort.parent / "out").write_text("a file")
    check_refused(segmented(cohort, workshop), "cannot be written")


@pytest.mark.acceptance
def test_ctrl_c_keeps_what_is_finished_and_leaves_no_process(workshop, tmp_path):
    cohort, out = tmp_path / "cohort", tmp_path / "out"
    assert anymri("phantom", "-n", 12, "--size", 48, "-o", cohort).returncode == 0
    command = [sys.executable, "-m", "anymri", "segment", cohort, "--weights", workshop / "run", "-o", out]
    with subprocess.Popen(
        [*map(str, command), "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        while not list(out.glob("*/case.json")):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        text = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130 and "Interrupted" in text and "Traceback" not in text
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not list(out.rglob(".anymri-*")) and (out / "summary.csv").exists()
    finished = len(list(out.glob("*/case.json")))
    result = anymri(*command[3:], "--workers", 0)
    assert result.returncode == 0 and f"{12 - finished} segmented, {finished} kept" in result.stdout
