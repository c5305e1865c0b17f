"""Warnings about scans that are probably not what they are taken for."""

import warnings

import numpy as np
import pytest

from anymri.errors import InputWarning
from anymri.prepare.preparation import prepare
from anymri.prepare.raw import read_raw
from anymri.synthesis.phantoms import phantom
from prepare.raw_phantoms import LPS, case_in, head, write_scan


def notes(folder, **how):
    """Return the texts of the warnings of a preparation."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        prepare(read_raw(folder), **how)
    return [str(each.message) for each in caught if issubclass(each.category, InputWarning)]


def test_scans_of_one_patient_cause_no_note(tmp_path):
    case_in(tmp_path, ("T1", "T1c", "T2", "FLAIR"))
    assert notes(tmp_path) == []


@pytest.mark.parametrize("as_found", [True, False])
def test_one_scan_under_two_names_is_noted(tmp_path, as_found):
    images, _, affine = head()
    for modality in ("T1", "T1c"):
        write_scan(tmp_path, modality, images["T1"], LPS if as_found else affine)
    (note,) = notes(tmp_path, registration=False)
    assert note.startswith("The T1 and the T1c scan") and "same voxels" in note


@pytest.mark.parametrize("background", [0, None])
def test_noise_and_uniform_test_objects_are_noted(tmp_path, background):
    rng = np.random.default_rng(0)
    inside = np.linalg.norm(np.mgrid[:40, :40, :40] - 19.5, axis=0) < 16
    values = np.where(inside, rng.normal(1000, 30, inside.shape), background or 0)
    if background is None:
        values += rng.normal(0, 10, inside.shape)
    write_scan(tmp_path, "T1c", values.astype(np.float32), LPS)
    (note,) = notes(tmp_path, brain_method="none")
    assert "head-t1c.nii.gz (T1c)" in note and "unrelated (correlation" in note


def test_brains_of_two_shapes_on_one_grid_are_noted(tmp_path):
    images = phantom(5, 32).images
    write_scan(tmp_path, "T1c", images["T1c"], LPS)
    write_scan(tmp_path, "FLAIR", np.roll(images["FLAIR"], 2, axis=0), LPS)
    (note,) = notes(tmp_path)
    assert note.startswith("The brains of the FLAIR and the T1c scan") and "two patients" in note
