"""`anymri reproduce`: a plan, a training that is killed and continued, two tests, and a page that says what it is."""

import shutil

import pytest

from anymri.reproduction import plan
from anymri.synthesis.phantoms import write_cohort
from cli.command import anymri, check_refused
from robustness.killing import KILLED, killed

# Less than small scale, for tests.
TINY = {"epochs": 2, "steps_per_epoch": 1, "network.width": 4, "window_overlap": 0}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduce") / "phantoms"
    write_cohort(folder, 5, size=48)
    return folder


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setattr(plan, "_SMALL", plan._SMALL | TINY)
    monkeypatch.setenv("ANYMRI_CACHE", str(tmp_path / "cache"))


def renamed(cohort, folder, name):
    """Link the cases of a cohort under other names, formatted with a number."""
    for number, case in enumerate(sorted(cohort.iterdir())):
        new = name.format(number)
        (folder / new).mkdir(parents=True)
        for file in case.glob("*.nii.gz"):
            (folder / new / file.name.replace(case.name, new)).symlink_to(file)
    return folder


def test_a_killed_reproduction_is_continued_by_the_same_command(phantoms, tmp_path, tiny):
    output = tmp_path / "out"
    command = ["reproduce", "u_hved", "--data", phantoms, "-o", output, "--scale", "small", "--device", "cpu"]
    assert killed(command, output / "run", 9) == KILLED
    assert (output / "run" / "config.yaml").exists() and not (output / "evaluation-reference").exists()
    result = anymri(*command)
    assert result.returncode == 0, result.stderr
    page = (output / "reproduction.html").read_text()
    assert "This is not a reproduction" in page and "(no meaning: small scale)" in page
    assert "u_hved-2023 is quoted, not measured" in page
    for protocol in ("reference", "anymri"):
        assert (output / f"evaluation-{protocol}" / "metrics.csv").exists()
    assert "published value above our interval" in result.stdout
    assert "3 to train on, 1 to validate on, 1 to test" in result.stdout
    refused = anymri(*command, "--label-scheme", "brats2024")
    check_refused(refused, "label scheme", "Run the command that began it")


def test_a_dry_run_prints_the_plan_and_writes_nothing(phantoms, tmp_path, tiny):
    result = anymri("reproduce", "u_hved", "--data", phantoms, "-o", tmp_path / "out", "--scale", "small", "--dry-run")
    assert result.returncode == 0, result.stderr
    for word in ("2 steps", "on this machine (measured)", "of preprocessed cases", "875 / 125 / 251"):
        assert word in result.stdout
    assert not (tmp_path / "out").exists() and not (tmp_path / "cache").exists()


def test_phantoms_at_full_scale_are_refused(phantoms, tmp_path):
    result = anymri("reproduce", "u_hved", "--data", phantoms, "-o", tmp_path / "out")
    check_refused(result, "BraTS 2023", "phantoms", "--anyway")
    assert not (tmp_path / "out").exists()


def test_a_system_without_authors_is_refused(phantoms, tmp_path):
    result = anymri("reproduce", "unet_dropout", "--data", phantoms, "-o", tmp_path / "out")
    check_refused(result, "no recipe `reference`", "anymri train unet_dropout")


def test_data_of_another_year_are_refused(phantoms, tmp_path):
    cohort = renamed(phantoms, tmp_path / "data", "BraTS2021_{:05}")
    result = anymri("reproduce", "u_hved", "--data", cohort, "-o", tmp_path / "out", "--scale", "small")
    check_refused(result, "is for BraTS 2023", "BraTS 2021", "--anyway")


def test_unknown_data_need_a_label_scheme(phantoms, tmp_path):
    cohort = renamed(phantoms, tmp_path / "data", "hospital{}")
    for options in ([], ["--anyway"]):
        result = anymri("reproduce", "u_hved", "--data", cohort, "-o", tmp_path / "out", *options)
        check_refused(result, "hospital0", "--anyway --label-scheme")
    (cohort / "hospital0").rename(cohort / "BraTS2021_00000")
    check_refused(anymri("reproduce", "u_hved", "--data", cohort, "-o", tmp_path / "out"), "BraTS 2021", "hospital1")


def test_lists_that_name_unknown_cases_are_refused(phantoms, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    names = [case.name for case in sorted(phantoms.iterdir())]
    (lists / "train.txt").write_text("\n".join(names[:3]))
    (lists / "test.txt").write_text("BraTS-GLI-00000-000")
    command = ["reproduce", "u_hved", "--data", phantoms, "-o", tmp_path / "out", "--scale", "small", "--lists", lists]
    check_refused(anymri(*command), "no list val*")
    (lists / "val15splits.csv").write_text(f'case,mask\n{names[3]},"[False, False, False, True]"\n')
    check_refused(anymri(*command), "test.txt", "BraTS-GLI-00000-000")
    shutil.copy(lists / "train.txt", lists / "train2.txt")
    check_refused(anymri(*command), "several lists train*")
