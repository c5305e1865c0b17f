"""The page of several evaluations, and its pictures of cases, which are segmented again."""

import html
import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from anymri.analysis.comparison import read_comparison
from anymri.analysis.published import quote
from anymri.analysis.reading import read_evaluations
from anymri.cli.commands.report import make_report
from anymri.data.image import read_image, write_like
from anymri.errors import ConfigurationError, InputWarning
from anymri.evaluation.originals import Originals
from anymri.evaluation.runner import evaluate
from anymri.evaluation.scoring import score
from anymri.modalities import ALL, Subset
from anymri.report.examples import choose, examples
from anymri.report.pages import Examples, write_report
from anymri.report.text import seen_in_training
from anymri.synthesis.phantoms import write_cohort
from made_evaluations import write_evaluation
from untrained import write_weights


class Page(HTMLParser):
    """Parser that collects the attributes of tags and checks that tags are closed in order."""

    VOID = ("meta", "img", "wbr", "link", "br", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.opened, self.tags = [], []
        self.feed(text)
        assert not self.opened

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def named(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("systems")
    return [
        write_evaluation(folder / "a", "u_hved", seed=1),
        write_evaluation(folder / "b", "mmformer", 2, 0.05, 10, missing=[(0, "T1c")]),
        write_evaluation(folder / "c", "<b>mine</b>", 3, -0.05),
        write_evaluation(folder / "d", "unet_dropout", 4, -0.1, metrics=("dice", "assd")),
    ]


@pytest.fixture(scope="module")
def page(systems, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    shown = [Examples("Cases <1>", ["a & b"], {})]
    found = read_evaluations(systems)
    return write_report(file, "Four systems", found, examples=shown, quoted=[quote("m3ae-2020")]).read_text()


def test_the_page_of_several_systems_is_self_contained(page):
    parsed = Page(page)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    assert not re.search(r"url\(|@import|https?://|<b>", page)
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in parsed.named("img"))
    assert len(parsed.named("img")) == 4 + 3  # heat maps of the mean and three regions, and three other plots
    targets = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    assert all(link["href"].removeprefix("#") in targets for link in parsed.named("a"))
    assert len(parsed.named("a")) == len(targets) == 7


def test_the_page_says_which_cases_are_compared(page):
    assert "u_hved, mmformer, &lt;b&gt;mine&lt;/b&gt; and unet_dropout were evaluated on 10 cases with all 15" in page
    assert "u_hved has 2 cases that another system does not have; only the 10 common to all count here." in page
    assert "mmformer: case-00 has no T1c: 8 of 15 subsets not scored, and in no mean." in page
    assert "ASSD is not shown: only unet_dropout has it." in page
    assert "T1, T1c, T2, FLAIR of every case" in page and "1 necrotic core, 2 oedema, 3 enhancing" in page


def test_four_systems_and_a_published_one_have_one_table_per_region(page):
    captions = re.findall(r"<caption>([^.<]*)\.", page)
    assert captions[1:5] == [
        "Dice, mean of the subsets",
        "Dice, WT, by subset",
        "Dice, TC, by subset",
        "Dice, ET, by subset",
    ]
    assert page.count("m3ae-2020 is quoted, not measured") == 1
    assert "m3ae-2020 (quoted)" in page


def test_input_files_that_all_systems_have_are_listed_once_and_others_with_their_system(systems, page):
    texts = [json.loads(html.unescape(text)) for text in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]
    common, *others = texts
    assert page.count("Input files that all systems have in common") == 1 and len(others) == len(systems)
    for folder, text in zip(systems, others, strict=True):
        written = json.loads((folder / "provenance.json").read_text())
        assert not set(common) & set(text["inputs"])
        assert {**text, "inputs": {**text["inputs"], **common}} == written
    # The second system has 10 of the 12 cases, and one of them without T1c.
    assert len(common) == 10 * 5 - 1 and [len(text["inputs"]) for text in others] == [11, 0, 11, 11]


def test_figures_of_the_page_are_well_formed_whatever_a_system_is_called(page):
    images = [image["src"].partition(",") for image in Page(page).named("img")]
    assert {kind for kind, _, _ in images} == {"data:image/svg+xml"}
    figures = [ElementTree.fromstring(unquote_to_bytes(content)) for _, _, content in images]
    assert all(figure.tag.endswith("svg") for figure in figures)
    assert any("<b>mine</b>" in text for text in figures[0].itertext())


def test_the_page_names_the_best_and_the_worst_system(systems, page):
    means = {
        name: np.mean([each["mean", r] for r in ("WT", "TC", "ET")])
        for name, each in read_comparison(systems, "dice").means.items()
    }
    best, worst = max(means, key=means.get), min(means, key=means.get)
    assert f"from {100 * means[best]:.1f} ({best}) to {100 * means[worst]:.1f} ({worst})." in page


def test_the_page_warns_of_cases_seen_in_training(tmp_path):
    folder = write_evaluation(tmp_path / "a", "u_hved", cases=3)
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["configuration"]["weights"]["trained_on"] = ["case-00", "case-02"]
    (folder / "provenance.json").write_text(json.dumps(provenance))
    (sentence,) = seen_in_training(read_evaluations([folder]))
    assert sentence == "u_hved was trained on 2 of the cases that it is evaluated on: their metrics are not a test."


def test_the_worst_and_the_median_case_are_chosen(systems):
    chosen = choose(read_comparison(systems, "dice"))
    frames = [pd.read_csv(folder / "metrics.csv") for folder in systems]
    keys = ["case", "subset", "region"]
    values = [frame[frame["status"] == "scored"].set_index(keys)["value"] for frame in frames]
    common = values[1].index
    means = sum(each.loc[common].groupby("case").mean() for each in values).sort_values()
    assert [choice.case for choice in chosen] == [means.index[0], means.index[len(means) // 2]]
    assert f"{100 * means.iloc[0] / 4:.1f}" in chosen[0].words
    sizes = [[len(Subset.parse(name)) for name in choice.subsets] for choice in chosen]
    assert sizes == [[4, 3, 2, 1]] * 2
    worst = sum(each.loc[chosen[0].case].groupby("subset").mean() for each in values)
    assert worst[chosen[0].subsets[-1]] == min(worst[name] for name in ("T1", "T1c", "T2", "FLAIR"))


def test_the_worst_case_has_the_largest_distance(tmp_path):
    folder = write_evaluation(tmp_path / "a", metrics=("hd95",))
    values = pd.read_csv(folder / "metrics.csv").groupby("case")["value"].mean()
    assert choose(read_comparison([folder], "hd95"))[0].case == values.idxmax()


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A small cohort, an evaluation of weights and one of label maps (the truth, shifted by one voxel)."""
    folder = tmp_path_factory.mktemp("real")
    cohort = folder / "cohort"
    write_cohort(cohort, 2, size=32)
    weights = write_weights(folder / "w.safetensors", reconstruction=True)
    chosen = [ALL, Subset.parse("T1c")]
    evaluate(weights, cohort, folder / "weights", device="cpu", subsets=chosen, metrics=["dice"])
    for case in sorted(cohort.iterdir()):
        label = read_image(next(case.glob("*-seg.nii.gz")))
        for subset in chosen:
            path = folder / "masks" / str(subset) / f"{case.name}.nii.gz"
            write_like(path, np.roll(label.array, 1, 0).astype(np.uint8), label)
    score(folder / "masks", cohort, folder / "tool", "brats2023", metrics=["dice"], name="tool")
    return folder


def test_one_evaluation_shows_its_cases_segmented_again_and_reconstructed_scans(real):
    cases, reconstructed = examples(read_evaluations([real / "weights"]), Originals("cpu"))
    assert not cases.notes and len(cases.pictures) == 2
    metrics = pd.read_csv(real / "weights" / "metrics.csv").set_index(["case", "subset", "region"])["value"]
    for caption, figure in cases.pictures.items():
        case = caption.split(",")[0]
        titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
        assert [title.split("\n")[0] for title in titles] == ["truth", "T1+T1c+T2+FLAIR", "T1c"]
        for title in titles[1:]:  # what is drawn is what was evaluated
            subset = title.split("\n")[0]
            shown = " ".join(f"{r} {100 * metrics[case, subset, r]:.0f}" for r in ("WT", "TC", "ET"))
            assert title.endswith(f"Dice {shown}") or title.endswith("no tumour")
    (figure,) = reconstructed.pictures.values()
    assert [axes.get_title().split("\n")[0] for axes in figure.axes[:4]] == ["T1", "T1c", "T2", "FLAIR"]
    true, made, difference = (figure.axes[row * 4].images[0].get_array() for row in range(3))
    inside = difference != 0
    np.testing.assert_allclose((made - true)[inside], difference[inside], atol=1e-5)


def test_weights_and_label_maps_of_another_tool_are_shown_side_by_side(real):
    evaluations = read_evaluations([real / "tool", real / "weights"])
    cases, _ = examples(evaluations, Originals("cpu"))
    assert not cases.notes and len(cases.pictures) == 4  # two cases, with the most and the fewest modalities
    for figure in cases.pictures.values():
        names = [axes.get_title().split("\n")[0] for axes in figure.axes if axes.get_title()]
        assert names == ["truth", "tool", "u_hved"]


def test_a_sentence_replaces_pictures_of_files_that_have_changed_or_do_not_exist(real, tmp_path):
    copied = shutil.copytree(real / "weights", tmp_path / "weights")
    provenance = json.loads((copied / "provenance.json").read_text())
    provenance["inputs"]["weights"]["sha256"] = "0" * 64
    (copied / "provenance.json").write_text(json.dumps(provenance))
    (cases,) = examples(read_evaluations([copied]), Originals("cpu"))
    assert not cases.pictures
    assert cases.notes == [
        f"Pictures of u_hved are missing: {real / 'w.safetensors'} has changed since the evaluation."
    ]
    for entry in provenance["inputs"].values():
        entry["file"] = entry["file"].replace(str(real), str(tmp_path / "moved"))
    (copied / "provenance.json").write_text(json.dumps(provenance))
    (cases,) = examples(read_evaluations([copied]), Originals("cpu"))
    assert not cases.pictures and len(cases.notes) == 2
    assert all("does not exist any more" in note for note in cases.notes)


def test_systems_evaluated_on_different_labels_are_not_shown_together(real, tmp_path):
    copied = shutil.copytree(real / "weights", tmp_path / "weights")
    text = (copied / "provenance.json").read_text()
    provenance = json.loads(text)
    for what, entry in provenance["inputs"].items():
        if what.endswith("label"):
            entry["sha256"] = "1" * 64
    (copied / "provenance.json").write_text(json.dumps(provenance))
    with pytest.warns(InputWarning, match="different label maps of"):
        found = read_evaluations([copied, real / "tool"])
    (cases,) = examples(found, Originals("cpu"))
    assert not cases.pictures and all("label maps that differ" in note for note in cases.notes)


def test_a_report_is_written_into_its_evaluation_or_to_a_named_file(systems, tmp_path):
    copied = shutil.copytree(systems[0], tmp_path / "a")
    rows = pd.read_csv(copied / "metrics.csv")
    rows[rows["subset"] == "T1"].to_csv(copied / "metrics.csv", index=False)  # the page of one subset has few plots
    assert make_report([copied], None, None, [], False, "cpu") == copied / "report.html"
    with pytest.raises(ConfigurationError, match="needs the name of its file"):
        make_report(systems[:2], None, None, [], False, "cpu")
    assert not (systems[0] / "report.html").exists()
