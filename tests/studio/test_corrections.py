"""Label maps that a person has changed: their file, their record, earlier versions."""

import hashlib
import json
from urllib.parse import quote

import numpy as np
import pytest
from nibabel import Nifti1Image

from anymri.data.image import read_image
from prepare.raw_phantoms import raw_study
from studio.opened import opened, voxels

SHAPE = (40, 40, 40)


@pytest.fixture(scope="module")
def ready(page):
    return page.ready(page.entry("PHANTOM-00000-000"))


def painted(page, url, shape=SHAPE):
    """Return the label map at an address, in which one voxel is added and one is removed."""
    classes = np.frombuffer(voxels(page.get(url), shape), np.uint8).copy()
    classes[np.flatnonzero(classes == 0)[0]] = 3
    classes[np.flatnonzero(classes == 2)[0]] = 0
    return classes


def save(page, path, classes, author="Ada Ωmega", based_on={"label": "expert"}):  # noqa: B006
    headers = {"X-Author": quote(author), "X-Based-On": quote(json.dumps(based_on))}
    return page.post(f"{path}/correction", content=bytes(classes), headers=headers)


def test_correction_is_saved_in_the_geometry_of_the_scan_with_who_changed_what(page, ready, cohort):
    path, found = ready
    classes = painted(page, found["labels"][0]["url"])
    saved = save(page, path, classes).json()
    assert saved["changed_voxels"] == 2
    assert saved["by_class"] == {"ED": {"added": 0, "removed": 1}, "ET": {"added": 1, "removed": 0}}
    folder = page.studio.corrections / "PHANTOM-00000-000"
    image = read_image(folder / "corrected.nii.gz")
    scan = read_image(cohort / "PHANTOM-00000-000" / "PHANTOM-00000-000-t1c.nii.gz")
    assert np.array_equal(image.array, classes.reshape(SHAPE, order="F")) and np.array_equal(image.affine, scan.affine)
    record = json.loads((folder / "corrected.json").read_text())
    configuration = record["configuration"]
    assert configuration["author"] == "Ada Ωmega" and record["created"]
    assert configuration["sha256"] == hashlib.sha256(bytes(classes)).hexdigest()
    assert configuration["based_on"]["label"] == "expert" and len(configuration["based_on"]["sha256"]) == 64
    assert record["inputs"]["T1c"]["file"].startswith(str(cohort))


def test_corrected_label_map_is_shown_and_can_be_compared(page, ready):
    path, found = ready
    classes = painted(page, found["labels"][0]["url"])
    saved = save(page, path, classes).json()["label"]
    assert saved["title"] == "Corrected by Ada Ωmega"
    assert voxels(page.get(saved["url"]), SHAPE) == bytes(classes)
    assert [label["name"] for label in page.get(path).json()["labels"]] == ["expert", "corrected"]
    compared = page.post(f"{path}/compare", {"a": {"label": "expert"}, "b": {"label": "corrected"}}).json()
    assert 0.9 < compared["dice"]["WT"] < 1


def test_earlier_corrections_stay_under_a_number(page, ready):
    path, found = ready
    folder = page.studio.corrections / "PHANTOM-00000-000"
    before = len(list(folder.glob("*.nii.gz"))) if folder.exists() else 0
    for author in ("One", "Two"):
        assert save(page, path, painted(page, found["labels"][0]["url"]), author).status_code == 200
    assert len(list(folder.glob("*.nii.gz"))) == len(list(folder.glob("*.json"))) == before + 2
    authors = {json.loads(file.read_text())["configuration"]["author"] for file in folder.glob("*.json")}
    assert {"One", "Two"} <= authors
    assert json.loads((folder / "corrected.json").read_text())["configuration"]["author"] == "Two"


def test_correction_of_a_segmentation_names_its_weights(page, ready):
    path, _ = ready
    made = page.done(f"{path}/segment", {"weights": "plain", "subset": "T2"})
    classes = np.frombuffer(voxels(page.get(made["mask_url"]), SHAPE), np.uint8)
    based_on = {"weights": "plain", "subset": "T2"}
    assert save(page, path, classes, based_on=based_on).json()["changed_voxels"] == 0
    record = json.loads((page.studio.corrections / "PHANTOM-00000-000" / "corrected.json").read_text())
    assert record["configuration"]["based_on"].items() >= based_on.items()
    assert record["inputs"]["weights"]["file"].endswith("plain.safetensors")


@pytest.mark.parametrize(
    ("content", "author", "based_on", "word"),
    [
        (bytes(40**3 - 1), "Ada", None, "does not fit"),
        (bytes(40**3 + 1), "Ada", None, "bytes"),
        (b"\7" * 40**3, "Ada", None, "values up to 7"),
        (bytes(40**3), " \n ", None, "author"),
        (bytes(40**3), "Ada", {"label": "no"}, "label map"),
    ],
)
def test_corrections_that_do_not_fit_are_refused_and_not_saved(page, ready, content, author, based_on, word):
    path, _ = ready
    folder = page.studio.corrections / "PHANTOM-00000-000"
    before = sorted(folder.glob("*"))
    refused = save(page, path, content, author, based_on)
    assert refused.status_code in (400, 404, 413) and word in refused.json()["error"]["what"]
    assert sorted(folder.glob("*")) == before
    assert not list(page.studio.entries.folder.rglob("painted-*"))


def test_correction_is_opened_again_with_its_case(tmp_path, cohort, weights):
    case = cohort / "PHANTOM-00001-000"
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    with opened(tmp_path / "first", case, corrections=tmp_path / "corrections") as page:
        path, found = page.ready(page.entry(case.name))
        classes = painted(page, found["labels"][0]["url"])
        assert save(page, path, classes).status_code == 200
    with opened(tmp_path / "second", case, corrections=tmp_path / "corrections") as page:
        _, found = page.ready(page.entry(case.name))
        label = next(each for each in found["labels"] if each["name"] == "corrected")
        assert voxels(page.get(label["url"]), SHAPE) == bytes(classes)


def test_correction_of_prepared_scans_has_the_geometry_of_the_scan_as_found(page, tmp_path):
    raw_study(tmp_path / "thick", {"T1c": {}, "FLAIR": {"axes": "RSA", "step": (1, 2, 1)}})
    page.studio.entries.open(tmp_path / "thick")
    path, found = page.ready(page.entry("thick"))
    shape = Nifti1Image.from_bytes(page.get(found["volumes"][0]["url"]).content).shape
    classes = np.zeros(shape, np.uint8)
    classes[tuple(slice(side // 2 - 10, side // 2 + 10) for side in shape)] = 1
    saved = save(page, path, classes.tobytes(order="F"), based_on=None).json()
    image = read_image(page.studio.corrections / "thick" / "corrected.nii.gz")
    scan = next(read_image(file) for file in (tmp_path / "thick").iterdir() if "t1c" in file.name)
    assert image.shape == scan.shape and np.array_equal(image.affine, scan.affine) and image.array.any()
    assert saved["label"]["volumes_ml"]["WT"] == pytest.approx(8.0)


def test_folder_that_cannot_be_written_is_an_error_in_words(page, ready, tmp_path, monkeypatch):
    path, found = ready
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(page.studio, "corrections", tmp_path / "file")
    refused = save(page, path, painted(page, found["labels"][0]["url"]))
    assert refused.status_code == 400 and "cannot be written" in refused.json()["error"]["what"]
