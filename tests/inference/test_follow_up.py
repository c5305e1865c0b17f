"""Two time points of one patient: known changes, intervals as documented, and what cannot be compared."""

import json
from datetime import datetime

import numpy as np
import pytest
from scipy import ndimage

from anymri.data.image import read_image, write_image
from anymri.errors import CohortError, ConfigurationError, GeometryError, InputWarning, ModalityError
from anymri.inference import follow_up as module
from anymri.inference import segmenter
from anymri.inference.change import Change, Volumes
from anymri.inference.follow_up import follow_up
from anymri.inference.repositioning import repositioned
from anymri.inference.segmenter import Segmenter
from anymri.inference.time_points import days_between
from anymri.prepare.preparation import prepare
from anymri.prepare.raw import read_raw
from anymri.prepare.registration import Registration
from prepare import brightness
from prepare.brightness import load_brightness
from prepare.dicom.series import write_series
from prepare.moved import lps_affine, moved
from untrained import write_weights

NAMES = {"T1c": "t1c", "FLAIR": "t2f"}
SIDE = 96


def ball(centre, radius):
    """Return the share of each voxel that is in a ball, at edges by its distance, (96, 96, 96)."""
    axes = np.indices((SIDE,) * 3, np.float32)
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)))
    return np.clip(radius - distance + 0.5, 0, 1)


def brain_with(radius, seed=0):
    """Return a scan of a brain with structures and a bright ball; `seed` is that of the noise alone."""
    noise = np.random.default_rng(seed).standard_normal((SIDE,) * 3)
    structure = ndimage.gaussian_filter(np.random.default_rng(11).standard_normal((SIDE,) * 3), 4)
    axes = (np.indices((SIDE,) * 3) - 48) / np.array([37, 45, 33])[:, None, None, None]
    tumour = ball((60, 46, 52), radius)
    scan = (100 + 8 * structure / structure.std() + 1.5 * noise) * (1 - tumour) + 300 * tumour
    return np.where((axes**2).sum(0) < 1, scan, 0).astype(np.float32)


def written(folder, radius, modalities=("T1c",), change=None, seed=0):
    """Write the scans of one time point as one case and read them."""
    folder.mkdir(parents=True)
    for number, modality in enumerate(modalities):
        array, affine = brain_with(radius, seed + number), lps_affine((SIDE,) * 3)
        file = folder / f"{folder.name}-{NAMES[modality]}.nii.gz"
        write_image(file, array, affine)
        if change is not None:
            image, _ = moved(read_image(file), *change)
            write_image(file, image.array, image.affine)
    return read_raw(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Model that takes bright voxels for enhancing tumour."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter, "load_weights", load_brightness)
        return Segmenter.load(write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors"), "cpu")


@pytest.fixture(autouse=True)
def threshold(monkeypatch):
    """Let the model find the middle of the edge of the ball."""
    monkeypatch.setattr(brightness, "BRIGHT", 3.0)


@pytest.fixture
def headers_agree(monkeypatch):
    """Let every registration find that the headers are right, because the real one takes seconds."""
    found = Registration(np.eye(4), 0.95, 0.95, 0.3, 1.0, 0.0, 0.0, True, "The headers agree.")
    monkeypatch.setattr(module, "register", lambda *scans: found)


def test_a_tumour_that_grew_and_a_head_that_moved_give_the_known_change(model, tmp_path):
    first = written(tmp_path / "one", 9)
    second = written(tmp_path / "two", 13, change=((5, -4, 8), np.array([3.0, -5.0, 4.0])))
    found = follow_up(model, first, second, tmp_path / "out")
    before, after = (4 / 3 * np.pi * radius**3 / 1000 for radius in (9, 13))
    change = found.changes["ET"]
    assert change.first.volume_ml == pytest.approx(before, rel=0.1)
    assert change.change_ml == pytest.approx(after - before, rel=0.15)
    low, high = change.interval_ml
    assert low <= change.change_ml <= high and change.exceeds_interval
    # The tumour of the first time point is inside that of the second, once both are aligned.
    values = found.as_json()["regions"]["ET"]
    assert values["only_first_ml"] < 0.05 * before
    assert values["only_second_ml"] == pytest.approx(after - before, rel=0.15)
    assert found.registration.angle_degrees == pytest.approx(10, abs=1.5)
    stored = json.loads((tmp_path / "out" / "follow-up.json").read_text())
    assert stored["regions"]["ET"] == values and stored["days"] is None
    assert read_image(tmp_path / "out" / "second-on-first.nii.gz").shape == first.scans["T1c"].image.shape
    assert not list((tmp_path / "out" / "first").glob("probability*"))


def test_a_tumour_that_did_not_change_has_zero_in_its_interval(model, tmp_path, headers_agree):
    first, second = written(tmp_path / "one", 10), written(tmp_path / "two", 10, seed=7)
    change = follow_up(model, first, second).changes["ET"]
    low, high = change.interval_ml
    assert low < 0 < high and high - low < 1.6 and not change.exceeds_interval


def test_a_repositioned_case_gives_its_result_on_the_grid_of_its_scans(model, tmp_path):
    case = prepare(written(tmp_path / "one", 10))
    plain = model.segment(case, probabilities=True)
    again = model.segment(repositioned(case), probabilities=True)
    assert again.classes.shape == plain.classes.shape and not np.array_equal(again.classes, plain.classes)
    np.testing.assert_array_equal(again.reference.affine, plain.reference.affine)
    both = np.count_nonzero((plain.classes > 0) & (again.classes > 0))
    assert 2 * both / (np.count_nonzero(plain.classes) + np.count_nonzero(again.classes)) > 0.95


def test_the_interval_is_the_range_of_differences_at_equal_thresholds():
    first = Volumes({0.25: 12.0, 0.5: 10.0, 0.75: 8.0}, {0.25: 12.5, 0.5: 10.5, 0.75: 8.5})
    second = Volumes({0.25: 15.0, 0.5: 14.0, 0.75: 13.0}, {0.25: 15.0, 0.5: 14.0, 0.75: 13.0})
    change = Change(first, second)
    assert change.change_ml == 4 and change.interval_ml == (2.5, 5.0)
    assert first.range_ml == (8.0, 12.5) and change.change_percent == pytest.approx(40)
    assert change.interval_percent == (pytest.approx(20), pytest.approx(62.5))
    gone = Change(Volumes(dict.fromkeys(first.at, 0.0), first.again), second)
    assert gone.change_percent is None and gone.interval_percent is None
    assert json.loads(json.dumps(gone.as_json()))["change_percent"] is None


def test_modalities_that_only_one_time_point_has_are_not_used_and_named(model, tmp_path, headers_agree):
    first = written(tmp_path / "one", 10, ["T1c", "FLAIR"])
    second = written(tmp_path / "two", 10, ["FLAIR"], seed=5)
    with pytest.warns(InputWarning, match="from FLAIR, which both have. Not used: T1c of one"):
        found = follow_up(model, first, second)
    assert str(found.subset) == "FLAIR" == str(found.second.subset)
    with pytest.raises(ModalityError, match="two has FLAIR, not T1c"):
        follow_up(model, first, second, subset="T1c")
    with pytest.raises(ModalityError, match="no modality in common"):
        follow_up(model, written(tmp_path / "three", 10, ["T1c"], seed=9), second)


def test_one_examination_twice_is_refused(model, tmp_path):
    study = written(tmp_path / "one", 10)
    with pytest.raises(ConfigurationError, match="have a scan in common"):
        follow_up(model, study, study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_patients_by_their_names_are_refused(model, tmp_path):
    one = written(tmp_path / "BraTS-GLI-00001-000", 10)
    other = written(tmp_path / "BraTS-GLI-00002-001", 10, seed=4)
    with pytest.raises(CohortError, match="two patients by their names"):
        follow_up(model, one, other)


def test_brains_that_cannot_be_aligned_are_refused_with_the_option_that_trusts_headers(model, tmp_path, monkeypatch):
    found = Registration(np.eye(4), 0.5, 0.5, 9.0, 9.0, 0.0, 0.0, False, "Two estimates differ by 9.0 mm.")
    monkeypatch.setattr(module, "register", lambda *scans: found)
    first, second = written(tmp_path / "one", 10), written(tmp_path / "two", 10, seed=3)
    with pytest.raises(GeometryError, match=r"differ by 9\.0 mm") as refused:
        follow_up(model, first, second, tmp_path / "out")
    assert "--no-registration" in refused.value.fix and not (tmp_path / "out").exists()
    assert follow_up(model, first, second, registration=False).registration is None


def dicom(folder, date, patient="P1"):
    """Write and read a DICOM study of one series."""
    scan = np.random.default_rng(int(date)).integers(1, 900, (16, 16, 8), np.int16)
    headers = {"AcquisitionDate": date, "AcquisitionTime": "101112", "ScanningSequence": "GR"}
    headers |= {"EchoTime": 3, "RepetitionTime": 9, "ContrastBolusAgent": "Gadovist"}
    write_series(
        folder, scan, np.diag([-1.0, -1.0, 2.0, 1.0]), description="t1 KM", patient_id=patient, headers=headers
    )
    return read_raw(folder)


def test_days_come_from_the_headers_and_the_wrong_order_is_noted(tmp_path):
    first, second = dicom(tmp_path / "a", "20240110"), dicom(tmp_path / "b", "20240411")
    assert first.scans["T1c"].series.acquired == datetime(2024, 1, 10, 10, 11, 12)
    assert days_between(first, second) == 92
    with pytest.warns(InputWarning, match="older than the first"):
        assert days_between(second, first) == -92


def test_two_patients_by_their_headers_are_refused_without_their_names(model, tmp_path):
    one, other = dicom(tmp_path / "a", "20240110"), dicom(tmp_path / "b", "20240411", "SECRET")
    with pytest.raises(CohortError, match="more than one patient") as refused:
        follow_up(model, one, other)
    assert "SECRET" not in str(refused.value)
