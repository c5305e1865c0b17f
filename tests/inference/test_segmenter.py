"""Segmentation of a case: geometry, subsets, loaded models, and what is refused."""

import json
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import anymri
from anymri.cli.commands.segment import segment as segment_command
from anymri.data.image import read_image
from anymri.data.layouts import find_cases
from anymri.errors import (
    AnymriError,
    AnymriWarning,
    CohortError,
    ConfigurationError,
    GeometryError,
    ModalityError,
    OutputError,
)
from anymri.inference import segmenter as segmenter_module
from anymri.inference.segmenter import Segmenter
from anymri.modalities import SUBSETS, Subset
from anymri.synthesis.phantoms import write_cohort
from anymri.systems.contract import Encoding, Prediction, System
from untrained import card, write_weights

NAMED = {"t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f"}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return write_cohort(folder, 1, size=48)[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


class Brightness(System):
    """A system that costs nothing: the mean of the modalities, without any layer, is the logit of every class."""

    output_kind = "classes"

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.arange(4.0)[:, None, None, None])

    def _encode(self, images, present):
        return Images(present, images)

    def _decode(self, encoding, available, reconstruct):
        used = encoding.images.masked_fill(~available[..., None, None, None], 0)
        return Prediction(used.sum(1, keepdim=True) * self.scale, self.output_kind)


@dataclass
class Images(Encoding):
    images: torch.Tensor


def scan(case, suffix):
    return next(case.glob(f"*-{suffix}.nii.gz"))


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SAL", "PIR"])
def test_output_has_the_geometry_of_the_scan_and_the_label_map_does_not_depend_on_it(case, weights, tmp_path, axes):
    turned = {}
    for name, suffix in (("t1c", "t1c"), ("flair", "t2f")):
        image = nib.load(scan(case, suffix))
        start, end = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
        turned[name] = tmp_path / f"{name}.nii.gz"
        nib.save(image.as_reoriented(nib.orientations.ornt_transform(start, end)), turned[name])
    result = anymri.segment(**turned, weights=weights, output=tmp_path / "out")
    written, reference = nib.load(tmp_path / "out" / "segmentation.nii.gz"), nib.load(turned["t1c"])
    assert written.shape == reference.shape and nib.aff2axcodes(written.affine) == tuple(axes)
    np.testing.assert_array_equal(written.affine, reference.affine)
    straight = anymri.segment(t1c=scan(case, "t1c"), flair=scan(case, "t2f"), weights=weights)
    back = nib.as_closest_canonical(written).get_fdata()
    image = nib.Nifti1Image(straight.classes, straight.reference.affine)
    np.testing.assert_array_equal(back, nib.as_closest_canonical(image).get_fdata())
    assert result.volumes_ml == straight.volumes_ml


def test_volumes_are_those_of_the_label_map(case, weights, tmp_path):
    anymri.segment(case, weights=weights, output=tmp_path)
    labels = read_image(tmp_path / "segmentation.nii.gz").array
    record = json.loads((tmp_path / "measurements.json").read_text())
    counts = {value: float((labels == value).sum()) / 1000 for value in (1, 2, 3)}
    volumes = {name: each["volume_ml"] for kind in ("classes", "regions") for name, each in record[kind].items()}
    assert volumes["NCR"] == pytest.approx(counts[1]) and volumes["ED"] == pytest.approx(counts[2])
    assert volumes["ET"] == pytest.approx(counts[3]) and volumes["TC"] == pytest.approx(counts[1] + counts[3])
    assert volumes["WT"] == pytest.approx(sum(counts.values())) and "RC" not in volumes
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert len(record["inputs"]["weights"]["sha256"]) == 64


def test_one_loaded_model_segments_every_subset(case, weights, monkeypatch):
    segmenter = anymri.load(weights)
    monkeypatch.setattr(segmenter_module, "load_weights", None)
    for subset in SUBSETS:
        result = segmenter.segment(case, subset)
        assert result.subset == subset and result.classes.shape == (48, 48, 48)


def test_five_calls_lead_from_the_command_to_the_network(case, weights, tmp_path, monkeypatch):
    stacks = []
    encode = System.encode

    def recorded(self, *given):
        package = str(Path(anymri.__file__).parent)
        stacks.append([each.name for each in traceback.extract_stack() if each.filename.startswith(package)])
        return encode(self, *given)

    monkeypatch.setattr(System, "encode", recorded)
    segment_command(case, output=tmp_path / "out", weights=[weights])
    assert stacks and all(len(stack) <= 5 for stack in stacks), stacks[0]


def test_a_case_is_given_as_folder_text_scans_or_case(case, weights):
    segmenter = Segmenter.load(str(weights))
    expected = segmenter.segment(case).classes
    scans = {alias: str(scan(case, suffix)) for alias, suffix in NAMED.items()}
    for given in (str(case), scans, find_cases(case)[0]):
        np.testing.assert_array_equal(segmenter.segment(given).classes, expected)


def test_a_result_is_saved_with_the_hashes_of_its_inputs(case, weights, tmp_path):
    result = anymri.load(weights).segment(case, "T1c")
    assert result.save(str(tmp_path / "out")) == tmp_path / "out" / "segmentation.nii.gz"
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert record["configuration"]["modalities"] == ["T1c"] and record["device"] == "cpu"
    assert set(record["inputs"]) == {"T1", "T1c", "T2", "FLAIR", "label", "weights"}


def test_an_unknown_lane_is_refused_with_the_known_ones(weights):
    with pytest.raises(ConfigurationError, match="no lane named 'torhc'") as refusal:
        anymri.load(weights, lane="torhc")
    assert "Did you mean torch?" in refusal.value.fix


def test_a_case_folder_equals_its_scans_given_one_by_one(case, weights):
    one = anymri.segment(case, weights=weights)
    other = anymri.segment(**{name: scan(case, suffix) for name, suffix in NAMED.items()}, weights=weights)
    np.testing.assert_array_equal(one.classes, other.classes)


def test_a_volume_smaller_than_the_window_is_padded(tmp_path, weights):
    folder = write_cohort(tmp_path, 1, size=24)[0]
    assert anymri.segment(folder, weights=weights).classes.shape == (24, 24, 24)


def test_no_scan_at_all_is_refused(weights):
    with pytest.raises(ModalityError, match="No scan"):
        anymri.segment(weights=weights)


def test_a_folder_of_many_cases_is_refused(tmp_path, weights):
    write_cohort(tmp_path, 2, size=24)
    with pytest.raises(CohortError, match=r"several cases: 2 \(PHANTOM-00000-000, PHANTOM-00001-000\)\."):
        anymri.segment(tmp_path, weights=weights)


def test_a_subset_with_a_missing_scan_is_refused(case, weights):
    with pytest.raises(ModalityError, match="not T1"):
        anymri.segment(t2=scan(case, "t2w"), weights=weights, subset="T1")


def test_scans_on_different_grids_make_no_study(case, tmp_path):
    image = nib.load(scan(case, "t2f"))
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:40], image.affine), tmp_path / "flair.nii.gz")
    with pytest.raises(GeometryError, match=r"40x48x48.*48x48x48"):
        anymri.read_case({"t1c": scan(case, "t1c"), "flair": tmp_path / "flair.nii.gz"})


def test_an_output_that_cannot_be_written_is_refused(case, weights, tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        anymri.segment(case, weights=weights, output=tmp_path / "file" / "out")


@pytest.mark.acceptance
def test_awkward_real_files_give_a_segmentation_or_a_clear_error(real_data):
    segmenter = Segmenter(Brightness(), card(window=96))
    suffixes = (".nii.gz", ".nii", ".mha", ".mgz")
    files = [f for f in sorted((real_data / "awkward").rglob("*")) if f.name.endswith(suffixes)]
    assert len(files) > 10
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AnymriWarning)
                result = segmenter.segment({"t1": file})
        except AnymriError as error:
            assert file.name in error.what and error.fix
        else:
            assert result.classes.shape == result.reference.shape


def test_a_real_case_without_zero_background_gets_a_label_map(real_data, weights, tmp_path):
    folder = real_data / "deepmedic-brats2013" / "brats_2013_pat0001_1"
    [case] = find_cases(folder)
    assert case.subset == Subset.parse("T1c+FLAIR") and case.brain_mask is not None
    result = anymri.segment(folder, weights=weights, output=tmp_path)
    written, reference = (nib.load(f) for f in (tmp_path / "segmentation.nii.gz", Path(case.scans["T1c"])))
    assert written.shape == reference.shape == result.classes.shape
    np.testing.assert_array_equal(written.affine, reference.affine)


def test_images_in_memory_give_the_label_map_of_their_files(case, weights, tmp_path):
    (files,) = find_cases(case)
    images = {modality: nib.load(path) for modality, path in files.scans.items()}
    model = anymri.load(weights, device="cpu")
    expected = model.segment(case)
    found = model.segment(images, output=tmp_path / "out")
    pairs = model.segment({name: (np.asarray(each.dataobj), each.affine) for name, each in images.items()})
    one = anymri.segment(t1c=images["T1c"], flair=images["FLAIR"], weights=weights, device="cpu")
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_array_equal(pairs.classes, expected.classes)
    np.testing.assert_array_equal(one.classes, model.segment(case, "T1c+FLAIR").classes)
    saved = nib.load(tmp_path / "out" / "segmentation.nii.gz")
    np.testing.assert_array_equal(saved.affine, images["T1c"].affine)
    assert saved.header.get_xyzt_units() == images["T1c"].header.get_xyzt_units() and found.space == "T1c"
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())["inputs"]["T1c"]
    assert record["file"] == "T1c (in memory)" and len(record["sha256"]) == 64


VOLUME = np.ones((24, 24, 24))
VOLUME[8:16, 8:16, 8:16] = np.arange(8)
IN_MEMORY_ERRORS = {
    "array": ({"t1": VOLUME}, "is a ndarray"),
    "affine": ({"t1": (VOLUME, np.eye(3))}, "has the shape"),
    "values": ({"t1": (np.where(VOLUME > 6, np.nan, VOLUME), np.eye(4))}, "NaN or infinite values in 64"),
    "constant": ({"t1": (0 * VOLUME, np.eye(4))}, "has the value 0 in every voxel"),
    "twice": ({"t1c": (VOLUME, np.eye(4)), "t1ce": (VOLUME, np.eye(4))}, "T1c is given twice"),
    "mixed": ({"t1c": (VOLUME, np.eye(4)), "t2": "t2.nii.gz"}, "given together"),
}


@pytest.mark.parametrize(("images", "message"), IN_MEMORY_ERRORS.values(), ids=IN_MEMORY_ERRORS)
def test_images_in_memory_that_cannot_be_used_are_refused(weights, images, message):
    with pytest.raises(AnymriError, match=message):
        anymri.load(weights, device="cpu").segment(images)
