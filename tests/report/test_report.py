"""The page of one evaluation."""

import base64
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from anymri.analysis import reading, tables
from anymri.errors import ConfigurationError, RunError
from anymri.modalities import SUBSETS
from anymri.report import figures
from anymri.report.pages import Examples, write_report


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    rows = ["case,subset,region,metric,value,status"]
    for subset in SUBSETS:
        for region in ("WT", "TC", "ET"):
            dice = 0.5 + 0.1 * len(subset) + (0.05 if "FLAIR" in subset else 0)
            rows += [f"a,{subset},{region},dice,{dice},scored", f"a,{subset},{region},hd95,{50 * (1 - dice)},scored"]
    (folder / "metrics.csv").write_text("\n".join([*rows, "b,T1,WT,dice,,T1 missing"]) + "\n")
    configuration = {"weights": {"system": "u_hved"}, "conventions": {"hd95": "pooled as medpy"}}
    provenance = {"configuration": configuration, "created": "2025-01-01T10:00:00+00:00", "command": "<script>"}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    lines = [f"{stage},{epoch},{epoch},1,0.1,{2 - 0.1 * epoch}" for stage in ("first", "second") for epoch in range(3)]
    (folder / "log.csv").write_text("\n".join(["stage,epoch,step,seconds,learning_rate,loss/total", *lines]) + "\n")
    (folder / "validation.csv").write_text("stage,epoch,step,region,dice\nsecond,1,1,WT,0.7\nsecond,1,1,mean,0.7\n")
    return folder


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def named(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def report(folder, evaluation, run=None, pictures=None):
    path = folder / "report.html"
    examples = [Examples("Segmentations", pictures=pictures)] if pictures else []
    facts = {"Device": "1 < 2 cores"}
    written = write_report(
        path, "<b>bold</b>", reading.read_evaluations([evaluation]), run=run, examples=examples, facts=facts
    )
    assert written == path
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def mine(evaluation):
    return figures.as_png(figures.subset_heatmap(tables.subset_table(reading.read_metrics(evaluation), "dice"), "dice"))


@pytest.fixture(scope="module")
def page(evaluation, run, mine, tmp_path_factory):
    return report(tmp_path_factory.mktemp("page"), evaluation, run, {"Mine": mine})


def test_the_page_holds_everything_it_needs(page):
    tags = Tags(page)
    assert not tags.named("script")
    assert not tags.named("link")
    assert not re.search(r"url\(|@import|https?://", page)
    images = tags.named("img")
    # a heat map, means by number and cases of both metrics, contributions to Dice, the learning curve and the picture
    assert len(images) == 3 + 3 + 1 + 1 + 1
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in images)


def test_the_page_names_the_best_and_the_worst_subset(page):
    assert "u_hved was evaluated on 1 case with all 15 subsets" in page
    assert "best 95.0 with T1+T1c+T2+FLAIR, worst 60.0 with T1" in page  # Dice
    assert "best 2.5 with T1+T1c+T2+FLAIR, worst 20.0 with T1" in page  # HD95
    assert "HD95: pooled as medpy." in page
    assert "b has no T1: 1 of 1 subsets not scored, and in no mean." in page


def test_the_table_of_the_page_has_a_header_for_each_row_and_column(page):
    tags = Tags(page[page.index('id="metrics"') : page.index('id="plots"')])
    scopes = [header.get("scope") for header in tags.named("th")]
    assert scopes.count("row") == 15 + 1
    assert scopes.count("col") == 4 + 3 + 3 + 1
    assert scopes.count("colgroup") == 2
    assert len(tags.named("td")) == 2 + 16 * (3 + 7)  # no heading above the signs, and none above n


def test_words_from_files_and_users_are_escaped(page):
    assert "<b>" not in page
    assert "<script>" not in page
    assert "1 &lt; 2 cores" in page


def test_pictures_given_as_bytes_are_embedded_unchanged(page, mine):
    last = Tags(page).named("img")[-1]
    assert base64.b64decode(last["src"].removeprefix("data:image/png;base64,")) == mine


def test_a_picture_of_unknown_format_is_refused_and_the_old_report_kept(tmp_path, evaluation):
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(ConfigurationError, match="neither PNG nor SVG"):
        report(tmp_path, evaluation, pictures={"Case a": b"GIF89a"})
    assert (tmp_path / "report.html").read_text() == "old"


@pytest.mark.parametrize("missing", ["metrics.csv", "provenance.json"])
def test_a_folder_that_is_not_an_evaluation_is_refused(tmp_path, evaluation, missing):
    copied = shutil.copytree(evaluation, tmp_path / "copy")
    (copied / missing).unlink()
    with pytest.raises(RunError, match=missing):
        report(tmp_path, copied)
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_is_not_a_run_is_refused(tmp_path, evaluation):
    with pytest.raises(RunError, match=r"log\.csv"):
        report(tmp_path, evaluation, run=tmp_path)


def test_epochs_are_numbered_through_all_stages(run):
    figure = figures.learning_curve(*reading.read_run(run))
    losses, validation = figure.axes
    assert losses.get_lines()[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert validation.get_lines()[0].get_xdata().tolist() == [5]  # epoch 1 of the second stage
    assert [text.get_text() for text in losses.texts] == ["first", "second"]


def test_no_two_losses_of_a_training_look_alike_and_twelve_differ_in_colour():
    names = ["total", *(f"loss-{number}" for number in range(24))]
    log = pd.DataFrame({"stage": "only", "epoch": [1, 2], **{f"loss/{name}": [2.0, 1.0] for name in names}})
    lines = figures.learning_curve(log, None).axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(names)
    assert len({line.get_color() for line in lines[:12]}) == 12


def test_validations_are_a_line_and_a_single_one_is_a_larger_dot():
    log = pd.DataFrame({"stage": "only", "epoch": [1, 2, 3, 4], "loss/total": [4.0, 3.0, 2.0, 1.0]})
    validation = pd.DataFrame({"stage": "only", "epoch": [2, 4], "region": "WT", "dice": [0.5, 0.7]})
    (line,), (dot,) = (
        figures.learning_curve(log, rows).axes[1].get_lines() for rows in (validation, validation.iloc[1:])
    )
    assert line.get_linestyle() == "-" and line.get_xydata().tolist() == [[2, 50], [4, 70]]
    assert dot.get_markersize() > line.get_markersize()


def test_a_loss_of_one_stage_only_is_drawn_with_a_gap(run):
    log, _ = reading.read_run(run)
    log["loss/kl"] = [np.nan] * 3 + [0.1] * 3
    (axes,) = figures.learning_curve(log, None).axes
    assert {line.get_label() for line in axes.get_lines()} >= {"total", "kl"}
    assert axes.get_yscale() == "log"


def test_svg_is_well_formed_and_has_the_same_bytes_every_time(run):
    first, second = (figures.as_svg(figures.learning_curve(*reading.read_run(run))) for _ in range(2))
    assert first == second
    assert ElementTree.fromstring(first).tag.endswith("svg")


@pytest.mark.parametrize("save", [figures.as_svg, figures.as_png])
def test_saving_draws_a_figure_once(evaluation, save, monkeypatch):
    figure = figures.subset_heatmap(tables.subset_table(reading.read_metrics(evaluation), "dice"), "dice")
    draw, drawn = Figure.draw, []
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: (drawn.append(self), draw(self, renderer)))
    save(figure)
    assert drawn == [figure]


def test_the_page_is_imported_without_what_only_computing_metrics_needs():
    code = "import sys, anymri.report.pages; print({'torch', 'scipy', 'nibabel'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_heat_map_has_each_number_and_a_dash_for_missing_values(evaluation):
    table = tables.subset_table(reading.read_metrics(evaluation), "hd95")
    table.loc["T2", "ET"] = np.nan
    texts = [text.get_text() for text in figures.subset_heatmap(table, "hd95").axes[0].texts]
    assert len(texts) == 15 * 3
    assert texts[:3] == ["20.0", "20.0", "-"]


def test_the_page_says_if_no_subset_has_values_in_all_regions(tmp_path, evaluation):
    copied = shutil.copytree(evaluation, tmp_path / "copy")
    pd.DataFrame(
        [["a", "T1", "WT", "dice", 0.5, "scored"], ["a", "T2", "ET", "dice", 0.5, "scored"]],
        columns=["case", "subset", "region", "metric", "value", "status"],
    ).to_csv(copied / "metrics.csv", index=False)
    assert "Dice: no subset has values in all regions." in report(tmp_path, copied)
