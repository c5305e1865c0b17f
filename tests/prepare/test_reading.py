"""A case read and prepared in one call, as worker processes do: same result, and it can be sent to another process."""

import pickle

import numpy as np
import pytest

from anymri.data.layouts import find_cases
from anymri.errors import AnymriError
from anymri.prepare.preparation import prepare
from anymri.prepare.raw import read_raw
from anymri.prepare.reading import read_and_prepare
from anymri.synthesis.phantoms import phantom, write_cohort
from prepare.dicom.series import write_series

DESCRIPTIONS = {"T1c": "AX T1 POST GAD", "FLAIR": "AX T2 FLAIR"}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 1, size=32)
    return find_cases(folder)[0]


@pytest.fixture(scope="module")
def dicom(tmp_path_factory):
    """Folder of a DICOM study with two series of one phantom."""
    pytest.importorskip("pydicom")
    folder, images = tmp_path_factory.mktemp("dicom"), phantom(5, 32).images
    for number, (modality, description) in enumerate(DESCRIPTIONS.items()):
        headers = {"study_uid": "1.2.3", "series_number": number, "frame_of_reference_uid": "1.2.3.4"}
        series = folder / f"series {number}"
        write_series(
            series, images[modality].astype(float), np.diag([-1.0, -1, 1, 1]), description=description, **headers
        )
    return folder


def test_a_case_is_read_as_step_by_step(case):
    one, other = read_and_prepare(case), prepare(read_raw(case))
    assert one.name == other.name == case.name and one.is_as_found
    for modality, image in other.study.images.items():
        np.testing.assert_array_equal(one.study.images[modality], image)


def test_an_unknown_method_for_the_brain_is_refused(case):
    with pytest.raises(AnymriError, match="nothing"):
        read_and_prepare(case, brain="nothing")


@pytest.mark.parametrize("kind", ["case", "dicom"])
def test_a_preparation_can_be_sent_to_another_process(kind, request):
    content = request.getfixturevalue(kind)
    prepared = read_and_prepare(content)
    received = pickle.loads(pickle.dumps(prepared))
    assert received.name == prepared.name and received.inputs == prepared.inputs
    for modality, image in prepared.study.images.items():
        np.testing.assert_array_equal(received.study.images[modality], image)
    np.testing.assert_array_equal(received.study.reference.affine, prepared.study.reference.affine)
