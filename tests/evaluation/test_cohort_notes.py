"""What evaluations say about files and cases that they do not use."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from anymri.data.image import read_image, write_like
from anymri.data.layouts.found import NO_LABEL, NOT_UNDERSTOOD
from anymri.errors import CohortError, ImageError, InputWarning
from anymri.evaluation.runner import evaluate
from anymri.evaluation.scoring import score
from anymri.synthesis.phantoms import write_cohort
from cli.command import anymri, check_refused
from untrained import write_weights

FIRST, SECOND = "PHANTOM-00000-000", "PHANTOM-00001-000"
FEW = {"subsets": ["FLAIR"], "metrics": ["dice"]}


@pytest.fixture
def cohort(tmp_path):
    """Two phantoms, one without a label map, and an image whose name says nothing."""
    write_cohort(tmp_path / "cohort", 2, size=32)
    label_of(tmp_path / "cohort", SECOND).unlink()
    (tmp_path / "cohort" / FIRST / "adc.nii.gz").write_bytes(b"1")
    return tmp_path / "cohort"


def label_of(cohort, case):
    return next((cohort / case).glob("*-seg.nii.gz"))


def predictions_of(cohort):
    """Return a folder whose prediction of the first case is its label map."""
    folder = cohort.parent / "predictions"
    folder.mkdir()
    shutil.copy(label_of(cohort, FIRST), folder / f"{FIRST}.nii.gz")
    return folder


def make_empty(label):
    image = read_image(label)
    write_like(label, np.zeros(image.shape, np.uint8), image)


def check_recorded(output):
    record = json.loads((output / "provenance.json").read_text())
    assert record["configuration"]["skipped"] == {NOT_UNDERSTOOD: [f"{FIRST}/adc.nii.gz"], NO_LABEL: [SECOND]}


def test_evaluate_notes_and_records_what_it_does_not_use(cohort, tmp_path):
    weights = write_weights(tmp_path / "w.safetensors")
    with pytest.warns(InputWarning) as notes:
        evaluate(weights, cohort, tmp_path / "out", **FEW)
    assert [str(note.message) for note in notes] == [
        f"Not used are {NOT_UNDERSTOOD}: 1 ({FIRST}/adc.nii.gz).",
        f"Not used are {NO_LABEL}: 1 ({SECOND}).",
    ]
    check_recorded(tmp_path / "out")


def test_score_notes_and_records_what_it_does_not_use(cohort, tmp_path):
    with pytest.warns(InputWarning) as notes:
        score(predictions_of(cohort), cohort, tmp_path / "out", "brats2023", metrics=["dice"])
    assert len(notes) == 2
    check_recorded(tmp_path / "out")


def test_strict_makes_notes_into_errors_before_any_work(cohort, tmp_path):
    command = [
        "score",
        predictions_of(cohort),
        "--labels",
        cohort,
        "--label-scheme",
        "brats2023",
        "-o",
        tmp_path / "out",
    ]
    result = anymri(*command, "--strict")
    check_refused(result, NOT_UNDERSTOOD, "--strict")
    assert not (tmp_path / "out").exists()
    result = anymri(*command)
    assert result.returncode == 0 and result.stderr.count("Note: Not used are ") == 2


def test_label_maps_without_any_tumour_are_noted(tmp_path):
    cohort = tmp_path / "cohort"
    write_cohort(cohort, 1, size=32)
    predictions = predictions_of(cohort)
    make_empty(label_of(cohort, FIRST))
    with pytest.warns(InputWarning, match="No label map in .*cohort has a voxel of tumour"):
        score(predictions, cohort, tmp_path / "scores", "brats2023", metrics=["dice"])
    with pytest.warns(InputWarning, match="No label map in .*cohort has a voxel of tumour"):
        evaluate(write_weights(tmp_path / "w.safetensors"), cohort, tmp_path / "out", **FEW)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("A_tumor_segmentation", "A"),
        ("A-ground_truth", "A"),
        ("A_seg_pred", "A"),
        ("A.lesion.mask", "A"),
        ("segmentation", "predictions"),
        ("tumour_seg", "predictions"),
        ("W_tumor", "W_tumor"),
    ],
)
def test_words_for_a_label_map_are_not_part_of_the_name_of_a_case(tmp_path, name, case):
    for folder in ("predictions", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "predictions" / f"{name}.nii.gz").write_bytes(b"1")
    (tmp_path / "labels" / "other.nii.gz").write_bytes(b"1")
    with pytest.raises(CohortError, match=f"^{case} has a prediction but no label .*, which has labels of other"):
        score(tmp_path / "predictions", tmp_path / "labels", tmp_path / "out", "brats2023")


@pytest.mark.parametrize("folder", ["predictions", "labels"])
def test_broken_label_maps_are_refused(tmp_path, folder):
    for each in ("predictions", "labels"):
        (tmp_path / each).mkdir()
        (tmp_path / each / "A.nii.gz").write_bytes(b"1")
    Path(tmp_path / folder / "B.nii.gz").symlink_to("gone.nii.gz")
    with pytest.raises(ImageError, match=r"B\.nii\.gz is a link that points nowhere"):
        score(tmp_path / "predictions", tmp_path / "labels", tmp_path / "out", "brats2023")
