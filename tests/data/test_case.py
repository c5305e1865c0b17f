from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anymri.data.case import Case, check_distinct, read_study, reorient_to_grid
from anymri.data.image import from_lps, read_image, to_lps, write_image
from anymri.data.layouts import find_cases
from anymri.errors import CohortError, GeometryError, ImageError, LabelError, ModalityError
from anymri.regions import ED, ET, NCR, SCHEMES

LPS = np.diag([-1.0, -1.0, 2.0, 1.0])
SHAPE = (5, 6, 7)
SCAN = np.arange(5 * 6 * 7, dtype=np.float32).reshape(SHAPE)


def scan(path: Path, array: np.ndarray = SCAN, affine: np.ndarray = LPS) -> Path:
    write_image(path, array, affine)
    return path


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("BraTS-GLI-00012-001", "BraTS-GLI-00012"),
        ("brats-gli-00000-000", "brats-gli-00000"),
        ("sub-07_ses-02", "sub-07"),
        ("sub-07", "sub-07"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
    ],
)
def test_patient_is_the_name_without_the_time_point(name, patient):
    assert Case(name, {"T1": Path("t1.nii")}).patient == patient


def test_given_patient_overrides_the_name():
    assert Case("BraTS-GLI-00012-001", {"T1": Path("t1.nii")}, patient="Ada").patient == "Ada"


def test_case_has_its_modalities_in_order_and_all_its_files():
    case = Case("a", {"FLAIR": Path("f.nii"), "T1": Path("t.nii")}, label=Path("s.nii"))
    assert str(case.subset) == "T1+FLAIR"
    assert list(case.files().items()) == [("T1", Path("t.nii")), ("FLAIR", Path("f.nii")), ("label", Path("s.nii"))]


def test_case_can_be_pickled():
    case = Case("a", {"T1": Path("t.nii")})
    assert pickle.loads(pickle.dumps(case)) == case


def test_case_without_a_scan_is_refused():
    with pytest.raises(CohortError, match="Case empty has no scan"):
        Case("empty", {})


def test_case_with_an_unknown_modality_is_refused():
    with pytest.raises(ModalityError, match="DWI"):
        Case("a", {"T1": Path("t.nii"), "DWI": Path("d.nii")})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty"),
        ("..", "begins or ends with a dot"),
        (".hidden", "begins or ends with a dot"),
        ("a.", "begins or ends with a dot"),
        (" a", "begins or ends with a dot or a space"),
        ("a/b", "contains a slash"),
        ("a[/b]", "contains a slash"),
        ("a\\b", "contains a slash"),
        ("a\rb", r"character U\+000D"),
        ("a\nb", r"character U\+000A"),
        ("a\0", r"character U\+0000"),
        ("a\tb", r"character U\+0009"),
        ("\x1b[31m", r"character U\+001B"),
        ("a\u202eb", r"character U\+202E"),
        ("a\udce4", r"character U\+DCE4"),
        ("a" * 240, "it has 240 bytes, more than 150"),
        ("ä" * 76, "it has 152 bytes"),
    ],
)
def test_name_that_files_or_tables_cannot_have_is_refused_with_the_reason(name, reason):
    with pytest.raises(CohortError, match=reason) as refused:
        Case(name, {"T1": Path("t.nii")})
    assert refused.value.what.isprintable()


@pytest.mark.parametrize(
    "name",
    ["nan", "NA", "null", "001", "1e5", "True", "-a", "_x_", "<b>", "a|b", "a*", "[red]", "Ä b", "日本", "a" * 150],
)
def test_every_other_name_is_the_name_of_a_case(name):
    assert Case(name, {"T1": Path("t.nii")}).name == name


@pytest.mark.parametrize("names", [("a", "A"), ("\u00e4", "a\u0308")])
def test_names_that_some_file_system_does_not_distinguish_are_refused(names):
    check_distinct(["a", "b", "a"])
    with pytest.raises(CohortError, match="differ only in capitals"):
        check_distinct(names)


def test_study_has_scans_of_any_orientation_in_lps(tmp_path):
    ras = np.diag([1.0, 1.0, 2.0, 1.0])
    ras[:2, 3] = -4, -5
    case = Case("a", {"T1": scan(tmp_path / "t1.nii.gz"), "T2": scan(tmp_path / "t2.nii.gz", SCAN[::-1, ::-1], ras)})
    study = read_study(case)
    np.testing.assert_array_equal(study.images["T1"], SCAN)
    np.testing.assert_array_equal(study.images["T2"], SCAN)
    np.testing.assert_array_equal(study.affine, LPS)
    assert all(image.flags["C_CONTIGUOUS"] for image in study.images.values())
    assert study.reference.path.name == "t2.nii.gz"
    assert study.reference.orientation == "RAS"
    assert study.classes is study.brain is None


def test_label_map_is_translated_with_the_scheme(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, :4] = 1, 2, 4, 4
    case = Case("a", {"T1": scan(tmp_path / "t1.nii.gz")}, label=scan(tmp_path / "seg.nii.gz", labels))
    study = read_study(case, SCHEMES["brats2021"])
    assert study.classes.dtype == np.uint8
    assert study.classes[0, 0, :5].tolist() == [NCR, ED, ET, ET, 0]
    with pytest.raises(LabelError, match=r"seg\.nii\.gz"):
        read_study(case, SCHEMES["brats2023"])
    assert read_study(case).classes is None


def test_brain_mask_of_almost_one_is_true(tmp_path):
    mask = np.zeros(SHAPE, np.float32)
    mask[1:3] = 0.99999997
    case = Case("a", {"T1": scan(tmp_path / "t1.nii.gz")}, brain_mask=scan(tmp_path / "mask.nii.gz", mask))
    np.testing.assert_array_equal(read_study(case).brain, mask > 0)


def test_empty_brain_mask_is_refused(tmp_path):
    mask = scan(tmp_path / "mask.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(ImageError, match="is empty"):
        read_study(Case("a", {"T1": scan(tmp_path / "t1.nii.gz")}, brain_mask=mask))


def shifted(millimetres: float) -> np.ndarray:
    affine = LPS.copy()
    affine[0, 3] = millimetres
    return affine


def test_rounding_of_headers_is_not_a_different_grid(tmp_path):
    case = Case("a", {"T1": scan(tmp_path / "t1.nii.gz"), "T2": scan(tmp_path / "t2.nii.gz", affine=shifted(0.009))})
    assert set(read_study(case).images) == {"T1", "T2"}


@pytest.mark.parametrize(
    ("array", "affine", "words"),
    [
        (SCAN[:4], LPS, "t1.nii.gz is 4x6x7 at 1.00x1.00x2.00 mm"),
        (SCAN, LPS @ np.diag([1, 1, 1.5, 1]), "t1.nii.gz is 5x6x7 at 1.00x1.00x3.00 mm"),
        (SCAN, shifted(0.5), "corners of the volumes are up to 0.50 mm apart"),
        (SCAN, shifted(0.011), "corners of the volumes are up to 0.01 mm apart"),
    ],
)
def test_scans_on_different_grids_raise_an_error_that_names_both(tmp_path, array, affine, words):
    case = Case("P7", {"T1": scan(tmp_path / "t1.nii.gz", array, affine), "T2": scan(tmp_path / "t2.nii.gz")})
    with pytest.raises(GeometryError) as refused:
        read_study(case)
    assert refused.value.what.startswith("Case P7: ")
    assert "t2.nii.gz is 5x6x7 at 1.00x1.00x2.00 mm, LPS" in refused.value.what
    assert words in refused.value.what
    assert "anymri segment" in refused.value.fix


def oblique(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = [[-1, 0, 0], [0, -cosine, sine], [0, sine, cosine]]
    return affine


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("flipped", [False, True])
def test_scans_at_45_degrees_with_rounded_headers_are_on_one_grid(tmp_path, sign, flipped):
    """Rounding decides which of two axes is the second of LPS; one file is also stored with its last axis reversed."""
    array, affine = SCAN, oblique(45 + 1e-5 * sign)
    if flipped:
        array, affine = (
            array[:, :, ::-1],
            affine @ np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 6], [0, 0, 0, 1]]),
        )
    files = {
        "T1c": scan(tmp_path / "t1c.nii.gz", SCAN, oblique(45 - 1e-5 * sign)),
        "T2": scan(tmp_path / "t2.nii.gz", array, affine),
    }
    study = read_study(Case("a", files))
    np.testing.assert_array_equal(study.images["T1c"], study.images["T2"])
    np.testing.assert_array_equal(from_lps(study.images["T2"], study.reference), SCAN)
    written = scan(tmp_path / "result.nii.gz", from_lps(study.images["T2"], study.reference), study.reference.affine)
    np.testing.assert_array_equal(reorient_to_grid(read_image(written), study.reference, "a"), study.images["T1c"])
    orders = {to_lps(each.array, each.affine)[0].shape for each in map(read_image, files.values())}
    assert len(orders) == 2  # each scan alone would have its axes in another order


@pytest.mark.parametrize("what", ["label", "brain_mask"])
def test_label_and_mask_on_different_grids_are_refused(tmp_path, what):
    other = scan(tmp_path / "other.nii.gz", np.ones(SHAPE, np.uint8), shifted(3))
    case = Case("a", {"T1": scan(tmp_path / "t1.nii.gz")}, **{what: other})
    with pytest.raises(GeometryError, match=r"other\.nii\.gz"):
        read_study(case, SCHEMES["brats2023"])


def test_real_glioma_case_is_read(real_data):
    (case,) = find_cases(real_data / "brats-gli-00000-000")
    study = read_study(case, SCHEMES["brats2023"])
    assert str(case.subset) == "T1+T1c+T2+FLAIR"
    assert np.bincount(study.classes.ravel()).tolist() == [8870695, 11738, 12836, 32731]
    t1c = nib.load(case.scans["T1c"])
    assert np.array_equal(study.images["T1c"], t1c.get_fdata(dtype=np.float32))


def test_real_incomplete_case_is_read_with_its_brain_mask(real_data):
    case = find_cases(real_data / "deepmedic-brats2013")[0]
    study = read_study(case, SCHEMES["brats2013"])
    assert set(study.images) == {"T1c", "FLAIR"}
    assert study.brain.sum() == 1487565


def test_real_scans_in_native_space_are_refused(real_data):
    (case,) = find_cases(real_data / "tcga-du-7294" / "native-space")
    with pytest.raises(GeometryError, match="is 512x512x34 at 0"):
        read_study(case)


def test_a_mask_with_several_values_is_no_brain_mask(tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:3], mask[3] = 1, 3
    case = Case("a", {"T1": scan(tmp_path / "t1.nii.gz")}, brain_mask=scan(tmp_path / "mask.nii.gz", mask))
    with pytest.raises(ImageError, match=r"mask\.nii\.gz has several values other than 0, from 1 to 3"):
        read_study(case)
    mask[mask > 0] = 255
    scan(tmp_path / "mask.nii.gz", mask)
    np.testing.assert_array_equal(read_study(case).brain, mask > 0)
