import base64
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from anymri.errors import ConfigurationError, ModalityError, RunError
from anymri.modalities import SUBSETS
from anymri.regions import ED, ET, NCR, RC
from anymri.report import figures, reading, tables
from anymri.report.html import Examples, write_report

SHAPE = (40, 50, 30)


@pytest.fixture
def evaluation(tmp_path):
    folder = tmp_path / "evaluation"
    folder.mkdir()
    rows = ["case,subset,region,metric,value,status"]
    for subset in SUBSETS:
        for region in ("WT", "TC", "ET"):
            dice = 0.5 + 0.1 * len(subset) + (0.05 if "FLAIR" in subset else 0)
            rows += [f"a,{subset},{region},dice,{dice},scored", f"a,{subset},{region},hd95,{50 * (1 - dice)},scored"]
    (folder / "scores.csv").write_text("\n".join([*rows, "b,T1,WT,dice,,T1 absent"]) + "\n")
    configuration = {"weights": {"system": "u_hved"}, "conventions": {"hd95": "pooled as medpy"}}
    manifest = {"configuration": configuration, "created": "2025-01-01T10:00:00+00:00", "command": "<script>"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [f"{stage},{epoch},{epoch},1,0.1,{2 - 0.1 * epoch}" for stage in ("first", "second") for epoch in range(3)]
    (folder / "log.csv").write_text("\n".join(["stage,epoch,step,seconds,learning_rate,loss/total", *lines]) + "\n")
    (folder / "validation.csv").write_text("stage,epoch,step,region,dice\nsecond,1,1,WT,0.7\nsecond,1,1,mean,0.7\n")
    return folder


def a_tumour(shape=SHAPE):
    """Classes whose largest slices are sagittal 11, coronal 12 and axial 13, in the patient's right front."""
    classes = np.zeros(shape, np.uint8)
    classes[8:15, 9:16, 10:17] = ED
    classes[9:14, 10:15, 11:16] = NCR
    classes[10:13, 11:14, 12:15] = ET
    classes[11, 12, 9:20] = ED
    classes[11, 5:20, 13] = ED
    classes[5:20, 12, 13] = ED
    return classes


def scan(shape=SHAPE):
    image = np.zeros(shape, np.float32)
    image[3:-3, 3:-3, 3:-3] = np.random.default_rng(0).uniform(1, 100, [n - 6 for n in shape])
    return image


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def named(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def report(tmp_path, evaluation, run=None, pictures=None, title="A report"):
    path = tmp_path / "report.html"
    examples = [Examples("Segmentations", pictures=pictures)] if pictures else []
    written = write_report(path, title, [evaluation], run=run, examples=examples, facts={"Device": "1 < 2 cores"})
    assert written == path
    return path.read_text(encoding="utf-8")


def test_the_page_holds_everything_it_needs(tmp_path, evaluation, run):
    montage = figures.montage({"T1c": scan()}, a_tumour(), {"T1c": a_tumour()})
    page = report(tmp_path, evaluation, run, {"Case a": montage})
    tags = Tags(page)
    assert not tags.named("script")
    assert not tags.named("link")
    assert not re.search(r"url\(|@import|https?://", page)
    images = tags.named("img")
    # a heat map, means by number and cases of both metrics, contributions to Dice, the learning curve and the montage
    assert len(images) == 3 + 3 + 1 + 1 + 1
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in images)


def test_the_page_says_best_and_worst_subset_in_words(tmp_path, evaluation):
    page = report(tmp_path, evaluation)
    assert "u_hved was evaluated on 1 case with all 15 subsets" in page
    assert "best 95.0 with T1+T1c+T2+FLAIR, worst 60.0 with T1" in page  # Dice
    assert "best 2.5 with T1+T1c+T2+FLAIR, worst 20.0 with T1" in page  # HD95
    assert "HD95: pooled as medpy." in page
    assert "b has no T1: 1 of 1 subsets not scored, and in no mean." in page


def test_the_table_of_the_page_has_a_header_for_each_row_and_column(tmp_path, evaluation):
    page = report(tmp_path, evaluation)
    tags = Tags(page[page.index('id="scores"') : page.index('id="plots"')])
    scopes = [header.get("scope") for header in tags.named("th")]
    assert scopes.count("row") == 15 + 1
    assert scopes.count("col") == 4 + 3 + 3 + 1
    assert scopes.count("colgroup") == 2
    assert len(tags.named("td")) == 2 + 16 * (3 + 7)  # no heading above the signs, and none above n


def test_words_from_files_and_users_are_escaped(tmp_path, evaluation):
    page = report(tmp_path, evaluation, title="<b>bold</b>")
    assert "<b>" not in page
    assert "<script>" not in page
    assert "1 &lt; 2 cores" in page


def test_an_unknown_picture_leaves_the_old_report(tmp_path, evaluation):
    old = report(tmp_path, evaluation)
    with pytest.raises(ConfigurationError, match="neither PNG nor SVG"):
        report(tmp_path, evaluation, pictures={"Case a": b"GIF89a"})
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == old


@pytest.mark.parametrize("missing", ["scores.csv", "manifest.json"])
def test_a_folder_that_is_no_evaluation_is_refused(tmp_path, evaluation, missing):
    (evaluation / missing).unlink()
    with pytest.raises(RunError, match=missing):
        report(tmp_path, evaluation)
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path, evaluation):
    with pytest.raises(RunError, match=r"log\.csv"):
        report(tmp_path, evaluation, run=tmp_path)


def test_pictures_given_as_bytes_arrive_unchanged(tmp_path, evaluation):
    png = figures.as_png(figures.subset_heatmap(tables.subset_table(reading.read_scores(evaluation), "dice"), "dice"))
    last = Tags(report(tmp_path, evaluation, pictures={"Mine": png})).named("img")[-1]
    assert base64.b64decode(last["src"].removeprefix("data:image/png;base64,")) == png


def test_epochs_count_through_the_stages(run):
    figure = figures.learning_curve(*reading.read_run(run))
    losses, validation = figure.axes
    assert losses.get_lines()[0].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert validation.get_lines()[0].get_xdata().tolist() == [5]  # epoch 1 of the second stage
    assert [text.get_text() for text in losses.texts] == ["first", "second"]


def test_a_loss_of_one_stage_only_leaves_a_gap(run):
    log, _ = reading.read_run(run)
    log["loss/kl"] = [np.nan] * 3 + [0.1] * 3
    (axes,) = figures.learning_curve(log, None).axes
    assert {line.get_label() for line in axes.get_lines()} >= {"total", "kl"}
    assert axes.get_yscale() == "log"


def test_svg_is_the_same_every_time_and_well_formed(run):
    first, second = (figures.as_svg(figures.learning_curve(*reading.read_run(run))) for _ in range(2))
    assert first == second
    assert ElementTree.fromstring(first).tag.endswith("svg")


def test_the_heat_map_writes_each_number_and_a_dash_for_none(evaluation):
    table = tables.subset_table(reading.read_scores(evaluation), "hd95")
    table.loc["T2", "ET"] = np.nan
    texts = [text.get_text() for text in figures.subset_heatmap(table, "hd95").axes[0].texts]
    assert len(texts) == 15 * 3
    assert texts[:3] == ["20.0", "20.0", "-"]


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def test_montage_shows_each_subset_on_a_scan_of_its_own():
    scans = {name: scan() for name in ("T1", "T1c", "T2", "FLAIR")}
    half = a_tumour()
    half[:12] = 0
    figure = figures.montage(scans, a_tumour(), {"T1+T2": half, "T1c+FLAIR": a_tumour(), "T1": half * 0})
    truth, t1_t2, t1c_flair, t1 = titles(figure)
    assert truth == "truth\non T1c"
    assert t1_t2.startswith("T1+T2\non T2\nDice WT ")
    assert t1c_flair == "T1c+FLAIR\non T1c\nDice WT 100 TC 100 ET 100"
    assert t1 == "T1\non T1\nno tumour"


def test_montage_shows_the_slice_with_the_most_tumour_in_radiological_orientation():
    image = scan()
    marked = image.copy()
    marked[3, 12, 13] = 1e6  # the patient's far right, on the axial and coronal slices shown
    marked[11, 3, 13] = 1e6  # far front, on the axial and sagittal slices
    marked[11, 12, 26] = 1e6  # top, on the coronal and sagittal slices
    figure = figures.montage({"T1c": marked}, a_tumour(), {})
    axial, coronal, sagittal = (axes.images[0] for axes in figure.axes)

    def bright(shown):
        """Where the marks lie on the screen: (from the left, from the top), each in 0..1."""
        rows, columns = np.nonzero(shown.get_array() > 1e5)
        height, width = shown.get_array().shape
        down = rows / height if shown.origin == "upper" else 1 - rows / height
        return sorted(zip((columns / width).round(1).tolist(), down.round(1).tolist(), strict=True))

    assert min(bright(axial))[0] < 0.15  # patient's right is left on the screen
    assert min(y for _, y in bright(axial)) < 0.15  # front is up
    assert min(bright(coronal))[0] < 0.15
    assert min(y for _, y in bright(coronal)) < 0.2  # superior is up
    assert min(bright(sagittal))[0] < 0.15  # front is left
    assert min(y for _, y in bright(sagittal)) < 0.2
    assert [len(bright(shown)) for shown in (axial, coronal, sagittal)] == [2, 2, 2]


def test_montage_of_all_15_subsets_and_the_truth_is_four_rows_of_four():
    figure = figures.montage(
        {"T2": scan(), "T1c": scan(), "T1": scan(), "FLAIR": scan()},
        a_tumour(),
        dict.fromkeys(map(str, SUBSETS), a_tumour()),
    )
    assert len(figure.axes) == 16
    assert len(titles(figure)) == 16


def test_montage_keeps_the_proportions_of_thick_slices():
    figure = figures.montage({"T1": scan()}, None, {"T1": a_tumour()}, (1.0, 1.0, 5.0))
    assert [axes.get_aspect() for axes in figure.axes] == [1.0, 5.0, 5.0]


def test_montage_names_the_resection_cavity_only_where_there_is_one():
    def legend(classes):
        return [text.get_text() for text in figures.montage({"T1": scan()}, classes, {}).legends[0].get_texts()]

    cavity = a_tumour()
    cavity[30, 30, 20] = RC
    assert legend(a_tumour()) == ["WT", "TC", "ET"]
    assert legend(cavity) == ["WT", "TC", "ET", "RC"]


def test_montage_survives_scans_with_nan_and_maps_without_tumour():
    broken = scan()
    broken[5, 5, 5] = np.nan
    figures.as_png(figures.montage({"T1": broken}, None, {"T1": np.zeros(SHAPE, np.uint8)}))
    figures.as_png(figures.montage({"T1": np.zeros(SHAPE)}, np.zeros(SHAPE, np.uint8), {}))


def test_montage_without_a_fitting_scan_or_anything_to_show_is_refused():
    with pytest.raises(ModalityError, match="no scan to show under T2"):
        figures.montage({"T1": scan()}, None, {"T2": a_tumour()})
    with pytest.raises(ConfigurationError):
        figures.montage({"T1": scan()}, None, {})


def test_montage_of_a_real_case_is_a_picture(real_data):
    nibabel = pytest.importorskip("nibabel")
    files = sorted((real_data / "brats-gli-00000-000").glob("*-t1c.nii.gz"))
    if not files:
        pytest.skip("no case brats-gli-00000-000")
    volume = np.asarray(nibabel.load(files[0]).dataobj)
    png = figures.as_png(figures.montage({"T1c": volume}, None, {"T1c": a_tumour(volume.shape)}))
    assert png.startswith(b"\x89PNG")


def test_an_evaluation_without_scores_in_all_regions_says_so(tmp_path, evaluation):
    pd.DataFrame(
        [["a", "T1", "WT", "dice", 0.5, "scored"], ["a", "T2", "ET", "dice", 0.5, "scored"]],
        columns=["case", "subset", "region", "metric", "value", "status"],
    ).to_csv(evaluation / "scores.csv", index=False)
    assert "Dice: no subset has scores in all regions." in report(tmp_path, evaluation)
