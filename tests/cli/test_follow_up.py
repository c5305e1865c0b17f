"""`anymri follow-up`: folders, results and DICOM studies as time points, the page, the report, and what is refused."""

import json
import shutil

import numpy as np
import pydicom
import pytest

from anymri.inference import follow_up as module
from anymri.inference import segmenter
from anymri.prepare.registration import Registration
from cli.command import anymri, check_refused
from prepare.brightness import load_brightness
from prepare.raw_phantoms import HEADERS, write_dicom
from untrained import write_weights


@pytest.fixture(autouse=True)
def headers_agree(monkeypatch):
    """Let every registration find that the headers are right, because the real one takes seconds."""
    found = Registration(np.eye(4), 0.95, 0.95, 0.3, 1.0, 0.0, 0.0, True, "The headers agree.")
    monkeypatch.setattr(module, "register", lambda *scans: found)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a cohort of two phantoms and two files of weights."""
    folder = tmp_path_factory.mktemp("place")
    assert anymri("phantom", "-n", 2, "--size", 48, "-o", folder / "data").returncode == 0
    write_weights(folder / "w.safetensors")
    write_weights(folder / "other.safetensors", seed=1)
    return folder


@pytest.fixture(scope="module")
def cases(place):
    return [each for each in sorted((place / "data").iterdir()) if each.is_dir()]


@pytest.fixture(scope="module")
def results(place, cases):
    """Results of both cases, by the same weights and from other modalities."""
    made = []
    for number, (case, subset) in enumerate(zip(cases, ("T1c+FLAIR", "T1+T1c+FLAIR"), strict=True)):
        out = place / f"result{number}"
        done = anymri("segment", case, "--subset", subset, "--weights", place / "w.safetensors", "-o", out)
        assert done.returncode == 0, done.stderr
        made.append(out)
    return made


def test_two_case_folders_give_figures_a_page_and_both_results(place, cases, tmp_path):
    done = anymri("follow-up", *cases, "-o", tmp_path / "out", "--weights", place / "w.safetensors", "--page", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    figures = json.loads((tmp_path / "out" / "follow-up.json").read_text())
    assert result["modalities"] == ["T1", "T1c", "T2", "FLAIR"] == figures["modalities"]
    assert result["change_ml"]["WT"] == figures["regions"]["WT"]["change_ml"]
    for name in ("first", "second"):
        measured = json.loads((tmp_path / "out" / name / "measurements.json").read_text())
        assert measured["regions"]["ET"]["volume_ml"] == figures["regions"]["ET"][name]["volume_ml"]
    page = (tmp_path / "out" / "follow-up.html").read_text()
    assert "data:image/png" in page and "confidence intervals" in page and str(place) not in page
    steps = [json.loads(line)["name"] for line in done.stderr.splitlines() if '"comparing"' in line]
    assert "first time point, repositioned" in steps


def test_results_stand_for_their_scans_and_weights_and_the_common_modalities_are_used(place, results, tmp_path):
    done = anymri("follow-up", *results, "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["result"]["modalities"] == ["T1c", "FLAIR"]
    assert printed["result"]["weights"] == [str(place / "w.safetensors")]
    assert any("Not used: T1 of result1" in each for each in printed["warnings"])
    figures = json.loads((tmp_path / "out" / "follow-up.json").read_text())
    measured = json.loads((results[0] / "measurements.json").read_text())
    assert figures["regions"]["WT"]["first"]["volume_ml"] == measured["regions"]["WT"]["volume_ml"]


def changed(results, tmp_path, change):
    """Return a copy of a result whose provenance is changed."""
    copy = tmp_path / "copy"
    shutil.copytree(results[1], copy)
    record = json.loads((copy / "provenance.json").read_text())
    change(record)
    (copy / "provenance.json").write_text(json.dumps(record))
    return copy


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda record: record["inputs"]["T1c"].update(file="/nowhere/x.nii.gz"), "does not exist here"),
        (lambda record: record["inputs"]["T1c"].update(sha256="0" * 64), "has changed since"),
        (lambda record: record["inputs"]["weights"].update(sha256="0" * 64), "different weights"),
        (lambda record: record.update(command="evaluate"), "not a result of"),
    ],
)
def test_a_result_that_cannot_be_made_again_is_refused(results, tmp_path, change, word):
    copy = changed(results, tmp_path, change)
    check_refused(anymri("follow-up", results[0], copy, "-o", tmp_path / "out"), word)
    assert not (tmp_path / "out").exists()


def test_one_case_twice_and_a_missing_folder_are_refused(place, cases, tmp_path):
    weights = ["--weights", place / "w.safetensors", "-o", tmp_path / "out"]
    check_refused(anymri("follow-up", cases[0], cases[0], *weights), "have a scan in common")
    check_refused(anymri("follow-up", cases[0], tmp_path / "nowhere", *weights), "nowhere")
    assert not (tmp_path / "out").exists()


def test_results_are_not_overwritten(results, tmp_path):
    check_refused(anymri("follow-up", *results, "-o", results[0]), "would be overwritten")
    shutil.copytree(results[0], tmp_path / "first")
    check_refused(anymri("follow-up", tmp_path / "first", results[1], "-o", tmp_path), "would be overwritten")
    assert (results[0] / "provenance.json").is_file() and (tmp_path / "first" / "provenance.json").is_file()


def study(folder, date, uid, patient="P1"):
    """Write a DICOM study with a T1c series."""
    write_dicom(folder, "T1c", headers=HEADERS["T1c"] | {"AcquisitionDate": date}, study_uid=uid, patient_id=patient)
    for file in folder.iterdir():  # another examination has other images
        dataset = pydicom.dcmread(file)
        dataset.PixelData = (dataset.pixel_array + int(date) % 7 + 1).astype(dataset.pixel_array.dtype).tobytes()
        dataset.StudyDate, dataset.AcquisitionTime = date, "101112"
        dataset.save_as(file)
    return folder


def test_dicom_studies_give_a_report_with_both_time_points_and_the_change(place, tmp_path, monkeypatch):
    monkeypatch.setattr(segmenter, "load_weights", load_brightness)
    first, second = study(tmp_path / "a", "20240110", "1.2.3.1"), study(tmp_path / "b", "20240411", "1.2.3.2")
    done = anymri(
        "follow-up", first, second, "-o", tmp_path / "out", "--weights", place / "w.safetensors", "--dicom", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["days"] == 92
    report = pydicom.dcmread(tmp_path / "out" / "follow-up.dcm")
    assert report.StudyInstanceUID == "1.2.3.2" and report.PatientID == "P1"
    (other,) = report.PertinentOtherEvidenceSequence
    assert other.StudyInstanceUID == "1.2.3.1"
    again = anymri("follow-up", tmp_path / "out" / "first", tmp_path / "out" / "second", "-o", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    figures = [json.loads((tmp_path / name / "follow-up.json").read_text()) for name in ("out", "again")]
    assert figures[0]["regions"] == figures[1]["regions"] and figures[1]["days"] == 92
    later = anymri(
        "follow-up", second, first, "-o", tmp_path / "back", "--weights", place / "w.safetensors", "--strict"
    )
    check_refused(later, "older than the first")


def test_dicom_studies_of_two_patients_are_refused(place, tmp_path):
    first = study(tmp_path / "a", "20240110", "1.2.3.1")
    second = study(tmp_path / "b", "20240411", "1.2.3.2", patient="P2")
    refused = anymri("follow-up", first, second, "-o", tmp_path / "out", "--weights", place / "w.safetensors")
    check_refused(refused, "more than one patient")
