"""Weights, label maps and scans that an evaluation was made from, read again from where its provenance records them."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from anymri.data.layouts import find_cases
from anymri.errors import RunError
from anymri.evaluation.originals import Originals
from anymri.files import sha256
from anymri.inference.segmenter import Segmenter
from anymri.modalities import MODALITIES, Subset
from anymri.synthesis.phantoms import write_cohort
from untrained import write_weights


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 1, size=24)
    return find_cases(folder)[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", reconstruction=True)


def recorded(files, **configuration):
    """Return what an evaluation records of these files (role -> file) and settings."""
    inputs = {role: {"file": str(file), "sha256": sha256(file)} for role, file in files.items()}
    configuration = {"label_scheme": "brats2023", **configuration}
    return SimpleNamespace(folder="EVALUATION", configuration=configuration, inputs=inputs)


def files_of(case, *roles):
    files = case.files()
    return {f"{case.name}: {role}": files[role] for role in roles}


def masks_of(case):
    """Return an evaluation whose predictions are the label maps themselves."""
    files = {**files_of(case, "label"), f"{case.name}: from T1c": case.label}
    labels = str(case.label.parent.parent)
    return recorded(files, predictions="MASKS", prediction_scheme="brats2023", labels=labels)


def test_weights_segment_and_reconstruct_what_was_evaluated(case, weights):
    evaluation = recorded({"weights": weights, **files_of(case, *MODALITIES, "label")})
    originals = Originals("cpu")
    study, original = originals.read_case(evaluation, case.name), originals.open(evaluation)
    assert list(study.images) == list(MODALITIES) and study.classes.any()
    maps = original.segment(study, ["T1c", "T1+T2"])
    segmenter = Segmenter.load(weights, "cpu")
    prepared = segmenter.prepare(study)
    (expected,) = segmenter.predict(prepared, [Subset.parse("T1+T2")])
    assert list(maps) == ["T1c", "T1+T2"] and maps["T1+T2"].shape == study.classes.shape
    np.testing.assert_array_equal(maps["T1+T2"], prepared.paste(expected.label_map()))
    _, scans = original.reconstruct(study)
    (without_t1,) = segmenter.predict(prepared, [Subset.parse("T1c+T2+FLAIR")], reconstruct=True)
    assert list(scans) == list(MODALITIES)
    np.testing.assert_array_equal(scans["T1"], without_t1.reconstructed["T1"].numpy())


def test_a_single_modality_is_not_reconstructed(case, weights):
    evaluation = recorded({"weights": weights, **files_of(case, "T1c", "label")})
    study = Originals("cpu").read_case(evaluation, case.name)
    assert list(study.images) == ["T1c"]
    assert Originals("cpu").open(evaluation).reconstruct(study) is None


def test_label_maps_are_read_in_the_orientation_of_the_scans_of_their_cohort(case):
    evaluation = masks_of(case)
    study, original = Originals().read_case(evaluation, case.name), Originals().open(evaluation)
    assert list(study.images) == list(MODALITIES)
    np.testing.assert_array_equal(original.segment(study, ["T1c"])["T1c"], study.classes)
    assert original.reconstruct(study) is None


def test_label_maps_without_a_cohort_have_no_scans_to_draw(case, tmp_path):
    label = shutil.copy(case.label, tmp_path / f"{case.name}.nii.gz")
    settings = {"predictions": "MASKS", "prediction_scheme": "brats2023", "labels": str(tmp_path)}
    with pytest.raises(RunError, match="does not contain scans"):
        Originals().read_case(recorded({f"{case.name}: label": label}, **settings), case.name)


def test_changed_missing_and_unrecorded_files_are_refused(case, weights, tmp_path):
    copied = shutil.copy(weights, tmp_path / "w.safetensors")
    evaluation = recorded({"weights": copied})
    with pytest.raises(RunError, match=r"does not name the input 'PHANTOM-.*: label'"):
        Originals().read_case(evaluation, case.name)
    (tmp_path / "w.safetensors").write_bytes(b"others")
    with pytest.raises(RunError, match="has changed since the evaluation"):
        Originals().open(evaluation)
    (tmp_path / "w.safetensors").unlink()
    with pytest.raises(RunError, match="does not exist any more"):
        Originals().open(evaluation)
