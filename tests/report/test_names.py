"""Names of cases and tools that look like numbers, missing values or markup, through every command that prints them."""

import csv

import numpy as np
import pytest

from anymri.analysis.grid import Cell, Grid, Group, markdown_text, to_latex, to_markdown
from anymri.analysis.reading import read_metrics
from anymri.data.image import write_image
from anymri.report.figures import as_svg
from anymri.report.figures.style import new_figure, plain
from cli.command import anymri, check_refused

NAMES = ["nan", "NA", "null", "001", "1", "1e5", "True", "-a", "_x_", "<b>", "a|b", "a*b*", "[red]x", "Ä b"]
NAMES += ["日本", "$x$", "`c`", "&amp;", "# x", "1. x", "%s", "{0}", "a,b", 'q"q', "a" * 150]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Label maps and predictions of cases with these names, each case with another error."""
    root = tmp_path_factory.mktemp("names")
    for shift, name in enumerate(NAMES):
        for kind, start in (("labels", 3), ("predictions", 3 + shift % 3)):
            array = np.zeros((12, 9, 9), np.uint8)
            array[start : start + 5, 2:7, 2:7], array[start : start + 2, 3, 3] = 2, 3
            (root / kind).mkdir(exist_ok=True)
            write_image(root / kind / f"{name}.nii.gz", array, np.diag([-1.0, -1, 1, 1]))
    return root


def scored(folder, output, name):
    places = [folder / "predictions", "--labels", folder / "labels", "--label-scheme", "brats2023"]
    return anymri("score", *places, "-o", output, "--metrics", "dice", "--name", name)


def test_every_name_passes_every_command(folder, tmp_path):
    tools = {"a": "_$x$_", "b": "[bold]<i>|nan\x1b[31m"}
    for file, name in tools.items():
        found = scored(folder, tmp_path / file, name)
        assert found.returncode == 0, found.stderr
        assert "\x1b[31m" not in found.stdout
    assert set(read_metrics(tmp_path / "a")["case"]) == set(NAMES)
    with (tmp_path / "a" / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        assert {row["case"] for row in csv.DictReader(stream)} == set(NAMES)
    both = tmp_path / "a", tmp_path / "b"
    for arguments in (
        ("table", *both),
        ("table", *both, "--statistics", "-o", tmp_path / "statistics.md"),
        ("table", *both, "--average", "--format", "latex", "-o", tmp_path / "average.tex"),
        ("table", *both, "--format", "html", "-o", tmp_path / "table.html"),
        ("plot", *both, "-o", tmp_path / "plots"),
        ("report", *both, "-o", tmp_path / "report.html"),
    ):
        found = anymri(*arguments)
        assert found.returncode == 0, found.stderr
        assert f"{len(NAMES)} cases" in found.stdout or arguments[-1].exists()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;i&gt;|nan" in page and "<i>" not in page and "\x1b" not in page
    assert f"{len(NAMES)} cases" in page


def test_names_that_cannot_be_printed_are_refused_before_the_work(folder, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a\rb.nii.gz").write_bytes((folder / "labels" / "nan.nii.gz").read_bytes())
    places = [tmp_path / "labels", "--labels", tmp_path / "labels", "--label-scheme", "brats2023"]
    check_refused(anymri("score", *places, "-o", tmp_path / "out"), "U+000D", "'a\\rb'")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("u_hved, p < 0.05, 2|A and B|, 85.0 [84.1, 86.0]", "u_hved, p < 0.05, 2|A and B|, 85.0 [84.1, 86.0]"),
        ("_x_", r"\_x\_"),
        ("a*b*", r"a\*b\*"),
        ("<b> </b>", r"\<b> \</b>"),
        ("[x](y)", r"[x\](y)"),
        ("`c` ~~d~~ &amp;", r"\`c\` \~~d\~~ \&amp;"),
        ("# x", r"\# x"),
        ("1. x", r"1\. x"),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_markdown_markup_in_names_is_escaped(text, escaped):
    assert markdown_text(text) == escaped


def test_names_in_tables_are_not_markup():
    grid = Grid("t", ("system",), [Group("[x]", ("a|b",))], [[Cell("[1]"), Cell("a|b")], [Cell("*"), Cell("")]])
    assert r"| \* " in to_markdown(grid) and r"a\|b" in to_markdown(grid)
    lines = to_latex(grid).splitlines()
    assert any(line.startswith("{}[1]") for line in lines) and any(line.startswith("{}*") for line in lines)


def test_names_in_figures_are_not_formulas():
    figure = new_figure(2, 2)
    axes = figure.subplots()
    axes.plot([0, 1], label=plain(r"_$\wrong$"))
    axes.legend()
    assert r"$\wrong$" in [text.get_text().strip(" _").replace(r"\$", "$") for text in axes.get_legend().get_texts()]
    as_svg(figure)
