"""Segmentation of a case: geometry, subsets, windows, and what is refused."""

import json
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import anymri
from anymri.data.image import read_image
from anymri.data.layouts import find_cases
from anymri.errors import AnymriError, AnymriWarning, CohortError, GeometryError, ModalityError, OutputError
from anymri.inference.windows import Windows, predict
from anymri.modalities import SUBSETS, Subset
from anymri.synthesis.phantoms import write_cohort
from untrained import prepared, write_weights


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    return write_cohort(folder, 1, size=48)[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


def scan(case, suffix):
    return next(case.glob(f"*-{suffix}.nii.gz"))


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SAL", "PIR"])
def test_output_has_the_geometry_of_the_scan_and_the_answer_does_not_depend_on_it(case, weights, tmp_path, axes):
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
    record = json.loads((tmp_path / "volumes.json").read_text())
    counts = {value: float((labels == value).sum()) / 1000 for value in (1, 2, 3)}
    volumes = record["volumes_ml"]
    assert volumes["NCR"] == pytest.approx(counts[1]) and volumes["ED"] == pytest.approx(counts[2])
    assert volumes["ET"] == pytest.approx(counts[3]) and volumes["TC"] == pytest.approx(counts[1] + counts[3])
    assert volumes["WT"] == pytest.approx(sum(counts.values())) and "RC" not in volumes
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert len(record["inputs"]["weights"]["sha256"]) == 64


@pytest.mark.parametrize("subset", SUBSETS, ids=str)
def test_every_subset_gives_a_label_map(case, weights, subset):
    result = anymri.segment(case, weights=weights, subset=subset)
    assert result.subset == subset and result.classes.shape == (48, 48, 48)


def test_a_case_folder_equals_its_scans_named_one_by_one(case, weights):
    named = {"t1": "t1n", "t1c": "t1c", "t2": "t2w", "flair": "t2f"}
    one = anymri.segment(case, weights=weights)
    other = anymri.segment(**{name: scan(case, suffix) for name, suffix in named.items()}, weights=weights)
    np.testing.assert_array_equal(one.classes, other.classes)


def test_a_volume_smaller_than_the_window_is_padded(tmp_path, weights):
    folder = write_cohort(tmp_path, 1, size=24)[0]
    assert anymri.segment(folder, weights=weights).classes.shape == (24, 24, 24)


def test_windows_of_one_volume_agree_with_a_single_forward_pass():
    system = anymri.create("u_hved", preset="nano")
    images = torch.randn(1, 4, 32, 32, 32)
    volume = prepared(images[0])
    subsets = [Subset.parse("T2"), Subset.parse("T1c+FLAIR")]
    answers = predict(system, volume, subsets, Windows(32, 0.5))
    for subset, answer in zip(subsets, answers, strict=True):
        with torch.inference_mode():
            expected = system(images, subset.as_tensor()).probabilities()[0]
        torch.testing.assert_close(answer.probabilities, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
def test_windows_count_alike_where_they_overlap_only_if_told_to(blending):
    """Two windows side by side, half of each in the other: the mean of both, or more of the one that is nearer."""
    torch.manual_seed(0)
    system = anymri.create("u_hved", preset="nano", width=4)
    images = torch.randn(1, 4, 48, 32, 32)
    everything = SUBSETS[-1]
    present = everything.as_tensor()
    volume = prepared(images[0])
    answer = predict(system, volume, [everything], Windows(32, 0.5, blending))[0].probabilities
    with torch.inference_mode():
        first, second = (system(images[:, :, x : x + 32], present).probabilities()[0] for x in (0, 16))
    mean = (first[:, 16:] + second[:, :16]) / 2
    if blending == "constant":
        torch.testing.assert_close(answer[:, 16:32], mean, rtol=1e-4, atol=1e-5)
    else:
        # On the line through the middle of the first window, where the second one ends.
        near, far = ((answer[:, 16] - w)[:, 14:18, 14:18].abs().mean() for w in (first[:, 16], second[:, 0]))
        assert near < far / 50
    torch.testing.assert_close(answer[:, :16], first[:, :16], rtol=1e-4, atol=1e-5)


def test_thick_slices_are_said_to_be_a_risk(case, weights, tmp_path):
    image = nib.load(scan(case, "t2f"))
    nib.save(nib.Nifti1Image(image.dataobj, np.diag([-1, -1, 5, 1])), tmp_path / "flair.nii.gz")
    with pytest.warns(AnymriWarning, match=r"5\.00 mm"):
        anymri.segment(flair=tmp_path / "flair.nii.gz", weights=weights)


def test_no_scan_at_all_is_refused(weights):
    with pytest.raises(ModalityError, match="No scan"):
        anymri.segment(weights=weights)


def test_a_folder_of_many_cases_is_refused(tmp_path, weights):
    write_cohort(tmp_path, 2, size=24)
    with pytest.raises(CohortError, match="2 cases"):
        anymri.segment(tmp_path, weights=weights)


def test_a_subset_that_the_case_lacks_is_refused(case, weights):
    with pytest.raises(ModalityError, match="not T1"):
        anymri.segment(t2=scan(case, "t2w"), weights=weights, subset="T1")


def test_scans_on_different_grids_are_refused_with_both_grids(case, weights, tmp_path):
    image = nib.load(scan(case, "t2f"))
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:40], image.affine), tmp_path / "flair.nii.gz")
    with pytest.raises(GeometryError, match=r"40x48x48.*48x48x48"):
        anymri.segment(t1c=scan(case, "t1c"), flair=tmp_path / "flair.nii.gz", weights=weights)


def test_an_output_that_cannot_be_written_is_refused(case, weights, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        anymri.segment(case, weights=weights, output=tmp_path / "file" / "out")


def test_awkward_real_files_give_a_segmentation_or_a_clear_error(real_data, weights):
    suffixes = (".nii.gz", ".nii", ".mha", ".mgz")
    files = [f for f in sorted((real_data / "awkward").rglob("*")) if f.name.endswith(suffixes)]
    assert len(files) > 10
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AnymriWarning)
                result = anymri.segment(t1=file, weights=weights)
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
