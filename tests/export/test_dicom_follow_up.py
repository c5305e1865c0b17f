"""The DICOM report of two time points, read back."""

import pydicom
import pytest
from highdicom.sr import srread

from anymri.export.dicom_follow_up import CHANGE, RELATIVE_CHANGE, write_follow_up_sr
from export.dicom_phantoms import written_series

VALUES = {
    "first": {"volume_ml": 10.0},
    "second": {"volume_ml": 14.0},
    "change_ml": 4.0,
    "change_interval_ml": [2.5, 5.0],
    "change_percent": 40.0,
    "change_interval_percent": [20.0, 62.5],
}
ORDER = "126073"
NEW = VALUES | {"first": {"volume_ml": 0.0}, "change_percent": None, "change_interval_percent": None}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sr")
    first, _ = written_series(folder / "a", study_uid="1.2.3.1")
    second, _ = written_series(folder / "b", study_uid="1.2.3.2")
    file = write_follow_up_sr(folder / "out.dcm", {"WT": VALUES, "ET": NEW}, [first], [second])
    return srread(file)


def numbers(group):
    """Return name of a measurement -> content item; the order of a time point is a number too."""
    return {item.name.value: item for item in group.get_measurements() if item.name.value != ORDER}


def test_a_structure_has_one_group_per_time_point_with_one_tracking_uid(report):
    groups = report.content.get_image_measurement_groups()
    assert len(groups) == 4 and len({str(each.tracking_uid) for each in groups}) == 2
    assert groups[0].tracking_uid == groups[1].tracking_uid
    orders = [item.value for group in groups for item in group.get_measurements() if item.name.value == ORDER]
    assert orders == [1, 2, 1, 2]


def test_the_change_is_in_the_second_group_with_its_interval(report):
    first, second, _, new = (numbers(each) for each in report.content.get_image_measurement_groups())
    assert list(first) == ["118565006"] and first["118565006"].value == 10
    assert second[CHANGE.value].value == 4 and second[RELATIVE_CHANGE.value].value == 40
    around = [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in second[CHANGE.value][0].ContentSequence
        if item.ValueType == "NUM"
    ]
    assert sorted(around) == [1.0, 1.5]  # 5.0 - 4.0 above, 4.0 - 2.5 below
    assert RELATIVE_CHANGE.value not in new


def test_the_report_is_of_the_second_study_and_names_the_first_as_evidence(report):
    assert report.StudyInstanceUID == "1.2.3.2"
    assert report.CurrentRequestedProcedureEvidenceSequence[0].StudyInstanceUID == "1.2.3.2"
    assert report.PertinentOtherEvidenceSequence[0].StudyInstanceUID == "1.2.3.1"
    assert isinstance(report, pydicom.Dataset) and report.CompletionFlag == "COMPLETE"
