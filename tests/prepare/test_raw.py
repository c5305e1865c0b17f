"""Raw studies: which scans are found in folders, files, archives and DICOM, as which modality, and what is refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from anymri.data.image import write_image
from anymri.data.layouts import find_cases
from anymri.errors import AnymriError, CohortError, ImageError, InputWarning, ModalityError
from anymri.files import sha256
from anymri.prepare import candidates
from anymri.prepare.raw import read_raw
from anymri.prepare.searching import name_of_scans
from anymri.prepare.sequences import Evidence, Recognition
from anymri.provenance import hashed
from anymri.synthesis.phantoms import write_cohort
from prepare.raw_phantoms import HEADERS, LPS, head, write_dicom, write_scan


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder of two small phantoms in the layout of BraTS."""
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 2, size=24)
    return folder


@pytest.fixture(scope="module")
def dicom(tmp_path_factory):
    """Folder of a DICOM study with all four sequences, mixed in one folder."""
    folder = tmp_path_factory.mktemp("dicom")
    for modality in HEADERS:
        write_dicom(folder, modality, shuffle=True)
    return folder


def test_a_folder_of_images_gives_the_scans_of_its_case(cohort):
    case = find_cases(cohort)[0]
    raw = read_raw(case.scans["T1"].parent)
    assert raw.name == case.name and raw.case == case and raw.left_out == ()
    assert list(raw.scans) == ["T1", "T1c", "T2", "FLAIR"]
    assert raw.inputs == hashed(case.files()) and "label" in raw.inputs
    assert all(scan.series is None and scan.files == (case.scans[m],) for m, scan in raw.scans.items())


def test_several_cases_are_refused_by_name(cohort):
    with pytest.raises(CohortError, match="several cases: 2 "):
        read_raw(cohort)


def test_scans_given_one_by_one_are_a_case(cohort):
    scans = find_cases(cohort)[0].scans
    raw = read_raw(scans={"flair": scans["FLAIR"], "t1ce": scans["T1c"]})
    assert raw.name == "PHANTOM-00000-000" and list(raw.scans) == ["T1c", "FLAIR"] and raw.reference == "T1c"


@pytest.mark.parametrize(
    ("scans", "name"),
    [
        (("patient/t1.nii", "patient/flair.nii"), "patient"),
        (("patient/1/t1.nii", "patient/2/flair.nii"), "patient"),
        (("patient/t1.nii",), "patient"),
        (("t1.nii", "../x/flair.nii"), "x"),
        (("/a/t1.nii", "/b/flair.nii"), "case"),
        (("a .\x1b/t1.nii",), "case"),
    ],
)
def test_scans_given_one_by_one_have_the_name_of_their_folder(tmp_path, monkeypatch, scans, name):
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    assert name_of_scans([Path(scan) for scan in scans]) == name


def test_no_scan_at_all_is_refused():
    with pytest.raises(ModalityError, match="No scan was given"):
        read_raw()


def test_a_modality_given_twice_is_refused(cohort):
    scan = find_cases(cohort)[0].scans["T1c"]
    with pytest.raises(ModalityError, match="T1c is given twice"):
        read_raw(cohort, {"t1c": scan, "t1ce": scan})


def test_a_single_file_is_the_scan_that_its_name_says(cohort):
    scan = find_cases(cohort)[0].scans["FLAIR"]
    raw = read_raw(scan)
    assert list(raw.scans) == ["FLAIR"] and raw.name == "PHANTOM-00000-000-t2f"


def test_a_scan_that_is_named_overrules_the_one_in_the_folder(cohort):
    first, second = find_cases(cohort)
    raw = read_raw(first.scans["T1"].parent, {"t2": second.scans["T2"]})
    assert raw.case.scans["T2"] == second.scans["T2"] and raw.case.scans["T1"] == first.scans["T1"]
    assert any("T2 scan was named" in sentence for sentence in raw.left_out)


def test_a_file_that_is_named_for_another_role_loses_the_role_of_its_name(cohort):
    scans = find_cases(cohort)[0].scans
    raw = read_raw(scans["T1"].parent, {"t1c": scans["T1"]})
    assert raw.case.scans["T1c"] == scans["T1"] and "T1" not in raw.scans


def test_dicom_series_are_recognised_by_their_headers(dicom):
    raw = read_raw(dicom)
    images, _, affine = head()
    assert list(raw.scans) == ["T1", "T1c", "T2", "FLAIR"] and raw.name == dicom.name
    for modality, scan in raw.scans.items():
        assert scan.series is not None and scan.recognition.modality == modality
        np.testing.assert_array_equal(scan.image.array, images[modality])
        np.testing.assert_allclose(scan.image.affine, affine, atol=1e-4)


def test_a_dicom_series_has_one_hash_that_changes_with_any_file(dicom, tmp_path):
    files = write_dicom(tmp_path / "one", "T2", shuffle=True)
    raw = read_raw(tmp_path / "one")
    assert raw.inputs["T2"]["file"] == str(tmp_path / "one")
    assert raw.inputs["T2"]["sha256"] == read_raw(dicom).inputs["T2"]["sha256"]
    content = bytearray(files[5].read_bytes())
    content[-1] ^= 1
    files[5].write_bytes(content)
    assert read_raw(tmp_path / "one").inputs["T2"]["sha256"] != raw.inputs["T2"]["sha256"]


def test_images_and_dicom_series_in_one_folder_are_one_study(tmp_path):
    images, _, affine = head()
    write_dicom(tmp_path / "dicom", "FLAIR")
    write_scan(tmp_path, "T1c", images["T1c"], affine)
    raw = read_raw(tmp_path)
    assert list(raw.scans) == ["T1c", "FLAIR"]
    assert [scan.series is None for scan in raw.scans.values()] == [True, False]


def test_a_dicom_folder_or_one_of_its_files_is_given_for_a_modality(tmp_path):
    files = write_dicom(tmp_path / "flair", "FLAIR")
    write_dicom(tmp_path / "both", "T2")
    write_dicom(tmp_path / "both", "T1")
    raw = read_raw(scans={"flair": tmp_path / "flair", "t2": tmp_path / "both"})
    assert list(raw.scans) == ["T2", "FLAIR"]
    # An option overrules the headers.
    assert list(read_raw(scans={"t1c": files[3]}).scans) == ["T1c"]


def test_a_series_that_is_named_for_another_modality_loses_that_of_its_headers(tmp_path):
    (file, *_) = write_dicom(tmp_path / "one", "FLAIR")
    for given in (tmp_path / "one", file, tmp_path / "one" / ".." / "one"):
        assert list(read_raw(tmp_path, {"t1": given}).scans) == ["T1"]
    with pytest.raises(CohortError, match=r"One DICOM series is given as T1 and as T2: series 4 \(t2_tirm"):
        read_raw(scans={"t1": tmp_path / "one", "t2": file})


def test_a_folder_without_a_series_is_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"empty \(T1c\)"):
        read_raw(scans={"t1c": tmp_path / "empty"})


def test_an_archive_gives_images_and_dicom_series_and_nothing_stays_unpacked(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    images, _, affine = head()
    scan = write_scan(tmp_path, "T1c", images["T1c"], affine)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        archive.write(scan, "images/head-t1c.nii.gz")
        for file in write_dicom(tmp_path / "dicom", "FLAIR"):
            archive.write(file, f"dicom/{file.name}")
    raw = read_raw(tmp_path / "study.zip")
    assert list(raw.scans) == ["T1c", "FLAIR"]
    np.testing.assert_array_equal(raw.scans["T1c"].image.array, images["T1c"])
    assert raw.case.scans["T1c"] == tmp_path / "study.zip" / "images" / "head-t1c.nii.gz"
    for modality in raw.scans:
        assert raw.inputs[modality] == {
            "file": str(tmp_path / "study.zip"),
            "sha256": sha256(tmp_path / "study.zip"),
        }
    assert not list((tmp_path / "temporary").iterdir())


def archive_of(tmp_path, entries, name="study.zip"):
    """Return a zip archive of entry -> file."""
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for entry, file in entries.items():
            archive.write(file, entry)
    return tmp_path / name


def test_errors_and_warnings_about_an_archive_name_it_and_not_a_folder_that_is_gone(tmp_path):
    images, _, affine = head()
    broken = np.full((8, 8, 8), np.nan, np.float32)
    write_image(tmp_path / "broken.nii.gz", broken, affine)
    with pytest.raises(ImageError) as refused:
        read_raw(archive_of(tmp_path, {"x-t1.nii.gz": tmp_path / "broken.nii.gz"}))
    assert refused.value.what.startswith(f"{tmp_path / 'study.zip' / 'x-t1.nii.gz'} has NaN")
    write_image(tmp_path / "few.nii.gz", (images["T1"] > 100).astype(np.uint8), affine)
    with pytest.warns(InputWarning, match=f"{tmp_path / 'study.zip' / 'x-t1.nii.gz'} is used as a scan"):
        read_raw(archive_of(tmp_path, {"x-t1.nii.gz": tmp_path / "few.nii.gz"}))


def test_a_scan_of_an_archive_that_has_to_be_named_is_unpacked_first(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "recognise_image", lambda *_: Recognition("T1", 0.5, ()))
    images, _, affine = head()
    scan = write_scan(tmp_path / "in", "T1", images["T1"], affine)
    with pytest.raises(ModalityError) as refused:
        read_raw(archive_of(tmp_path, {"unnamed.nii.gz": scan}))
    assert f"Unpack the archive. Name it, as in --t1 {tmp_path / 'study' / 'unnamed.nii.gz'}" in refused.value.fix
    series = [write_dicom(tmp_path / str(number), "T1c", series_number=number) for number in (1, 2)]
    archive = archive_of(tmp_path, {f"{file.parent.name}/{file.name}": file for files in series for file in files})
    with pytest.raises(ModalityError, match=r"2 scans could be the T1c scan") as refused:
        read_raw(archive)
    assert refused.value.fix.endswith(f"--t1c FILE, one of its DICOM files after unpacking {archive}")


@pytest.mark.parametrize("entries", [["n" * 260 + "-t1.nii.gz"], ["a-t1.nii.gz", "a-t1.nii.gz/b-t1.nii.gz"]])
def test_an_archive_whose_entries_cannot_be_files_here_is_refused(tmp_path, entries):
    images, _, affine = head()
    scan = write_scan(tmp_path / "in", "T1", images["T1"], affine)
    with pytest.raises(ImageError, match=r"study\.zip cannot be unpacked"):
        read_raw(archive_of(tmp_path, dict.fromkeys(entries, scan)))


def test_an_archive_named_by_dots_is_read(tmp_path):
    images, _, affine = head()
    scan = write_scan(tmp_path / "in", "T1", images["T1"], affine)
    assert list(read_raw(archive_of(tmp_path, {"t1.nii.gz": scan}, "...zip")).scans) == ["T1"]


def test_folders_of_dicom_files_without_suffix_are_not_called_empty(tmp_path, recwarn):
    for modality in ("T1c", "FLAIR"):
        for file in write_dicom(tmp_path / modality, modality):
            file.rename(file.with_suffix(""))
    assert list(read_raw(tmp_path).scans) == ["T1c", "FLAIR"]
    assert not [each for each in recwarn if issubclass(each.category, InputWarning)]


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "climbs.zip", "w") as archive:
        archive.writestr("../t1c.nii.gz", b"x")
    with pytest.raises(ImageError, match="leads out of its folder"):
        read_raw(tmp_path / "climbs.zip")


def test_two_series_of_one_modality_are_refused_with_both_and_the_option_that_decides(tmp_path):
    write_dicom(tmp_path, "T1c")
    write_dicom(tmp_path, "T1c", series_number=9, description="t1_tse_cor_KM")
    with pytest.raises(ModalityError, match=r"2 scans could be the T1c scan: .*t1_mprage.*t1_tse") as refused:
        read_raw(tmp_path)
    assert "--t1c" in refused.value.fix
    chosen = tmp_path / "s009_0000.dcm"
    raw = read_raw(tmp_path, {"t1c": chosen})
    assert raw.scans["T1c"].series.number == 9


def test_series_of_two_patients_are_refused_without_their_names(tmp_path):
    write_dicom(tmp_path / "a", "T1", patient_id="Smith1")
    write_dicom(tmp_path / "b", "FLAIR", patient_id="Jones2")
    with pytest.raises(CohortError, match="patient") as refused:
        read_raw(scans={"t1": tmp_path / "a", "flair": tmp_path / "b"})
    assert "Smith" not in str(refused.value) and "Jones" not in str(refused.value)


def test_the_number_of_a_dicom_study_chooses_it(tmp_path):
    write_dicom(tmp_path, "T2", study_uid="1.2.3", headers=HEADERS["T2"] | {"StudyDate": "20200101"})
    write_dicom(tmp_path, "FLAIR", study_uid="1.2.4", headers=HEADERS["FLAIR"] | {"StudyDate": "20210101"})
    with pytest.raises(CohortError, match="2 studies"):
        read_raw(tmp_path)
    assert list(read_raw(tmp_path, dicom_study=2).scans) == ["FLAIR"]


def recognising(monkeypatch, found):
    """Let images be recognised as `found`: name without suffix -> (modality, confidence)."""

    def recognise_image(image, name=""):
        modality, confidence = found[name]
        return Recognition(modality, confidence, (Evidence("intensities", "fluid is dark", str(modality), {}),))

    monkeypatch.setattr("anymri.prepare.candidates.recognise_image", recognise_image)


def silent_images(folder, *names):
    """Write images whose names do not say what they are."""
    images, _, affine = head()
    for name, modality in zip(names, images, strict=False):
        write_image(folder / f"{name}.nii.gz", images[modality], affine)


def test_images_without_a_telling_name_are_recognised_by_their_intensities(tmp_path, monkeypatch):
    silent_images(tmp_path, "one", "two", "three")
    recognising(monkeypatch, {"one": ("T2", 0.9), "two": ("FLAIR", 0.85), "three": (None, 0.9)})
    raw = read_raw(tmp_path)
    assert {m: scan.image.path.name for m, scan in raw.scans.items()} == {"T2": "one.nii.gz", "FLAIR": "two.nii.gz"}
    assert any("three.nii.gz" in sentence for sentence in raw.left_out)


def test_a_modality_that_is_not_sure_is_asked_for_with_the_evidence(tmp_path, monkeypatch):
    silent_images(tmp_path, "one", "two")
    recognising(monkeypatch, {"one": ("T2", 0.9), "two": ("T1c", 0.7)})
    with pytest.raises(ModalityError, match=r"two\.nii\.gz \(T1c with confidence 0\.70; .*fluid is dark") as refused:
        read_raw(tmp_path)
    assert f"--t1c {tmp_path / 'two.nii.gz'}" in refused.value.fix
    assert list(read_raw(tmp_path, {"t1c": tmp_path / "two.nii.gz"}).scans) == ["T1c", "T2"]


def test_what_is_not_sure_is_left_out_where_a_sure_scan_of_its_modality_exists(tmp_path, monkeypatch):
    silent_images(tmp_path, "one", "two")
    recognising(monkeypatch, {"one": ("T2", 0.9), "two": ("T2", 0.6)})
    raw = read_raw(tmp_path)
    assert raw.case.scans["T2"].name == "one.nii.gz" and any("two.nii.gz" in each for each in raw.left_out)


def test_images_without_a_telling_name_are_not_used_beside_others(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "of_image", None)
    images, _, affine = head()
    write_scan(tmp_path, "T1c", images["T1c"], affine)
    silent_images(tmp_path, "other")
    with pytest.warns(InputWarning, match=r"other\.nii\.gz"):
        assert list(read_raw(tmp_path).scans) == ["T1c"]


def test_one_file_in_two_roles_is_refused(tmp_path):
    images, _, affine = head()
    scan = write_scan(tmp_path, "T1c", images["T1c"], affine)
    with pytest.raises(CohortError, match="One file is given as"):
        read_raw(scans={"t1c": scan, "t2": scan})


def test_a_study_of_some_scans_keeps_their_files_alone(cohort):
    raw = read_raw(find_cases(cohort)[0]).only(["T2"])
    assert list(raw.scans) == list(raw.case.scans) == ["T2"] and set(raw.inputs) == {"T2", "label"}


@pytest.mark.parametrize("content", ["nothing", "text"])
def test_a_folder_without_a_scan_is_refused(tmp_path, content):
    if content == "text":
        (tmp_path / "notes.txt").write_text("no scan")
    with pytest.raises(CohortError, match="No case was found"):
        read_raw(tmp_path)


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(AnymriError, match="absent does not exist"):
        read_raw(tmp_path / "absent")


@pytest.mark.parametrize("shape", [(8, 8, 8, 3), (8, 8)])
def test_what_is_not_a_volume_is_refused_by_name(tmp_path, shape):
    import nibabel as nib

    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    nib.save(nib.Nifti1Image(array, LPS), tmp_path / "x_t1c.nii.gz")
    with pytest.raises(ImageError, match=r"x_t1c\.nii\.gz"):
        read_raw(tmp_path)
