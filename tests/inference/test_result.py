"""Result of one case: the files of its folder, their geometry and their content."""

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from anymri.data.case import Study
from anymri.data.image import Image, read_image
from anymri.data.layouts import find_cases
from anymri.errors import OutputError
from anymri.inference.result import Result
from anymri.inference.result_files import ADDED, FILES
from anymri.inference.uncertainty import entropy
from anymri.modalities import SUBSETS, Subset
from anymri.prepare.preparation import Preparation
from anymri.prepare.raw import RawScan, RawStudy
from anymri.prepare.steps import Step
from anymri.provenance import hashed
from anymri.regions import region_mask
from anymri.synthesis.phantoms import write_cohort
from untrained import card

PLAIN = {"segmentation.nii.gz", "measurements.json", "measurements.csv", "provenance.json"}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return find_cases(write_cohort(tmp_path_factory.mktemp("cohort"), 1, size=48)[0])[0]


@pytest.fixture
def result(case):
    """Return a result whose label map is the expert's."""
    reference = read_image(case.scans["T1c"])
    classes = read_image(case.label).array.astype(np.uint8)
    return Result(
        classes=classes,
        subset=Subset.parse("T1c+FLAIR"),
        reference=reference,
        case=case,
        card=card(),
        inputs=hashed(case.files()),
        device="cpu",
    )


@pytest.fixture
def full(result):
    """Return a result with all maps."""
    rng = np.random.default_rng(0)
    masks = np.stack([region_mask(result.classes, region) for region in ("WT", "TC", "ET")])
    probabilities = np.where(masks, 0.95, 0.02) + rng.uniform(-0.01, 0.01, masks.shape)
    return replace(
        result,
        probabilities=probabilities.astype(np.float16),
        uncertainty=entropy(probabilities),
        disagreement=np.full(result.classes.shape, 0.25, np.float16),
        reconstructed={"T2": rng.normal(size=result.classes.shape).astype(np.float32)},
    )


def read(folder, name):
    return json.loads((folder / name).read_text())


def test_a_result_writes_the_maps_that_it_has(result, full, tmp_path):
    result.save(tmp_path / "plain")
    assert {path.name for path in (tmp_path / "plain").iterdir()} == PLAIN
    full.save(tmp_path / "full", statistics=True)
    assert {path.name for path in (tmp_path / "full").iterdir()} == PLAIN | {
        "probability-WT.nii.gz",
        "probability-TC.nii.gz",
        "probability-ET.nii.gz",
        "uncertainty.nii.gz",
        "disagreement.nii.gz",
        "reconstructed-T2.nii.gz",
        "statistics.json",
    }


def test_probabilities_can_count_in_the_measurements_without_being_written(full, tmp_path):
    full.save(tmp_path, probabilities=False)
    assert not list(tmp_path.glob("probability-*"))
    assert "volume_ml_at_0.25" in read(tmp_path, "measurements.json")["regions"]["WT"]


def test_every_map_has_the_geometry_of_the_reference(full, tmp_path):
    full.save(tmp_path)
    reference = nib.load(full.reference.path)
    maps = sorted(tmp_path.glob("*.nii.gz"))
    assert len(maps) == 7
    for path in maps:
        image = nib.load(path)
        assert image.shape == reference.shape
        np.testing.assert_array_equal(image.affine, reference.affine)
        assert image.get_data_dtype() == (np.uint8 if path.name == "segmentation.nii.gz" else np.float32)


def test_written_probabilities_are_those_in_memory_and_cut_at_the_same_voxels(full, tmp_path):
    full.save(tmp_path)
    for index, region in enumerate(("WT", "TC", "ET")):
        written = read_image(tmp_path / f"probability-{region}.nii.gz").array
        np.testing.assert_array_equal(written, full.probabilities[index].astype(np.float32))
        np.testing.assert_array_equal(written > 0.5, region_mask(full.classes, region))


def test_measurements_are_those_of_the_written_label_map(full, tmp_path):
    full.save(tmp_path)
    labels, content = read_image(tmp_path / "segmentation.nii.gz").array, read(tmp_path, "measurements.json")
    assert content["case"] == full.case.name and content["modalities"] == ["T1c", "FLAIR"]
    assert content["missing"] == ["T1", "T2"] and content["label_values"]["ET"] == 3
    for name, value in (("NCR", 1), ("ED", 2), ("ET", 3)):
        assert content["classes"][name]["volume_ml"] == pytest.approx((labels == value).sum() / 1000)
    regions = content["regions"]
    assert regions["WT"]["volume_ml"] == pytest.approx((labels > 0).sum() / 1000)
    assert regions["WT"]["volume_ml_at_0.75"] <= regions["WT"]["volume_ml"] <= regions["WT"]["volume_ml_at_0.25"]
    assert regions["WT"]["lesions"] and regions["WT"]["side"] in ("left", "right", "both", "midline")
    rows = list(csv.DictReader((tmp_path / "measurements.csv").read_text().splitlines()))
    (volume,) = (r["value"] for r in rows if (r["structure"], r["lesion"], r["name"]) == ("WT", "", "volume_ml"))
    assert float(volume) == regions["WT"]["volume_ml"]
    assert content["expected_dice"] is None


def test_measurements_have_what_missing_modalities_would_bring(result, tmp_path):
    table = {str(subset): {"ET": 0.2 * len(subset)} for subset in SUBSETS}
    result.save(tmp_path, dice_by_subset=table)
    expected = read(tmp_path, "measurements.json")["expected_dice"]
    assert list(expected) == ["T1", "T2"]
    assert expected["T2"] == {"ET": {"before": 0.4, "after": 0.6, "change": 0.2}}


def test_statistics_are_of_the_reference_scan(result, tmp_path):
    result.save(tmp_path, statistics=True)
    found = read(tmp_path, "statistics.json")["ET"]
    enhancing = result.classes == 3
    assert found["volume"] == enhancing.sum()
    assert found["intensity"] == pytest.approx(result.reference.array[enhancing].mean(), abs=0.01)


def test_a_new_result_replaces_every_file_of_an_earlier_one(result, full, tmp_path):
    full.save(tmp_path, statistics=True)
    for name in ADDED:
        (tmp_path / name).write_text("made from the earlier result")
    (tmp_path / "notes.txt").write_text("of a person")
    result.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == PLAIN | {"notes.txt"}


def test_provenance_is_written_last(full, tmp_path, monkeypatch):
    full.save(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("anymri.inference.result.provenance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        full.save(tmp_path)
    assert not (tmp_path / "provenance.json").exists() and (tmp_path / "measurements.json").exists()


@pytest.mark.parametrize("name", ["uncertainty.nii.gz", "preview.png"])
def test_a_result_never_overwrites_an_input(result, tmp_path, name):
    (tmp_path / name).write_bytes(result.reference.path.read_bytes())
    taken = replace(result, inputs=hashed({"T1c": tmp_path / name}))
    with pytest.raises(OutputError, match="it is an input"):
        taken.save(tmp_path)
    assert name in FILES and (tmp_path / name).exists()


def test_a_result_is_shown_by_its_case_subset_and_volumes(result):
    text = repr(result)
    assert text.startswith(f"Result({result.case.name}, T1c+FLAIR: WT ") and text.endswith(" mL)")
    assert len(text) < 150


def test_scans_of_a_result_are_on_its_grid(result):
    scans = result.scans()
    assert result.space == "T1c" and list(scans) == ["T1", "T1c", "T2", "FLAIR"]
    np.testing.assert_array_equal(scans["T1c"], result.reference.array)


@pytest.fixture
def prepared(result):
    """Return a result on the grid of a T1c scan of 2 mm voxels, of a study on 1 mm voxels that was moved by 4 mm.

    Each value of the study is the x coordinate of its voxel.
    """
    shape, scan_shape = (40, 40, 40), (18, 16, 14)
    affine, scan_affine = np.diag([-1.0, -1, 1, 1]), np.diag([2.0, 2, 2, 1])
    scan_affine[:3, 3] = [-34, -36, 2]
    ramp = np.broadcast_to(-np.arange(40, dtype=np.float32)[:, None, None], shape)
    image = Image(np.zeros(scan_shape, np.float32), scan_affine, result.reference.path)
    study = Study(result.case, {"T1c": ramp}, affine, None, None, image)
    moved = np.eye(4)
    moved[0, 3] = 4
    raw = RawStudy("moved", {"T1c": RawScan(image, ())}, case=result.case, inputs={})
    steps = (Step("T1c", "registration", "The scan was moved.", {"shift_mm": 4.0}, 1.5),)
    return replace(
        result,
        classes=np.full(scan_shape, 2, np.uint8),
        subset=Subset.parse("T1c"),
        reference=image,
        preparation=Preparation(study, raw, {"T1c": moved}, steps),
    )


def test_scans_of_a_prepared_study_are_brought_back_to_the_grid_of_the_result(prepared):
    assert prepared.space == "T1c"
    expected = np.broadcast_to((np.arange(18) * 2 - 34 - 4)[:, None, None], (18, 16, 14))
    inside = expected >= -36  # within the study
    np.testing.assert_allclose(prepared.scans()["T1c"][inside], expected[inside], atol=0.05)
    assert replace(prepared, reference=prepared.preparation.reference("prepared")).space == "prepared"


def test_provenance_has_the_steps_of_the_preparation_and_the_space(prepared, tmp_path):
    prepared.save(tmp_path)
    configuration = read(tmp_path, "provenance.json")["configuration"]
    assert configuration["space"] == "T1c"
    (step,) = configuration["preparation"]
    assert (step["what"], step["figures"], step["seconds"]) == ("registration", {"shift_mm": 4.0}, 1.5)
    assert read(tmp_path, "measurements.json")["grid"] == {
        "space": "T1c",
        "shape": [18, 16, 14],
        "spacing_mm": [2.0, 2.0, 2.0],
        "orientation": "RAS",
    }
