"""`anymri weights`, and `anymri segment` without --weights."""

import pytest

import anymri as package
from anymri.errors import InputWarning
from anymri.files import sha256
from anymri.synthesis.phantoms import write_cohort
from cli.command import anymri, check_refused
from untrained import write_weights

DESCRIBED = {
    "summary": "Glioma before surgery, for tests.",
    "operative": "pre",
    "licence": "CC0",
    "data": "three phantoms",
    "tables": [{"data": "phantoms", "cases": 3, "dice": {"flair+t1ce": {"WT": 0.875, "TC": 0.5, "ET": 0.25}}}],
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "data"
    write_cohort(folder, 2, size=32)
    return folder


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def test_weights_are_added_listed_shown_verified_and_removed(places, source, wide):
    file = write_weights(source / "tumour.safetensors", **DESCRIBED)
    assert "No weights are installed" in anymri("weights", "list").stdout
    assert anymri("weights", "add", file, "--sha256", sha256(file)).returncode == 0
    listed = " ".join(anymri("weights", "list").stdout.split())  # whatever the width of the terminal
    assert "tumour" in listed and "before" in listed and DESCRIBED["summary"] in listed
    shown = anymri("weights", "show", "tumour").stdout
    assert shown.splitlines()[0] == DESCRIBED["summary"]
    assert "licence: CC0" in shown and sha256(file) in shown and "phantoms, 3 cases" in shown
    rows = [line.split() for line in shown.splitlines()[-15:]]
    assert ["T1c+FLAIR", "87.5", "50.0", "25.0"] in rows and ["T1+T1c+T2+FLAIR"] in rows
    assert sha256(file) in anymri("weights", "verify").stdout
    assert anymri("weights", "path", "tumour").stdout.split() == [str(places.user / "tumour.safetensors")]
    assert anymri("weights", "remove", "tumour").returncode == 0
    assert list(places.user.iterdir()) == []
    assert anymri("weights", "path").stdout.split() == [str(places.user)]


def test_damaged_weights_are_listed_and_fail_the_verification(places, wide):
    write_weights(places.user / "whole.safetensors")
    (places.user / "broken.safetensors").write_bytes(b"nothing")
    assert "is damaged" in anymri("weights", "list").stdout
    verified = anymri("weights", "verify")
    assert verified.returncode == 2
    assert "broken: " in verified.stdout and "whole: whole" in verified.stdout


def test_segment_takes_installed_weights_and_says_which(places, cohort, tmp_path):
    write_weights(places.starters / "starter.safetensors", synthetic_only=True, **DESCRIBED)
    case = sorted(path for path in cohort.iterdir() if path.is_dir())[0]
    one = anymri("segment", case, "--subset", "T1c+FLAIR", "-o", tmp_path / "one")
    assert one.returncode == 0, one.stderr
    lines = [line for line in one.stdout.splitlines() if not line.startswith("Read ")]
    assert lines[0] == "Weights: starter (the only weights of anymri for T1c+FLAIR, mean Dice 54.2 % on phantoms)"
    assert lines[1] == f"starter: {DESCRIBED['summary']}"
    assert one.stderr.count("synthetic images only") == 1
    assert '"change"' not in (tmp_path / "one" / "measurements.json").read_text()  # other subsets have no Dice
    write_weights(places.user / "mine.safetensors")
    many = anymri("segment", cohort, "-o", tmp_path / "many", "--workers", 0)
    assert many.returncode == 0, many.stderr
    assert many.stdout.startswith("Weights: mine (the only added weights for all subsets)")
    named = anymri("segment", cohort, "--weights", "starter", "-o", tmp_path / "named", "--workers", 0)
    assert named.returncode == 0 and named.stderr.count("synthetic images only") == 1
    assert named.stdout.startswith("starter: ")


def test_segment_without_any_weights_is_refused(places, cohort, tmp_path):
    for place in (cohort, next(path for path in cohort.iterdir() if path.is_dir())):
        check_refused(anymri("segment", place, "-o", tmp_path / "out"), "No weights are installed", "--weights")
        assert not (tmp_path / "out").exists()


def test_python_takes_installed_weights(places, cohort):
    write_weights(places.user / "mine.safetensors", subsets=["FLAIR"], tables=DESCRIBED["tables"])
    write_weights(places.starters / "starter.safetensors", synthetic_only=True)
    case = next(path for path in cohort.iterdir() if path.is_dir())
    assert package.load(device="cpu").weights.stem == "starter"
    with pytest.warns(InputWarning, match="synthetic images only"):
        package.segment(case, subset="T1c", device="cpu")
    assert package.segment(case, subset="FLAIR", device="cpu").card.subsets == ["FLAIR"]


def test_the_table_of_the_card_says_what_a_missing_scan_would_bring(places, cohort, tmp_path):
    dice = {"FLAIR": {"WT": 0.5}, "T1c+FLAIR": {"WT": 0.75}}
    tables = [{"data": "phantoms", "cases": 3, "dice": dice}]
    weights = write_weights(places.user / "mine.safetensors", tables=tables)
    case = next(path for path in cohort.iterdir() if path.is_dir())
    result = package.load(weights, device="cpu").segment(case, "FLAIR", tmp_path / "out")
    assert '"change": 0.25' in (tmp_path / "out" / "measurements.json").read_text()
    assert result.card.tables[0].cases == 3
