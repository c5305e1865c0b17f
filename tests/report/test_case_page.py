"""The picture and the page of one case: content, geometry, privacy."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from anymri.data.image import read_image
from anymri.data.layouts import find_cases
from anymri.errors import RunError
from anymri.inference.result import Result
from anymri.inference.result_files import ADDED, FILES
from anymri.modalities import SUBSETS, Subset
from anymri.provenance import hashed
from anymri.regions import ED, ET, RC, region_mask
from anymri.report.case_montage import CONVENTION, case_montage, write_preview
from anymri.report.case_page import dice_by_subset, write_case_page
from anymri.report.case_text import limits
from anymri.report.redaction import without_folders
from anymri.synthesis.phantoms import write_cohort
from made_evaluations import write_evaluation
from untrained import card, write_weights

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (40, 50, 30)
STEP = {
    "scan": "FLAIR",
    "what": "registration",
    "why": "The FLAIR scan was moved onto the T1c scan.",
    "figures": {"residual_mm": 0.25, "overlap": 0.94},
    "seconds": 12.5,
}


def a_scan():
    scan = np.zeros(SHAPE, np.float32)
    scan[3:-3, 3:-3, 3:-3] = np.random.default_rng(0).uniform(1, 100, [n - 6 for n in SHAPE])
    return scan


def a_tumour():
    """Return classes of a tumour with oedema, whose largest axial slice is 14."""
    classes = np.zeros(SHAPE, np.uint8)
    classes[8:24, 9:29, 10:18] = ED
    classes[10:22, 11:25, 12:16] = ET
    classes[10:23, 11:25, 14] = ET
    classes[5:26, 12:28, 14] |= (classes[5:26, 12:28, 14] == 0) * np.uint8(ED)
    return classes


class Page(HTMLParser):
    """Parser that checks that tags are closed in order, and collects them with the text that a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.opened, self.tags, self.words, self.ids = [], [], [], []
        self.feed(text)
        assert not self.opened

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in ("meta", "img", "wbr"):
            self.opened.append(tag)

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_data(self, data):
        if self.opened and self.opened[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def seen(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a result from T1c and FLAIR of a case that has T1 too, with everything a page can show."""
    home = tmp_path / "Jane Doe 1950-01-01"
    case = find_cases(write_cohort(home, 1, size=48)[0])[0]
    case = replace(case, scans={m: case.scans[m] for m in ("T1", "T1c", "FLAIR")}, label=None)
    reference = read_image(case.scans["T1c"])
    label = next(reference.path.parent.glob("*-seg.nii.gz"))
    classes = read_image(label).array.astype(np.uint8)
    probabilities = np.stack([region_mask(classes, region) for region in ("WT", "TC", "ET")]).astype(np.float16)
    result = Result(
        classes=classes,
        subset=Subset.parse("T1c+FLAIR"),
        reference=reference,
        case=case,
        card=card(trained_on=["CASE-1", "CASE-2"]),
        inputs=hashed(case.files()),
        device="cpu",
        probabilities=probabilities,
    )
    table = {str(subset): {"WT": 0.5, "ET": 0.2 * len(subset)} for subset in SUBSETS}
    result.save(tmp_path / "out", dice_by_subset=table)
    return tmp_path / "out"


def changed(folder, name, **values):
    """Change values of a JSON file of a result."""
    content = json.loads((folder / name).read_text())
    for key, value in values.items():
        place = content
        *parents, last = key.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    (folder / name).write_text(json.dumps(content))
    return content


def test_the_page_begins_with_what_was_found(folder):
    measured = json.loads((folder / "measurements.json").read_text())
    page = Page(write_case_page(folder).read_text())
    regions, (largest, *_) = measured["regions"], measured["regions"]["ET"]["lesions"]
    for text in (
        "For research, not for diagnosis.",
        f"A tumour of {regions['WT']['volume_ml']:.1f} mL with its oedema was found",
        "from T1c and FLAIR",
        f"{largest['longest_mm']:.0f} x {largest['perpendicular_mm']:.0f} mm",
    ):
        assert text in page.seen
        assert page.seen.index(text) < page.seen.index("Whole tumour, with oedema (WT)") < page.seen.index("Scans")
    assert page.ids == ["lesions", "scans", "preparation", "limits", "provenance"]


def test_the_page_says_what_is_missing_and_what_it_would_bring(folder):
    seen = Page(write_case_page(folder).read_text()).seen
    assert "T1 given, not used T1c used T2 missing FLAIR used" in seen
    assert "with T2 +0.0 (50.0 to 50.0) +20.0 (40.0 to 60.0)" in seen
    assert "on the data on which the weights were evaluated" in seen
    changed(folder, "measurements.json", expected_dice=None)
    seen = Page(write_case_page(folder).read_text()).seen
    assert "T1 and T2 were not used. No evaluation of the weights is at hand" in seen and "with T2" not in seen


def test_the_page_lists_the_steps_of_the_preparation(folder):
    assert "Nothing: the scans were used as they are" in write_case_page(folder).read_text()
    changed(folder, "provenance.json", configuration__preparation=[STEP])
    seen = Page(write_case_page(folder).read_text()).seen
    assert "FLAIR, registration : The FLAIR scan was moved onto the T1c scan." in seen
    assert "(residual 0.25 mm, overlap 0.94)" in seen and "Preparation 12 s" in seen


def test_the_page_of_a_case_without_tumour_says_so_and_does_not_exclude_one(folder):
    empty = {"volume_ml": 0.0, "side": None, "lesions": [], "small_lesions": 0}
    changed(folder, "measurements.json", regions=dict.fromkeys(("WT", "TC", "ET"), empty))
    page = Page(write_case_page(folder).read_text())
    assert "No tumour was found in T1c and FLAIR. This does not exclude a tumour" in page.seen
    assert "lesions" not in page.ids


@pytest.mark.parametrize(("volume", "text"), [(0.004, "Of it, less than 0.01 mL is"), (0.0, "No part of it was found")])
def test_the_page_does_not_round_a_little_enhancement_to_none(folder, volume, text):
    little = {"volume_ml": volume, "side": "left", "lesions": [], "small_lesions": 1, "small_lesions_ml": volume}
    found = json.loads((folder / "measurements.json").read_text())["regions"]["ET"]
    changed(folder, "measurements.json", regions__ET=found | little)
    seen = Page(write_case_page(folder).read_text()).seen
    assert text in seen


@pytest.mark.parametrize("measurable", [True, False])
def test_the_page_says_that_a_lesion_is_not_measurable(folder, measurable):
    lesions = json.loads((folder / "measurements.json").read_text())["regions"]["ET"]["lesions"]
    changed(folder, "measurements.json", regions__ET__lesions=[lesions[0] | {"measurable": measurable}])
    seen = Page(write_case_page(folder).read_text()).seen
    assert ("cm², not measurable by that rule." in seen) != measurable


def test_the_page_warns_that_enhancement_is_an_estimate_without_t1c(folder):
    assert "an estimate from the other scans" not in write_case_page(folder).read_text()
    changed(folder, "measurements.json", modalities=["FLAIR"])
    assert "an estimate from the other scans" in write_case_page(folder).read_text()


def test_the_page_shows_no_names_of_files_folders_or_training_cases(folder):
    inputs = json.loads((folder / "provenance.json").read_text())["inputs"]
    file = inputs["T1c"]["file"]
    assert "Jane Doe" in file
    home, _, name = file.rpartition("/")
    step = STEP | {"why": f"{file} was moved."}
    changed(
        folder, "provenance.json", configuration__preparation=[step], configuration__weights__origin=f"run at {file}"
    )
    page = write_case_page(folder, warnings=[f"{file} has thick slices.", f"{name} is old.", f"{home}/x is new."])
    text = page.read_text()
    for name in ("Jane", "Doe", "1950", "nii.gz", "CASE-1", "/", str(folder)):
        assert name not in Page(text).seen, name
    assert "Jane" not in text and "The T1c file has thick slices." in text and "The T1c file is old." in text
    assert inputs["T1c"]["sha256"][:12] in text and "on 2 cases" in text


@pytest.mark.parametrize(
    ("file", "name"),
    [("/home/jane/weights/mine.safetensors", "mine"), ("/home/jane/run7/checkpoints/best.safetensors", "run7")],
)
def test_the_page_names_the_weights(folder, file, name):
    changed(folder, "provenance.json", inputs__weights={"file": file, "sha256": "0" * 64})
    seen = Page(write_case_page(folder).read_text()).seen
    assert f"Weights {name} Origin" in " ".join(seen.split()) and "jane" not in seen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/jane/t1.nii is thick.", "a file is thick."),
        (r"C:\Users\jane\t1.nii is thick.", "a file is thick."),
        ("'/home/jane/t1.nii' and (/a/b).", "'a file' and (a file)."),
        ("5 mm/voxel and T1/T2 of the brain", "5 mm/voxel and T1/T2 of the brain"),
        ("/home/jane/study: series 4 is tilted.", "a file: series 4 is tilted."),
        ("/data/Jane Doe/x/new.nii and Doe_1.", "a file and the T1 file."),
        ("Jane Doe-t2f.nii.gz is left out, because of an option.", "a file is left out, because of an option."),
        (
            "Not sure: Jane Doe.nii.gz (T1 with confidence 0.63), Doe.mgz.",
            "Not sure: a file (T1 with confidence 0.63), a file.",
        ),
        ("Not used are links that point nowhere: 2 (Jane, (Doe) x).", "Not used are links that point nowhere: 2."),
    ],
)
def test_paths_are_removed_from_sentences(text, expected):
    inputs = {"T1": {"file": "/data/Jane Doe/x/Doe_1"}, "T2": {"file": "/data/Jane Doe/x/brain"}}
    assert without_folders(text, inputs) == expected


def test_the_page_is_self_contained_and_escapes_names(folder):
    changed(folder, "measurements.json", case="<script>alert(1)</script>")
    classes = a_tumour()
    figure = case_montage({"T1c": a_scan()}, classes, LPS)
    text = write_case_page(folder, figure, ["<b>bold</b>"]).read_text()
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "b"} & {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import|https?://", text)
    (image,) = (attributes for tag, attributes in page.tags if tag == "img")
    assert image["src"].startswith("data:image/png;base64,") and image["alt"]
    assert {"warnings", "picture"} <= set(page.ids) and len(text) < 3_000_000


@pytest.mark.parametrize("name", ["measurements.json", "provenance.json"])
def test_a_folder_that_is_not_a_result_is_refused(folder, name):
    (folder / name).write_text("{}")
    with pytest.raises(RunError, match=name):
        write_case_page(folder)
    (folder / name).unlink()
    with pytest.raises(RunError, match="does not contain"):
        write_case_page(folder)


def test_the_table_of_an_evaluation_has_its_means(tmp_path):
    evaluation = write_evaluation(tmp_path / "eval", "u_hved", seed=1)
    table = dice_by_subset(evaluation)
    assert set(table) == set(map(str, SUBSETS)) and set(table["T1"]) == {"WT", "TC", "ET"}
    rows = [line.split(",") for line in (evaluation / "metrics.csv").read_text().splitlines()]
    head = rows[0]
    values = [
        float(row[head.index("value")])
        for row in rows[1:]
        if (row[head.index("subset")], row[head.index("region")], row[head.index("metric")]) == ("T1", "ET", "dice")
    ]
    assert table["T1"]["ET"] == pytest.approx(np.mean(values))


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def legend(figure):
    (only,) = figure.legends
    return only.get_title().get_text(), [text.get_text() for text in only.get_texts()]


def test_the_picture_has_a_column_per_modality_and_marks_missing_and_unused_ones():
    figure = case_montage({"T1": a_scan(), "T1c": a_scan()}, a_tumour(), LPS, used=Subset.parse("T1c"))
    assert titles(figure) == ["T1 (not used)", "T1c", "T2 (missing)", "FLAIR (missing)"]
    shown = [len(axes.images) for axes in figure.axes]
    assert shown == [1, 1, 0, 0] * 3  # rows: axial, coronal, sagittal
    assert all(
        axes.texts[0].get_text() == "not given" for axes, images in zip(figure.axes, shown, strict=True) if not images
    )
    heading, _ = legend(figure)
    assert heading == CONVENTION


def test_the_picture_keeps_the_proportions_of_thick_slices():
    figure = case_montage({"T1": a_scan()}, a_tumour(), np.diag([-1.0, -2.0, 5.0, 1.0]))
    aspects = [axes.get_aspect() for axes in figure.axes[::4]]
    assert aspects == [2.0, 5.0, 2.5]


@pytest.mark.parametrize("axes", ["RAS", "ASR"])
def test_the_picture_does_not_depend_on_the_stored_orientation(axes):
    def stored(array):
        return apply_orientation(array, change)

    change = ornt_transform(io_orientation(LPS), axcodes2ornt(axes))
    affine = LPS @ inv_ornt_aff(change, SHAPE)
    expected = case_montage({"T1": a_scan()}, a_tumour(), LPS)
    found = case_montage({"T1": stored(a_scan())}, stored(a_tumour()), affine)
    for one, other in zip(expected.axes, found.axes, strict=True):
        for image, same in zip(one.images, other.images, strict=True):
            np.testing.assert_array_equal(image.get_array(), same.get_array())


def test_the_axial_slice_of_the_picture_is_that_of_the_diameters_and_shows_them_on_t1c():
    ends = [[[-10.0, -12.0, 16.0], [-20.0, -20.0, 16.0]]]
    scans = {"T1c": a_scan(), "FLAIR": a_scan()}
    figure = case_montage(scans, a_tumour(), LPS, diameters_mm=ends)
    axial_t1c, axial_flair = figure.axes[1], figure.axes[3]
    box = np.nonzero(a_scan())
    start = [max(int(axis.min()) - 6, 0) for axis in box]
    np.testing.assert_array_equal(axial_t1c.images[0].get_array(), a_scan()[start[0] :, start[1] :, 16].T)
    (line,) = [line for line in axial_t1c.lines if len(line.get_xdata()) == 2 and line.get_marker() == "|"]
    np.testing.assert_allclose(np.array(line.get_xydata()), [[10, 12], [20, 20]] - np.array(start[:2]))
    assert not [line for line in axial_flair.lines if line.get_marker() == "|"]
    assert "largest diameters" in legend(figure)[1]


def test_the_picture_says_that_there_is_no_tumour():
    figure = case_montage({"FLAIR": a_scan()}, np.zeros(SHAPE, np.uint8), LPS)
    assert legend(figure)[0].startswith("No tumour was found.")


def test_the_picture_names_the_resection_cavity_only_where_there_is_one():
    classes = a_tumour()
    assert len(legend(case_montage({"T1": a_scan()}, classes, LPS))[1]) == 3
    classes[30:35, 30:35, 14] = RC
    assert "RC, resection cavity" in legend(case_montage({"T1": a_scan()}, classes, LPS))[1]


def test_the_picture_is_written_as_png_with_a_name_that_a_new_result_replaces(tmp_path):
    path = write_preview(tmp_path, case_montage({"T1": a_scan()}, a_tumour(), LPS))
    assert path.read_bytes().startswith(b"\x89PNG") and path.name in ADDED


@pytest.mark.acceptance
def test_the_page_of_a_real_case_is_read_in_one_file_below_3_mb(real_data, tmp_path):
    source = real_data / "brats-gli-00000-000"
    if not source.is_dir():
        pytest.skip("no case brats-gli-00000-000")
    (case,) = find_cases(source)
    reference = read_image(case.scans["T1c"])
    classes = read_image(case.label).array.astype(np.uint8)
    result = Result(classes, case.subset, reference, case, card(), hashed(case.files()), "cpu")
    result.save(tmp_path)
    lines = result.measurements.largest_diameters_mm
    picture = case_montage(result.scans(), classes, reference.affine, result.subset, lines)
    text = write_case_page(tmp_path, picture).read_text()
    assert "A tumour of 57.3 mL with its oedema was found on the left" in text and len(text) < 3_000_000


def test_the_example_of_the_documentation_runs(tmp_path, monkeypatch):
    document = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    (tmp_path / "CASE").symlink_to(write_cohort(tmp_path / "cohort", 1, size=48)[0])
    (tmp_path / "RUN" / "checkpoints").mkdir(parents=True)
    write_weights(tmp_path / "RUN" / "checkpoints" / "best.safetensors")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/results.md", "exec"), {})
    written = {path.name for path in (tmp_path / "OUT").iterdir()}
    assert {"case.html", "preview.png", "labels.ctbl", "statistics.json", "measurements.json"} <= written
    files = set(re.findall(r"`([a-zA-Z0-9-]+\.(?:json|csv|nii\.gz|png|html|ctbl|txt))`", document))
    assert files <= set(FILES)


def test_limits_say_that_a_network_saw_synthetic_images_only():
    card = {"synthetic_only": True, "trained_on": ["generator 4, seed 0, cases 0 to 549"]}
    (first, *_) = limits({"missing": []}, {"configuration": {"weights": card}})
    assert "on synthetic images only, never on a patient" in first and "1 case" not in first
