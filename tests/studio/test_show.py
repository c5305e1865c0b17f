"""Results and cases in a notebook."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import anymri
from anymri.errors import ConfigurationError, GeometryError, MissingExtraError
from anymri.inference import load
from anymri.studio import show as module
from prepare.raw_phantoms import raw_study


@pytest.fixture(scope="module")
def case(cohort):
    return cohort / "PHANTOM-00000-000"


@pytest.fixture(scope="module")
def result(case, weights):
    return load(weights["plain"], "cpu").segment(case, "T1c+FLAIR")


def volume(widget, number):
    from nibabel import Nifti1Image

    return Nifti1Image.from_bytes(bytes(widget.volumes[number].data))


def test_result_is_shown_with_its_label_map_in_the_viewer(result):
    widget = anymri.show(result, "flair", interactive=True)
    assert [each.name for each in widget.volumes] == ["FLAIR.nii", "labels.nii"]
    assert np.array_equal(volume(widget, 1).get_fdata(), result.classes)
    assert np.allclose(volume(widget, 0).affine, result.reference.affine)
    colours = widget.volumes[1].colormap_label
    assert colours.lut[3] == 0 and colours.lut[4 * 3 : 4 * 3 + 3] == [213, 94, 0]


def test_case_is_shown_with_its_expert_label(case):
    widget = anymri.show(case, label_scheme="brats2023", interactive=True)
    assert widget.volumes[0].name == "T1c.nii" and volume(widget, 1).get_fdata().max() == 3
    assert len(anymri.show(case, interactive=True).volumes) == 1


def test_pictures_take_the_place_of_the_viewer(case, result, monkeypatch):
    assert isinstance(anymri.show(result, interactive=False), Figure)
    found = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "ipyniivue" else found(name))
    assert isinstance(anymri.show(case, label_scheme="brats2023"), Figure)


def test_missing_viewer_is_an_error_that_names_the_extra(case, monkeypatch):
    monkeypatch.setattr("anymri.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="ipyniivue"):
        anymri.show(case, interactive=True)


def test_scans_on_several_grids_are_refused_and_prepared_ones_are_shown(tmp_path):
    raw = raw_study(tmp_path / "raw", {"T1c": {}, "FLAIR": {"axes": "RSA", "step": (1, 2, 1)}})
    with pytest.raises(GeometryError, match="prepare_scans"):
        anymri.show(raw, interactive=False)
    with pytest.raises(ConfigurationError, match="no T2 scan"):
        anymri.show(anymri.prepare_scans(tmp_path / "raw", brain="none"), "t2", interactive=True)
