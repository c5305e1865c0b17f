"""Cases from files to segmentations, through the addresses that the page uses."""

import io
import json
import zipfile

import numpy as np
import pytest

from anymri.data.image import read_image
from anymri.inference import load
from anymri.modalities import SUBSETS
from anymri.regions import region_mask
from anymri.synthesis.phantoms import phantom
from prepare.raw_phantoms import raw_study, write_dicom, write_scan
from studio.opened import opened, voxels

SHAPE = (40, 40, 40)
FULL = "T1+T1c+T2+FLAIR"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def ready(page):
    """Address and description of the first case, prepared."""
    return page.ready(page.entry("PHANTOM-00000-000"))


def labels(page, url):
    return np.frombuffer(voxels(page.get(url), SHAPE), np.uint8).reshape(SHAPE, order="F")


def test_state_lists_what_is_open_and_the_weights(page):
    state = page.get("/api/state").json()
    assert [entry["name"] for entry in state["entries"]][:3] == [f"PHANTOM-0000{i}-000" for i in range(3)]
    assert [(each["name"], each["reconstructs"]) for each in state["weights"]] == [("plain", False), ("making", True)]
    assert state["weights_in_use"] == "plain" and state["problem"] is None


def test_scans_and_expert_label_arrive_as_they_are_in_their_files(page, ready, cohort):
    _, found = ready
    assert [(each["name"], each["kind"]) for each in found["volumes"]] == [
        (name, "scan") for name in ("T1", "T1c", "T2", "FLAIR")
    ]
    response = page.get(found["volumes"][3]["url"])
    assert response.headers["cache-control"] == "no-store"
    scan = np.frombuffer(voxels(response, (*SHAPE, 2)), np.int16).reshape(SHAPE, order="F")
    file = cohort / "PHANTOM-00000-000" / "PHANTOM-00000-000-t2f.nii.gz"
    assert np.array_equal(scan, read_image(file).array)
    low, high = found["volumes"][3]["window"]
    assert scan.min() <= low < high <= scan.max()
    (label,) = found["labels"]
    expert = read_image(cohort / "PHANTOM-00000-000" / "PHANTOM-00000-000-seg.nii.gz").array
    assert label["name"] == "expert" and np.array_equal(labels(page, label["url"]), expert)
    assert label["volumes_ml"]["WT"] == pytest.approx(np.count_nonzero(expert) / 1000)


@pytest.mark.parametrize("subset", [FULL, "T1c+FLAIR", "T2"])
def test_segmentations_and_volumes_are_those_of_the_python_interface(page, ready, weights, cohort, subset):
    path, _ = ready
    made = page.done(f"{path}/segment", {"weights": "plain", "subset": subset})
    result = load(weights["plain"], "cpu").segment(cohort / "PHANTOM-00000-000", subset, probabilities=True)
    assert np.array_equal(labels(page, made["mask_url"]), result.classes)
    assert made["volumes_ml"] == {region: result.volumes_ml[region] for region in ("WT", "TC", "ET")}
    measured = result.measurements.regions
    for region, certain in made["confidence"].items():
        uncertain = measured[region].uncertain
        assert certain is None if uncertain is None else certain == pytest.approx(1 - uncertain, abs=1e-3)
    share = np.frombuffer(voxels(page.get(made["probability_urls"]["WT"]), SHAPE), np.uint8).reshape(SHAPE, order="F")
    assert np.abs(share / 255 - result.probabilities[0]).max() < 0.005
    assert page.get(made["uncertainty_url"]).status_code == 200


def test_change_is_against_the_segmentation_of_all_scans(page, ready):
    path, _ = ready
    full = labels(page, page.done(f"{path}/segment", {"weights": "plain", "subset": FULL})["mask_url"])
    made = page.done(f"{path}/segment", {"weights": "plain", "subset": "T1"})
    before, after = region_mask(full, "WT"), region_mask(labels(page, made["mask_url"]), "WT")
    change = labels(page, made["change_url"])
    assert np.array_equal(change == 1, before & after)
    assert np.array_equal(change == 2, after & ~before) and np.array_equal(change == 3, before & ~after)
    assert made["compared_with_full"]["WT"] == {
        "added_ml": pytest.approx(np.count_nonzero(change == 2) / 1000),
        "lost_ml": pytest.approx(np.count_nonzero(change == 3) / 1000),
    }
    assert (change > 1).any() and set(made["dice"]) == {"WT", "TC", "ET"}


def test_missing_scans_are_reconstructed_where_the_weights_can(page, ready):
    path, _ = ready
    made = page.done(f"{path}/segment", {"weights": "making", "subset": "T1+T2"})
    assert [(each["name"], each["kind"]) for each in made["reconstructed"]] == [
        ("T1c", "reconstructed"),
        ("FLAIR", "reconstructed"),
    ]
    assert all(page.get(each["url"]).status_code == 200 for each in made["reconstructed"])
    assert page.done(f"{path}/segment", {"weights": "plain", "subset": "T1+T2"})["reconstructed"] == []


def test_all_subsets_are_computed_and_each_has_a_modality_that_matters_most(page, ready):
    path, _ = ready
    job = page.finished(f"{path}/subsets", {"weights": "plain"})
    assert job["state"] == "done", job
    found = page.get(f"{path}/subsets", params={"weights": "plain"}).json()
    assert [row["subset"] for row in found["subsets"]] == [str(subset) for subset in SUBSETS]
    assert all(row["state"] == "done" and row["wt_ml"] >= 0 and row["dice"] for row in found["subsets"])
    assert found["matters_most"].keys() == {str(subset) for subset in SUBSETS}
    assert all(modality in subset for subset, modality in found["matters_most"].items())
    agreement = found["agreement"][FULL]
    assert found["matters_most"][FULL] == min(agreement, key=agreement.get)


def test_two_label_maps_are_compared_voxel_by_voxel(page, ready):
    path, found = ready
    made = page.done(f"{path}/segment", {"weights": "plain", "subset": "T2"})
    pair = {"a": {"label": "expert"}, "b": {"weights": "plain", "subset": "T2"}}
    compared = page.post(f"{path}/compare", pair).json()
    expert, other = (region_mask(labels(page, url), "WT") for url in (found["labels"][0]["url"], made["mask_url"]))
    where = labels(page, compared["disagreement_url"])
    assert np.array_equal(where == 2, expert & ~other) and np.array_equal(where == 3, other & ~expert)
    assert compared["dice"] == made["dice"]
    assert compared["volumes_ml"]["b"] == made["volumes_ml"]
    assert page.post(f"{path}/compare", {"a": {"label": "no"}, "b": None}).status_code == 404


def test_result_as_zip_is_what_the_command_writes(page, ready, weights, cohort, tmp_path):
    path, _ = ready
    chosen = {"weights": "plain", "subset": "T1c+FLAIR"}
    response = page.get(f"{path}/result.zip", params=chosen)
    assert "attachment" in response.headers["content-disposition"]
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    archive.extractall(tmp_path)
    folder = tmp_path / "PHANTOM-00000-000"
    result = load(weights["plain"], "cpu").segment(cohort / folder.name, "T1c+FLAIR", tmp_path / "own")
    assert np.array_equal(read_image(folder / "segmentation.nii.gz").array, result.classes)
    measured = json.loads((folder / "measurements.json").read_text())
    assert measured["regions"]["WT"]["volume_ml"] == pytest.approx(result.volumes_ml["WT"])
    assert json.loads((folder / "provenance.json").read_text())["inputs"]["T1c"]["file"].startswith(str(cohort))
    report = page.get(f"{path}/report.html", params=chosen)
    assert "script" not in report.headers["content-security-policy"] and "PHANTOM-00000-000" in report.text


def test_subsets_and_weights_that_do_not_exist_are_refused(page, ready):
    path, _ = ready
    for request, word in (
        ({"weights": "other", "subset": FULL}, "other"),
        ({"weights": {}, "subset": FULL}, "weights"),
        ({"weights": "plain", "subset": "T7"}, "T7"),
        ({"weights": "plain"}, "modality"),
    ):
        refused = page.post(f"{path}/segment", request)
        assert refused.status_code in (400, 404) and word in refused.json()["error"]["what"]
    assert page.post(f"{path}/segment", content=b"[1]").status_code == 400
    assert page.post(f"{path}/segment", content=b"[" * 10_000).status_code == 400
    assert page.post(f"{path}/segment", content=b" " * 2_000_000).status_code == 413


def test_nothing_is_segmented_before_the_case_is_prepared(page):
    path = f"/api/cases/{page.entry('PHANTOM-00002-000')['id']}"
    assert "not prepared" in page.post(f"{path}/segment", {"weights": "plain", "subset": "T1"}).json()["error"]["what"]


def test_scans_are_assigned_by_hand_before_they_are_prepared(page, tmp_path):
    images = phantom(1, 40).images
    folder = tmp_path / "unclear"
    for name, modality in (("one", "T1c"), ("two", "FLAIR"), ("three", "T2")):
        write_scan(folder, modality, images[modality], LPS).rename(folder / f"{name}.nii.gz")
    page.studio.entries.open(folder)
    path = f"/api/cases/{page.entry('unclear')['id']}"
    found = page.done(f"{path}/examine")
    files = {scan["name"]: scan["file"] for scan in found["scans"]}
    assert files.keys() == {"one.nii.gz", "two.nii.gz", "three.nii.gz"}
    both = page.post(f"{path}/assignment", {files["one.nii.gz"]: "T1c", files["two.nii.gz"]: "T1c"})
    assert both.status_code == 400 and "both T1c" in both.json()["error"]["what"]
    chosen = {files["one.nii.gz"]: "T1c", files["two.nii.gz"]: "FLAIR", files["three.nii.gz"]: None}
    assigned = page.post(f"{path}/assignment", chosen).json()
    assert {scan["name"]: (scan["modality"], scan["why"]) for scan in assigned["scans"]}["one.nii.gz"][0] == "T1c"
    made = page.done(f"{path}/prepare")
    assert [volume["name"] for volume in made["volumes"]] == ["T1c", "FLAIR"] and made["entry"]["name"] == "unclear"
    assert page.post(f"{path}/assignment", {files["one.nii.gz"]: "T9"}).status_code == 400


def test_raw_scans_on_several_grids_are_prepared_and_segmented(page, tmp_path):
    raw_study(tmp_path / "raw", {"T1c": {}, "FLAIR": {"axes": "RSA", "step": (1, 2, 1)}})
    page.studio.entries.open(tmp_path / "raw")
    path, found = page.ready(page.entry("raw"))
    assert any("different grids" in step for step in found["plan"]), found["plan"]
    made = page.done(f"{path}/segment", {"weights": "plain", "subset": "T1c+FLAIR"})
    sizes = {len(page.get(each["url"]).content) for each in found["volumes"]}
    assert len(sizes) == 1 and len(page.get(made["mask_url"]).content) - 352 == (sizes.pop() - 352) // 2
    assert page.get(f"{path}/result.zip", params={"weights": "plain", "subset": "T1c+FLAIR"}).status_code == 200


def test_dicom_in_a_zip_is_recognised_and_segmented(page, tmp_path):
    for modality in ("T1c", "FLAIR"):
        write_dicom(tmp_path / "dicom" / modality, modality)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for file in sorted((tmp_path / "dicom").rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(tmp_path))
    entry = page.upload(("study.zip", stream.getvalue())).json()["entry"]
    path, found = page.ready(entry)
    assert [scan["modality"] for scan in found["scans"]] == ["T1c", "FLAIR"]
    made = page.done(f"{path}/segment", {"weights": "plain", "subset": "T1c"})
    assert made["volumes_ml"].keys() == {"WT", "TC", "ET"}
    archive = zipfile.ZipFile(io.BytesIO(page.get(f"{path}/result.zip", params=_t1c()).content))
    record = json.loads(archive.read("dicom/provenance.json"))
    assert "/" not in record["inputs"]["T1c"]["file"]  # the copy in the temporary folder is nowhere named


def _t1c():
    return {"weights": "plain", "subset": "T1c"}


def test_a_result_is_opened_with_its_scans_and_its_label_map(page, weights, cohort, tmp_path):
    result = load(weights["plain"], "cpu").segment(cohort / "PHANTOM-00001-000", output=tmp_path / "result")
    page.studio.entries.open(tmp_path / "result")
    _, found = page.ready(page.entry("result"))
    saved = next(label for label in found["labels"] if label["name"] == "saved")
    assert np.array_equal(labels(page, saved["url"]), result.classes)
    assert saved["volumes_ml"]["WT"] == pytest.approx(result.volumes_ml["WT"])


def test_scans_that_changed_after_they_were_opened_are_not_segmented(page, cohort, tmp_path):
    images = phantom(1, 40).images
    for modality in ("T1c", "FLAIR"):
        write_scan(tmp_path / "moving", modality, images[modality], LPS)
    page.studio.entries.open(tmp_path / "moving")
    path, _ = page.ready(page.entry("moving"))
    write_scan(tmp_path / "moving", "T1c", images["T2"], LPS)
    for name in ("PHANTOM-00000-000", "PHANTOM-00001-000"):  # so that the case is not in memory any more
        page.ready(page.entry(name))
    job = page.finished(f"{path}/segment", {"weights": "plain", "subset": "T1c"})
    assert job["state"] == "failed" and "changed" in job["error"]["what"]


def test_closing_a_case_removes_its_files_and_no_file_of_the_user(page, cohort, tmp_path):
    images = phantom(1, 40).images
    write_scan(tmp_path / "closing", "T1c", images["T1c"], LPS)
    page.studio.entries.open(tmp_path / "closing")
    entry = page.entry("closing")
    path, found = page.ready(entry)
    folder = page.studio.entries.folder / entry["id"]
    assert folder.is_dir() and page.delete(path).status_code == 200
    assert page.get(path).status_code == 404 and page.get(found["volumes"][0]["url"]).status_code == 404
    page.done(f"/api/cases/{page.entry('PHANTOM-00002-000')['id']}/examine")  # after what closing does
    assert not folder.exists() and len(list((tmp_path / "closing").iterdir())) == 1


def test_addresses_lead_to_no_other_file(page, ready, tmp_path):
    path, found = ready
    for name in (
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/x",
        "%2Fetc%2Fpasswd",
        "T1.nii%00",
        "T1.nii/",
        "\uff0e\uff0e/T1.nii",
        "t1.nii",
        "T1",
    ):
        for start in (f"{path}/files/", "/assets/", "/assets/../", "/"):
            assert page.get(start + name).status_code in (400, 404, 405), start + name
    assert page.get(found["volumes"][0]["url"]).status_code == 200


def test_what_is_not_a_scan_is_explained_without_the_command_line(page):
    import gzip

    for name, content in (
        ("notes.txt", b"hello"),
        ("photo.nii.gz", b"\x89PNG not a scan"),
        ("empty.nii", b""),
        ("t1c.nii.gz", gzip.compress(b"x" * 400)),
        ("t1c.nrrd", b"NRRD0004\n"),
        ("scan.dcm", b"\0" * 128 + b"DICM" + b"junk"),
    ):
        entry = page.upload((name, content)).json()["entry"]
        found = page.done(f"/api/cases/{entry['id']}/examine")
        assert found["entry"]["state"] == "failed", name
        error = found["entry"]["error"]
        assert error["what"] and error["fix"], name
        for text in (error["what"], error["fix"], *(each["text"] + each["advice"] for each in found["findings"])):
            assert "--" not in text and str(page.studio.entries.folder) not in text and "manifest" not in text, text


def test_scans_of_different_patients_are_refused_in_words(page, tmp_path):
    write_dicom(tmp_path / "a", "T1c", patient_id="A")
    write_dicom(tmp_path / "b", "FLAIR", patient_id="B")
    files = [
        (f"study/{folder}/{file.name}", file.read_bytes())
        for folder in "ab"
        for file in sorted((tmp_path / folder).iterdir())
    ]
    entry = page.upload(*files).json()["entry"]
    path = f"/api/cases/{entry['id']}"
    found = page.done(f"{path}/examine")
    assert any("patient" in each["text"] for each in found["findings"] if each["level"] == "error"), found["findings"]


def test_without_weights_scans_are_shown_and_the_page_says_what_to_install(tmp_path, cohort):
    with opened(tmp_path, cohort / "PHANTOM-00000-000") as page:
        state = page.get("/api/state").json()
        assert state["weights"] == [] and state["weights_in_use"] is None
        assert "No weights" in state["problem"]["what"] and "anymri weights add" in state["problem"]["fix"]
        path, found = page.ready(state["entries"][0])
        assert len(found["volumes"]) == 4
        refused = page.post(f"{path}/segment", {"weights": None, "subset": FULL})
        assert refused.status_code == 404 and "weights" in refused.json()["error"]["what"]
