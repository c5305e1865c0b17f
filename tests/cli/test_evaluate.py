"""`anymri evaluate`, `score`, `table`, `plot` and `report`."""

from anymri.cli.commands.evaluate import read_subsets
from cli.command import anymri, check_refused
from made_evaluations import write_evaluation


def test_evaluate_writes_metrics_and_the_table(workshop, tmp_path):
    subsets = ["--subsets", "FLAIR, T1c+FLAIR"]
    result = anymri("evaluate", workshop / "run", "--data", workshop / "data", *subsets, "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {"cases", "provenance.json", "metrics.csv", "settings.json", "table.md"}
    assert "trained on 2 of these cases" in result.stdout and "Dice WT" in result.stdout
    check_refused(anymri("evaluate", workshop / "run", "--data", workshop / "data", "--subsets", ",", "-o", "x"), "15")


def test_subsets_are_read_in_the_order_of_the_tables():
    assert [str(subset) for subset in read_subsets("t1c+flair, FLAIR")] == ["FLAIR", "T1c+FLAIR"]


def test_masks_of_any_tool_are_scored_and_put_in_a_table(workshop, tmp_path):
    (tmp_path / "masks").mkdir()
    for label in (workshop / "data").glob("*/*-seg.nii.gz"):
        (tmp_path / "masks" / label.name).write_bytes(label.read_bytes())
    score = ["score", tmp_path / "masks", "--labels", workshop / "data", "--label-scheme", "brats2023"]
    result = anymri(*score, "--name", "oracle", "--metrics", "dice,nsd_1mm", "-o", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "# oracle on 2 cases" in result.stdout and "100.0" in result.stdout
    table = anymri("table", tmp_path / "out", "--quote", "m3ae-2020", "--format", "latex")
    assert table.returncode == 0, table.stderr
    assert r"\toprule" in table.stdout and "m3ae-2020 (quoted)" in table.stdout
    written = anymri("table", tmp_path / "out", "--metric", "nsd_1mm", "--average", "-o", tmp_path / "table.md")
    assert written.returncode == 0 and "NSD 1 mm of oracle on 2 cases" in (tmp_path / "table.md").read_text()
    check_refused(anymri("table", tmp_path / "out", "--metric", "hd95"), "--metrics hd95")
    check_refused(anymri(*score, "--metrics", "hd59", "-o", tmp_path / "x"), "hd95")
    check_refused(anymri(*score, "--metrics", "ece", "-o", tmp_path / "x"), "ece", "anymri evaluate")
    check_refused(anymri(*score, "--subset", "T1+flare", "-o", tmp_path / "x"), "flair")
    check_refused(anymri(*score[:-1], "brats2032", "-o", tmp_path / "x"), "brats2023")
    assert not (tmp_path / "x").exists()


def test_score_needs_labels_and_their_scheme(tmp_path):
    for missing in ("--labels", "--label-scheme", "--output"):
        given = {"--labels": tmp_path, "--label-scheme": "brats2023", "--output": tmp_path / "x"}
        options = [word for option, value in given.items() if option != missing for word in (option, value)]
        result = anymri("score", tmp_path, *options)
        assert result.returncode == 2 and missing in result.stderr


def test_plots_and_report_are_written(tmp_path):
    folders = [write_evaluation(tmp_path / name, name, cases=2) for name in ("a", "b")]
    drawn = anymri("plot", folders[0], "-o", tmp_path / "plots")
    assert drawn.returncode == 0 and drawn.stdout.startswith("4 plots in ")
    assert len(list((tmp_path / "plots").glob("*.svg"))) == len(list((tmp_path / "plots").glob("*.png"))) == 4
    written = anymri("report", folders[0])
    assert written.stdout.strip() == str(tmp_path / "a" / "report.html")
    assert "pictures of case-" in (tmp_path / "a" / "report.html").read_text()
    check_refused(anymri("report", *folders), "-o report.html")
    check_refused(anymri("report", tmp_path / "nowhere"), "does not exist")
    check_refused(anymri("plot", *folders, "-o", tmp_path / "p", "--quote", "m3ae-2021"), "Did you mean m3ae-20")
