"""Preparation of raw scans: nothing where nothing is needed, one grid of 1 mm otherwise, and the way back."""

import json
from dataclasses import replace

import numpy as np
import pytest

from anymri.data.case import read_study
from anymri.data.image import Image, read_image, to_lps, write_image
from anymri.errors import ConfigurationError, GeometryError, ImageError, InputWarning, MissingExtraError
from anymri.prepare import alignment
from anymri.prepare.alignment import best_scan
from anymri.prepare.bias_field import correct_bias_field
from anymri.prepare.checks import dice, largest_cut
from anymri.prepare.grid import Grid
from anymri.prepare.preparation import Preparation, prepare
from anymri.prepare.raw import read_raw
from anymri.prepare.registration import Registration, register
from anymri.prepare.resampling import resample_labels
from anymri.regions import region_mask
from prepare.raw_phantoms import SIDE, case_in, head, moved, on_grid, raw_study, worlds, write_scan

# Grids of scans as scanners make them: thick slices in three orientations.
DIFFERENT = {"T1": {"axes": "RSA"}, "T1c": {}, "T2": {"axes": "LAS", "step": (1, 1, 2)}}


@pytest.fixture
def headers_agree(monkeypatch):
    """Let every registration find that the headers are right, because the real one takes seconds."""
    found = Registration(np.eye(4), 0.95, 0.95, 0.3, 1.0, 0.0, 0.0, True, "The headers agree.")
    monkeypatch.setattr(alignment, "register", lambda *scans: found)


@pytest.fixture(scope="module")
def different(tmp_path_factory):
    """Preparation of scans on different grids whose headers agree."""
    with pytest.MonkeyPatch.context() as patch:
        found = Registration(np.eye(4), 0.95, 0.95, 0.3, 1.0, 0.0, 0.0, True, "The headers agree.")
        patch.setattr(alignment, "register", lambda *scans: found)
        return prepare(raw_study(tmp_path_factory.mktemp("different"), DIFFERENT))


def one_hot(labels):
    """Return the probabilities (4, X, Y, Z) of a label map."""
    return np.stack([labels == value for value in range(4)]).astype(np.float32)


def test_scans_on_one_grid_of_1_mm_without_skull_are_used_bit_for_bit(tmp_path):
    case = case_in(tmp_path)
    prepared, expected = prepare(read_raw(case)), read_study(case)
    assert prepared.is_as_found and prepared.record() == []
    assert prepared.study.images.keys() == expected.images.keys()
    for modality, image in expected.images.items():
        np.testing.assert_array_equal(prepared.study.images[modality], image)
        assert prepared.study.images[modality].flags == image.flags
    np.testing.assert_array_equal(prepared.study.affine, expected.affine)
    assert prepared.study.brain is None and prepared.study.reference.path == expected.reference.path


def test_a_given_mask_of_scans_on_one_grid_is_that_of_the_study(tmp_path):
    case = case_in(tmp_path)
    mask = (read_raw(case).scans["T1c"].image.array > 0).astype(np.uint8)
    write_image(tmp_path / "mask.nii.gz", mask, np.diag([-1.0, -1.0, 1.0, 1.0]))
    case = replace(case, brain_mask=tmp_path / "mask.nii.gz")
    prepared = prepare(read_raw(case))
    assert prepared.is_as_found
    np.testing.assert_array_equal(prepared.study.brain, read_study(case).brain)


def test_scans_of_one_grid_in_other_orientations_need_no_preparation(tmp_path):
    case = case_in(tmp_path, ("T1c",))
    image = read_raw(case).scans["T1c"].image
    write_scan(tmp_path, "T2", *on_grid(image.array, image.affine, axes="RIA"), name="small")
    prepared = prepare(read_raw(tmp_path))
    assert prepared.is_as_found
    np.testing.assert_array_equal(prepared.study.images["T2"], prepared.study.images["T1c"])


def test_scans_on_different_grids_come_to_lie_on_each_other_at_1_mm(different):
    study, raw = different.study, different.raw
    np.testing.assert_allclose(np.linalg.norm(study.affine[:3, :3], axis=0), 1)
    assert len({image.shape for image in study.images.values()}) == 1
    points = np.random.default_rng(0).uniform(-25, 25, (400, 3))
    for modality, scan in raw.scans.items():
        ours = worlds(Image(study.images[modality], study.affine, scan.image.path), points)
        assert np.corrcoef(ours, worlds(scan.image, points))[0, 1] > 0.8, modality


def test_voxels_outside_the_brain_are_0_and_the_mask_is_that_of_the_study(different):
    study = different.study
    assert study.brain is not None and 500 < study.brain.sum() / 1000 < 900
    for image in study.images.values():
        assert not image[~study.brain].any()
        assert np.count_nonzero(image[study.brain]) > 0.9 * study.brain.sum()


@pytest.mark.parametrize("background", [-4.0, 7.0])
def test_another_constant_background_is_subtracted(tmp_path, background):
    images, _, affine = head()
    array = images["T1c"].astype(np.float32) / 100 + background
    write_scan(tmp_path, "T1c", array, affine)
    (image,) = prepare(read_raw(tmp_path)).study.images.values()
    assert image.min() == pytest.approx(0, abs=1e-5)
    assert image.max() == pytest.approx(images["T1c"].max() / 100, rel=0.05)


def test_label_maps_come_back_to_every_source_grid(different):
    _, labels, affine = head()
    prepared = different
    ours = one_hot(on_grid_of(prepared, labels, affine))
    for modality, change in DIFFERENT.items():
        expected, _ = on_grid(labels, affine, **change)
        back = prepared.labels_on(modality, ours, "classes")
        assert back.shape == prepared.images[modality].shape and back.dtype == np.uint8
        for region in ("WT", "TC", "ET"):
            assert dice(region_mask(back, region), region_mask(expected, region)) > 0.9, (modality, region)


def on_grid_of(prepared, labels, affine):
    """Return a label map on the prepared grid."""
    return resample_labels(labels, affine, prepared.grids["prepared"])


def test_probabilities_in_a_box_come_back_as_those_of_the_whole_grid(different):
    _, labels, affine = head()
    prepared = different
    whole = one_hot(on_grid_of(prepared, labels, affine))
    x, y, z = (slice(int(at.min()) - 2, int(at.max()) + 3) for at in np.nonzero(whole[1:].any(0)))
    boxed = prepared.labels_on("T1c", whole[:, x, y, z], "classes", (x, y, z))
    np.testing.assert_array_equal(boxed, prepared.labels_on("T1c", whole, "classes"))
    assert boxed.any()


def test_interpolated_label_maps_have_no_class_between_two_others(different):
    # A sphere of ET in the background, without the oedema whose value is between them.
    prepared = different
    shape = prepared.grids["prepared"].shape
    apart = sum((axis - side / 2) ** 2 for axis, side in zip(np.indices(shape), shape, strict=True))
    labels = np.where(apart < 15**2, 3, 0)
    back = prepared.labels_on("T2", one_hot(labels), "classes")
    assert set(np.unique(back)) == {0, 3}


def test_prepared_space_is_the_grid_of_the_study(different):
    prepared = different
    scan = prepared.study.images["T1c"]
    np.testing.assert_array_equal(prepared.bring("prepared", scan), scan)
    assert Grid.of(prepared.reference("prepared")).same_as(prepared.grids["prepared"])
    with pytest.raises(ConfigurationError, match="FLAIR"):
        prepared.reference("FLAIR")


def test_nothing_is_outside_the_field_of_view_of_a_scan(tmp_path, headers_agree):
    prepared = prepare(raw_study(tmp_path, {"T1c": {}, "T2": {"keep": slice(5, 35)}}))
    ones = np.ones(prepared.grids["prepared"].shape, np.float32)
    assert prepared.bring("T1c", ones).shape == (SIDE,) * 3
    assert prepared.bring("T1c", ones)[0, 0, 0] == 0  # outside the prepared grid
    assert prepared.bring("T2", ones).shape == (SIDE, SIDE, 30)


def test_the_scan_with_the_finest_slices_is_the_one_that_others_are_brought_onto(tmp_path):
    raw = raw_study(tmp_path, {"T1c": {"step": (1, 1, 2)}, "T2": {}, "FLAIR": {}})
    assert best_scan(raw) == "FLAIR"


@pytest.mark.parametrize("modality", ["T1c", "T2"])
def test_a_registration_moves_the_scan_onto_the_fixed_one(tmp_path, monkeypatch, modality):
    images, _, affine = head()
    shifted, transform = moved(affine, (4.0, -3.0, 6.0), (7.0, -5.0, 3.0))
    fixed = "T1c" if modality == "T2" else "FLAIR"
    write_scan(tmp_path, fixed, images[fixed], affine)
    write_scan(tmp_path, modality, *on_grid(images[modality], shifted, step=(1, 1, 2)))
    found = Registration(transform, 0.95, 0.7, 0.3, 1.0, 9.0, 8.0, True, "It was moved.")
    monkeypatch.setattr(alignment, "register", lambda *scans: found)
    prepared = prepare(read_raw(tmp_path))
    np.testing.assert_array_equal(prepared.transforms[modality], transform)
    inside = [image > 0 for image in prepared.study.images.values()]
    assert dice(*inside) > 0.97
    step = next(each for each in prepared.record() if each["what"] == "registration")
    assert step["scan"] == modality and step["figures"]["shift_mm"] == 9.0 and not step["figures"]["kept"]


def test_a_registration_that_fails_its_checks_is_refused_with_the_reason(tmp_path, monkeypatch):
    found = Registration(np.eye(4), 0.6, 0.6, 9.0, 9.0, 0.0, 0.0, False, "The brains do not fit.")
    monkeypatch.setattr(alignment, "register", lambda *scans: found)
    with pytest.raises(GeometryError, match="The brains do not fit") as refused:
        prepare(raw_study(tmp_path, DIFFERENT))
    assert "--subset" in refused.value.fix


def test_scans_on_one_grid_are_not_registered_if_their_brains_lie_on_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(alignment, "register", None)
    steps = prepare(raw_study(tmp_path, {"T1c": {}, "FLAIR": {}})).record()
    (kept,) = [step for step in steps if step["what"] == "registration"]
    assert kept["figures"]["kept"] and kept["figures"]["overlap"] > 0.95


def test_headers_are_trusted_without_registration_and_a_warning_says_if_they_disagree(tmp_path, monkeypatch):
    monkeypatch.setattr(alignment, "register", None)
    images, _, affine = head()
    write_scan(tmp_path, "T1c", images["T1c"], affine)
    write_scan(tmp_path, "T2", images["T2"], moved(affine, shift_mm=(18.0, 0.0, 0.0))[0])
    with pytest.warns(InputWarning, match=r"T2 and the T1c scan overlap by 0\.\d\d only"):
        prepared = prepare(read_raw(tmp_path), registration=False)
    np.testing.assert_array_equal(prepared.transforms["T2"], np.eye(4))


def test_only_scans_that_are_needed_are_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(alignment, "register", None)
    prepared = prepare(raw_study(tmp_path, DIFFERENT), needed=["T2"])
    assert list(prepared.study.images) == ["T2"] and list(prepared.study.case.scans) == ["T2"]
    assert set(prepared.inputs) == {"T2"}


def test_a_given_brain_mask_is_that_of_the_study(tmp_path, headers_agree):
    affine = head()[2]
    raw = raw_study(tmp_path, DIFFERENT)
    mask = np.zeros((SIDE,) * 3, np.uint8)
    mask[8:32, 8:32, 8:32] = 1
    write_image(tmp_path / "mask.nii.gz", mask, affine)
    prepared = prepare(read_raw(raw.case, brain_mask=tmp_path / "mask.nii.gz"))
    volume = 24**3 * 3.5**3 / 1000
    assert prepared.study.brain.sum() / 1000 == pytest.approx(volume, rel=0.03)
    assert {"given"} <= {step["figures"].get("method") for step in prepared.record()}


def test_without_a_method_for_the_brain_all_voxels_stay(tmp_path):
    images, _, affine = head()
    head_with_skull = images["T1c"] + np.random.default_rng(1).integers(1, 50, (SIDE,) * 3, dtype=np.int16)
    write_scan(tmp_path, "T1c", head_with_skull, affine)
    prepared = prepare(read_raw(tmp_path), brain_method="none")
    assert prepared.study.brain is None and np.count_nonzero(prepared.study.images["T1c"][0, 0]) > 0


def test_n4_makes_a_tissue_more_uniform():
    image = head()[0]["T1"].astype(np.float32)
    white = image > np.percentile(image[image > 0], 70)
    uneven = image * np.linspace(0.6, 1.4, SIDE, dtype=np.float32)[:, None, None]
    corrected = correct_bias_field(uneven, image > 0)
    before, after = (values[white].std() / values[white].mean() for values in (uneven, corrected))
    assert after < 0.5 * before


def test_the_record_is_plain_and_names_what_was_done(different):
    record = different.record()
    assert json.loads(json.dumps(record)) == record
    done = [(step["scan"], step["what"]) for step in record]
    for modality in DIFFERENT:
        assert {(modality, "brain"), (modality, "resampling")} <= set(done)
    assert {("T1", "registration"), ("T2", "registration"), ("study", "mask"), ("study", "grid")} <= set(done)
    assert all(step["why"].endswith(".") and step["seconds"] >= 0 for step in record)


def test_slices_more_than_10_mm_apart_are_refused(tmp_path):
    with pytest.raises(GeometryError, match=r"14\.00 mm"):
        prepare(raw_study(tmp_path, {"T1c": {}, "T2": {"step": (1, 1, 4)}}))


def test_what_is_too_small_for_a_brain_is_refused(tmp_path):
    images, _, affine = head()
    small = affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    write_scan(tmp_path, "T1c", images["T1c"], small)
    with pytest.raises(ImageError, match=r"has \d\d mL, and brains have 500 to 2500 mL"):
        prepare(read_raw(tmp_path))


def test_a_head_that_is_cut_off_is_refused_and_a_little_less_is_noted(tmp_path):
    with pytest.raises(ImageError, match="superior part"):
        prepare(raw_study(tmp_path / "half", {"T1c": {"keep": slice(0, 28)}}))
    with pytest.warns(InputWarning, match="superior part is cut off"):
        prepare(raw_study(tmp_path / "most", {"T1c": {"keep": slice(0, 33)}}))


def test_the_cut_is_measured_on_the_face_where_it_is():
    mask = np.zeros((20, 20, 20), bool)
    mask[5:15, 5:15, 0:15] = True
    assert largest_cut(mask) == ("inferior", 1.0)
    mask[:, :, :3] = False
    assert largest_cut(mask)[1] == 0


def test_a_preparation_without_its_extra_says_why_it_is_needed_and_how_to_install_it(tmp_path, monkeypatch):
    raw = raw_study(tmp_path / "raw", DIFFERENT)
    monkeypatch.setattr("anymri.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="The files are on different grids") as refused:
        prepare(raw)
    assert refused.value.fix == "Install it: pip install 'anymri[prepare]'"
    assert prepare(read_raw(case_in(tmp_path / "ready"))).is_as_found


def test_an_unknown_method_for_the_brain_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigurationError, match="deepbt") as refused:
        prepare(raw_study(tmp_path, {"T1c": {}}), brain_method="deepbt")
    assert "Did you mean deepbet?" in refused.value.fix


@pytest.mark.acceptance
def test_a_real_label_map_keeps_its_shape_on_the_way_to_the_scan_and_back(real_data):
    folder = real_data / "tcga-du-7294"
    atlas = read_raw(scans={"t1c": folder / "atlas-space" / "TCGA-DU-7294_t1c_bet.nii.gz"})
    native = read_raw(scans={"t1c": folder / "native-space" / "TCGA-DU-7294_hdbet_native_t1c.nii.gz"})
    in_atlas, scan = atlas.scans["T1c"].image, native.scans["T1c"].image
    found = register(scan, in_atlas)
    assert found.accepted, found.reason
    way = Preparation(prepare(atlas).study, native, {"T1c": found.transform})
    labels = to_lps(read_image(folder / "automatic" / "mav.nii.gz").array, in_atlas.affine)[0]
    labels = np.where(labels == 4, 3, labels).astype(np.uint8)
    there = way.labels_on("T1c", one_hot(labels), "classes")
    back = resample_labels(there, scan.affine, way.grids["prepared"], found.transform)
    for region in ("WT", "TC"):
        assert dice(region_mask(back, region), region_mask(labels, region)) >= 0.9, region


@pytest.mark.acceptance
def test_real_scans_on_four_grids_come_to_lie_on_each_other(real_data):
    prepared = prepare(read_raw(real_data / "tcga-du-7294" / "native-space"))
    assert 1200 < prepared.study.brain.sum() / 1000 < 1320
    for step in prepared.record():
        if step["what"] == "registration":
            assert step["figures"]["overlap"] > 0.97 and step["figures"]["residual_mm"] < 1.5, step


@pytest.mark.acceptance
def test_a_real_scan_with_skull_and_thick_slices_is_prepared_alone(real_data):
    prepared = prepare(read_raw(real_data / "awkward" / "torchio-data" / "t2.nii.gz"))
    assert 1300 < prepared.study.brain.sum() / 1000 < 1900
    assert prepared.bring("T2", prepared.study.brain).shape == (320, 320, 26)
