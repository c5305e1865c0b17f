"""DICOM measurement reports, read back by highdicom."""

import numpy as np
import pytest

from anymri.errors import ImageError
from anymri.export.dicom_seg import write_seg
from anymri.export.dicom_sr import Measured, measured_from, write_sr
from anymri.inference.measurements import measure
from prepare.dicom.series import write_series

pydicom = pytest.importorskip("pydicom")
hd = pytest.importorskip("highdicom")

AFFINE = np.array([[-1.0, 0, 0, 10.0], [0, -1.0, 0, 12.5], [0, 0, 2.0, -7.25], [0, 0, 0, 1.0]])
VALUES = {
    "WT": Measured(12.34567, 41.5, 30.25, "left"),
    "ET": Measured(2.5, 14.0, 9.5, "both"),
    "ED": Measured(9.75, side="midline"),
}


def series_and_classes(folder, series_number=1, **how):
    from anymri.prepare.dicom import read_dicom

    array = np.random.default_rng(series_number).integers(1, 500, (20, 18, 10)).astype(np.int16)
    write_series(folder, array, AFFINE, series_number=series_number, **how)
    (series,), _ = read_dicom(folder)
    classes = np.zeros(array.shape, np.uint8)
    classes[4:12, 4:12, 2:8], classes[6:9, 6:9, 3:6] = 2, 3
    return series, classes


def numbers_of(group):
    """Return meaning -> (value, unit) of a measurement group."""
    return {each.name.meaning: (each.value, each.unit.value) for each in group.get_measurements()}


def finding_of(group):
    return group.finding_type.meaning


@pytest.mark.parametrize("multiframe", [False, True])
def test_structures_refer_to_their_segments(tmp_path, multiframe):
    series, classes = series_and_classes(tmp_path / "series", multiframe=multiframe)
    seg = write_seg(tmp_path / "seg.dcm", classes, series)
    report = hd.sr.srread(write_sr(tmp_path / "sr.dcm", VALUES, series, seg))
    segments = {each.SegmentNumber: each for each in pydicom.dcmread(seg).SegmentSequence}
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert {finding_of(group) for group in groups} == {"Enhancing Lesion", "Edema"}
    for group in groups:
        reference = group.referenced_segment
        assert reference.referenced_sop_instance_uid == pydicom.dcmread(seg).SOPInstanceUID
        segment = segments[reference.referenced_segment_numbers[0]]
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == finding_of(group)
        assert group.tracking_uid == segment.TrackingUID


def test_values_have_units_and_sides(tmp_path):
    series, classes = series_and_classes(tmp_path / "series")
    seg = write_seg(tmp_path / "seg.dcm", classes, series)
    report = hd.sr.srread(write_sr(tmp_path / "sr.dcm", VALUES, series, seg)).content
    segments = {finding_of(group): group for group in report.get_volumetric_roi_measurement_groups()}
    assert numbers_of(segments["Enhancing Lesion"]) == {
        "Volume": (2.5, "mL"),
        "Long axis": (14.0, "mm"),
        "Perpendicular Axis": (9.5, "mm"),
    }
    assert numbers_of(segments["Edema"]) == {"Volume": (9.75, "mL")}
    assert segments["Enhancing Lesion"].finding_sites[0].laterality.meaning == "Bilateral"
    assert segments["Edema"].finding_sites[0].laterality is None


def test_whole_tumour_is_a_group_without_segment_where_segments_are_classes(tmp_path):
    series, classes = series_and_classes(tmp_path / "series")
    seg = write_seg(tmp_path / "seg.dcm", classes, series)
    report = hd.sr.srread(write_sr(tmp_path / "sr.dcm", VALUES, series, seg)).content
    (whole,) = report.get_image_measurement_groups()
    assert (finding_of(whole), numbers_of(whole)["Volume"]) == ("Lesion of Brain", (12.3457, "mL"))
    regions = write_seg(tmp_path / "regions.dcm", classes, series, segments="regions")
    report = hd.sr.srread(write_sr(tmp_path / "sr.dcm", VALUES, series, regions)).content
    findings = {finding_of(group) for group in report.get_volumetric_roi_measurement_groups()}
    assert findings == {"Lesion of Brain", "Enhancing Lesion"}


def test_report_of_no_tumour_has_volumes_of_zero(tmp_path):
    series, _ = series_and_classes(tmp_path / "series")
    nothing = {name: Measured(0.0) for name in ("WT", "TC", "ET")}
    report = hd.sr.srread(write_sr(tmp_path / "sr.dcm", nothing, series, None)).content
    groups = report.get_image_measurement_groups()
    assert [numbers_of(group) for group in groups] == 3 * [{"Volume": (0.0, "mL")}]


@pytest.mark.parametrize("multiframe", [False, True])
def test_report_belongs_to_the_study_and_lists_its_evidence(tmp_path, multiframe):
    series, classes = series_and_classes(tmp_path / "series", multiframe=multiframe)
    seg = write_seg(tmp_path / "seg.dcm", classes, series)
    dataset = hd.sr.srread(write_sr(tmp_path / "sr.dcm", VALUES, series, seg))
    evidence = {instance for _, _, instance, _ in dataset.get_evidence()}
    files = {header.SOPInstanceUID for header in series.headers}
    assert evidence == files | {pydicom.dcmread(seg).SOPInstanceUID}
    assert dataset.StudyInstanceUID == series.study_uid
    assert (str(dataset.PatientName), dataset.PatientID) == ("Phantom^P1", "P1")
    assert (dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )


def test_other_series_are_listed_as_evidence(tmp_path):
    first, classes = series_and_classes(tmp_path / "first")
    second, _ = series_and_classes(tmp_path / "second", series_number=2)
    seg = write_seg(tmp_path / "seg.dcm", classes, first)
    dataset = hd.sr.srread(write_sr(tmp_path / "sr.dcm", VALUES, first, seg, others=[second]))
    assert {uid for _, uid in dataset.get_evidence_series()} >= {first.series_uid, second.series_uid}


def test_segmentation_of_another_series_is_refused(tmp_path):
    first, classes = series_and_classes(tmp_path / "first")
    second, _ = series_and_classes(tmp_path / "second", series_number=2)
    seg = write_seg(tmp_path / "seg.dcm", classes, first)
    with pytest.raises(ImageError, match=r"seg\.dcm was not made for series 2"):
        write_sr(tmp_path / "sr.dcm", VALUES, second, seg)


def test_measurements_of_a_result_are_reported(tmp_path):
    _, classes = series_and_classes(tmp_path / "series")
    found = measure(classes, AFFINE, middle_mm=200.0)
    measured = measured_from(found.as_json())
    assert set(measured) == {"WT", "TC", "ET", "NCR", "ED"}
    assert measured["WT"].volume_ml == pytest.approx((classes > 0).sum() * 2 / 1000)
    assert measured["NCR"] == Measured(0.0)
    largest = found.regions["ET"].lesions[0].diameters
    assert measured["ET"].longest_mm == pytest.approx(largest.longest_mm, abs=0.05)
    assert measured["ET"].perpendicular_mm == pytest.approx(largest.perpendicular_mm, abs=0.05)
    assert measured["WT"].side == "left"
