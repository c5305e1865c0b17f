"""`anymri segment` on raw scans: other grids, DICOM, archives, the grid of the result, and what is refused."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from anymri.inference import segmenter
from anymri.prepare import alignment
from anymri.prepare.checks import dice
from anymri.prepare.registration import Registration
from cli.command import anymri, check_refused
from prepare.brightness import load_brightness
from prepare.dicom.series import write_series
from prepare.raw_phantoms import head, on_grid, write_scan
from untrained import write_weights

FLAIR = {"EchoTime": 90, "RepetitionTime": 9000, "InversionTime": 2500, "ScanningSequence": ["SE", "IR"]}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights, in place of which `fast` loads a system that costs nothing."""
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Load a system that costs nothing, because prepared scans have millions of voxels."""
    monkeypatch.setattr(segmenter, "load_weights", load_brightness)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Folder of a study with T1c as image and FLAIR as DICOM series, on grids of their own."""
    folder = tmp_path_factory.mktemp("raw")
    images, _, affine = head()
    write_scan(folder, "T1c", *on_grid(images["T1c"], affine, axes="RSA"))
    flair, thick = on_grid(images["FLAIR"], affine, step=(1, 1, 2))
    write_series(folder / "dicom", flair, thick, description="t2_tirm_tra_dark-fluid", headers=FLAIR)
    return folder


@pytest.fixture(autouse=True)
def headers_agree(monkeypatch):
    """Let every registration find that the headers are right, because the real one takes seconds."""
    found = Registration(np.eye(4), 0.95, 0.95, 0.3, 1.0, 0.0, 0.0, True, "The headers agree.")
    monkeypatch.setattr(alignment, "register", lambda *scans: found)


def segmented(*arguments):
    result = anymri("segment", *arguments)
    assert result.returncode == 0, result.stderr
    return result


def test_images_and_dicom_on_different_grids_are_segmented_by_one_command(raw, weights, tmp_path):
    result = segmented(raw, "--weights", weights, "-o", tmp_path / "out")
    assert "T1c+FLAIR" in result.stdout and "Prepared in" in result.stdout
    written = nib.load(tmp_path / "out" / "segmentation.nii.gz")
    scan = nib.load(raw / "head-t1c.nii.gz")
    assert written.shape == scan.shape and nib.aff2axcodes(written.affine) == ("R", "S", "A")
    np.testing.assert_array_equal(written.affine, scan.affine)
    # What the system finds is bright in the scan, so that the label map overlays it.
    found, values = written.get_fdata() == 3, scan.get_fdata()
    assert 0.01 < found.sum() / (values > 0).sum() < 0.3
    assert values[found].mean() > np.percentile(values[values > 0], 85)
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert set(record["inputs"]) == {"T1c", "FLAIR", "weights"}
    assert record["inputs"]["FLAIR"]["file"] == str(raw / "dicom")
    done = {(step["scan"], step["what"]) for step in record["configuration"]["preparation"]}
    assert {("FLAIR", "registration"), ("T1c", "brain"), ("study", "mask"), ("FLAIR", "resampling")} <= done


@pytest.mark.parametrize("axes", ["RAS", "PIR"])
def test_the_label_map_moves_with_the_axes_of_a_scan(weights, tmp_path, axes):
    images, _, affine = head()
    maps = {}
    for letters in ("LPS", axes):
        scan = write_scan(tmp_path / letters, "T1c", *on_grid(images["T1c"], affine, axes=letters))
        segmented(scan, "--weights", weights, "-o", tmp_path / letters / "out")
        written = nib.load(tmp_path / letters / "out" / "segmentation.nii.gz")
        assert "".join(nib.aff2axcodes(written.affine)) == letters
        maps[letters] = nib.as_closest_canonical(written).get_fdata() > 0
    assert maps["LPS"].any() and dice(*maps.values()) > 0.99


def test_the_result_has_the_grid_of_the_space_with_all_maps(raw, weights, tmp_path):
    options = ["--probabilities", "--uncertainty", "--reconstruct"]
    segmented(raw, "--weights", weights, "-o", tmp_path / "flair", "--space", "flair", *options)
    shapes = {path.name: nib.load(path).shape for path in (tmp_path / "flair").glob("*.nii.gz")}
    assert set(shapes.values()) == {(40, 40, 20)}
    maps = {"segmentation", "probability-WT", "probability-TC", "probability-ET", "uncertainty"}
    maps |= {"reconstructed-T1", "reconstructed-T2"}
    assert set(shapes) == {f"{name}.nii.gz" for name in maps}


def test_pictures_page_names_of_labels_and_dicom_are_added_on_request(raw, weights, tmp_path):
    wanted = ["--preview", "--page", "--viewers", "--dicom", "--statistics"]
    segmented(raw, "--weights", weights, "-o", tmp_path / "out", "--space", "flair", *wanted)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    added = {"preview.png", "case.html", "labels.ctbl", "labels-itksnap.txt", "statistics.json"}
    assert added | {"segmentation.dcm", "measurements.dcm"} <= names
    assert "registration" in (tmp_path / "out" / "case.html").read_text()
    seg = pydicom.dcmread(tmp_path / "out" / "segmentation.dcm")
    source = pydicom.dcmread(next((raw / "dicom").iterdir()))
    assert seg.Modality == "SEG" and seg.FrameOfReferenceUID == source.FrameOfReferenceUID
    frames = nib.load(tmp_path / "out" / "segmentation.nii.gz").get_fdata().any(axis=(0, 1)).sum()
    assert int(seg.NumberOfFrames) == frames > 5


def test_dicom_is_not_written_for_the_grid_of_an_image(raw, weights, tmp_path):
    result = segmented(raw, "--weights", weights, "-o", tmp_path / "out", "--dicom", "--subset", "T1c")
    assert "No DICOM was written" in result.stderr
    assert not list((tmp_path / "out").glob("*.dcm"))


def test_the_prepared_space_is_one_of_1_mm(raw, weights, tmp_path):
    segmented(raw, "--weights", weights, "-o", tmp_path / "out", "--space", "prepared", "--subset", "T1c")
    written = nib.load(tmp_path / "out" / "segmentation.nii.gz")
    np.testing.assert_allclose(written.header.get_zooms(), 1, rtol=1e-5)
    assert nib.aff2axcodes(written.affine) == ("L", "P", "S")


def test_an_archive_is_segmented(raw, weights, tmp_path):
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for file in raw.rglob("*"):
            if file.is_file():
                archive.write(file, file.relative_to(raw).as_posix())
    result = segmented(tmp_path / "study.zip", "--weights", weights, "-o", tmp_path / "out")
    assert "T1c+FLAIR" in result.stdout


def test_a_space_that_the_study_does_not_have_is_refused_and_nothing_is_written(raw, weights, tmp_path):
    result = anymri("segment", raw, "--weights", weights, "-o", tmp_path / "out", "--space", "t2")
    check_refused(result, "'t2'", "T1c, FLAIR, prepared")
    assert not (tmp_path / "out").exists()


def test_scans_that_cannot_be_aligned_are_refused_and_nothing_is_written(raw, weights, tmp_path, monkeypatch):
    failed = Registration(np.eye(4), 0.6, 0.6, 9.0, 9.0, 0.0, 0.0, False, "The brains do not fit.")
    monkeypatch.setattr(alignment, "register", lambda *scans: failed)
    result = anymri("segment", raw, "--weights", weights, "-o", tmp_path / "out")
    check_refused(result, "The brains do not fit.", "--subset T1c")
    assert not (tmp_path / "out").exists()
    segmented(raw, "--weights", weights, "-o", tmp_path / "out", "--subset", "T1c")
    segmented(raw, "--weights", weights, "-o", tmp_path / "out", "--no-registration")


def test_an_unclear_scan_is_asked_for_with_the_option_that_names_it(weights, tmp_path):
    images, _, affine = head()
    write_series(tmp_path / "study", images["T1c"], affine, description="unnamed")
    result = anymri("segment", tmp_path / "study", "--weights", weights, "-o", tmp_path / "out")
    check_refused(result, "not sure", "unnamed", "--t1")
    named = ["--t1c", tmp_path / "study", "--weights", weights, "-o", tmp_path / "out"]
    assert "From T1c:" in segmented(*named).stdout


def test_identifiers_of_patients_are_in_no_output(weights, tmp_path):
    images, _, affine = head()
    given = {"PatientName": "Secretname^Anna", "AccessionNumber": "ACC4711", "InstitutionName": "Secretclinic"}
    write_series(
        tmp_path / "study", images["FLAIR"], affine, description="flair", patient_id="SecretID", headers=FLAIR | given
    )
    result = segmented(tmp_path / "study", "--weights", weights, "-o", tmp_path / "out")
    doctor = anymri("doctor", tmp_path / "study", "--json")
    texts = [result.stdout, result.stderr, doctor.stdout]
    texts += [file.read_text() for file in (tmp_path / "out").glob("*.[jc]s*")]
    assert len(texts) > 4
    for text in texts:
        assert not any(word in text for word in ("Secret", "ACC4711", "19700101"))


def test_a_study_on_one_grid_in_an_archive_equals_that_in_a_folder(workshop, case, weights, tmp_path):
    shutil.make_archive(tmp_path / "case", "zip", case)
    for name, source in (("folder", case), ("archive", tmp_path / "case.zip")):
        segmented(source, "--weights", weights, "-o", tmp_path / name)
    one, other = (nib.load(tmp_path / name / "segmentation.nii.gz") for name in ("folder", "archive"))
    np.testing.assert_array_equal(one.get_fdata(), other.get_fdata())
    np.testing.assert_array_equal(one.affine, other.affine)


def test_options_of_a_cohort_are_refused_for_one_case(raw, weights, tmp_path):
    result = anymri("segment", raw, "--weights", weights, "-o", tmp_path / "out", "--workers", 2)
    check_refused(result, "--workers")


def test_the_python_example_of_the_document_runs(workshop, case, tmp_path, monkeypatch, capsys):
    document = Path(__file__).parents[2] / "docs" / "raw-scans.md"
    (block,) = re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "CASE").symlink_to(case)
    (tmp_path / "RUN").symlink_to(workshop / "run")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, document.name, "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["T1+T1c+T2+FLAIR ()", "[]"]
