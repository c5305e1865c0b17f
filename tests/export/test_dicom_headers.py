"""Elements of DICOM segmentations other than voxels: what the standard requires, and the patient."""

import pytest

from anymri.errors import ImageError
from anymri.export.dicom_seg import write_seg
from anymri.export.dicom_sr import Measured, write_sr
from export.dicom_phantoms import written_series

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")


def test_object_has_every_element_that_the_standard_requires(tmp_path):
    series, classes = written_series(tmp_path / "series")
    for kind in ("binary", "labelmap"):
        dataset = pydicom.dcmread(write_seg(tmp_path / "seg.dcm", classes, series, kind=kind))
        required = """SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality SeriesNumber Manufacturer
            ManufacturerModelName DeviceSerialNumber SoftwareVersions InstanceNumber ContentDate ContentTime ImageType
            ContentLabel ContentDescription SamplesPerPixel PhotometricInterpretation PixelRepresentation BitsAllocated
            BitsStored HighBit Rows Columns PixelData LossyImageCompression SegmentationType SegmentSequence
            NumberOfFrames SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence DimensionIndexSequence
            DimensionOrganizationSequence FrameOfReferenceUID ReferencedSeriesSequence"""
        assert all(dataset.get(keyword) not in (None, "") for keyword in required.split())
        may_be_empty = """PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber
            ReferringPhysicianName PositionReferenceIndicator"""
        assert all(keyword in dataset for keyword in may_be_empty.split())
        assert dataset.FrameOfReferenceUID == series.frame_of_reference_uid
        assert dataset.StudyInstanceUID == series.study_uid
        assert dataset.SeriesInstanceUID != series.series_uid
        assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == series.series_uid


def test_patient_of_any_script_is_copied(tmp_path):
    patient = {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": "Müller^Jürgen",
        "OtherPatientNames": "Björk^Jürgen",
        "PatientBirthDate": "19340807",
        "PatientSex": "M",
        "PatientAge": "086Y",
        "IssuerOfPatientID": "Klinik",
        "StudyDescription": "Schädel",
        "AccessionNumber": "A77",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "Basic profile",
    }
    series, classes = written_series(tmp_path / "series", headers=patient)
    dataset = pydicom.dcmread(write_seg(tmp_path / "seg.dcm", classes, series))
    del patient["SpecificCharacterSet"]
    assert {keyword: str(dataset[keyword].value) for keyword in patient} == patient


@pytest.mark.filterwarnings("ignore:.*[Ii]nvalid")
def test_faulty_and_missing_elements_are_left_empty(tmp_path):
    missing = ("AccessionNumber", "StudyID", "ReferringPhysicianName", "PatientName", "PatientID", "PatientBirthDate")
    series, classes = written_series(tmp_path / "series")
    for header in series.headers:
        for keyword in (*missing, "SliceThickness"):
            del header[keyword]
        header.PatientSex = "X"
        header["StudyDate"] = pydicom.DataElement(0x00080020, "DA", "1 May", validation_mode=pydicom.config.IGNORE)
    seg = write_seg(tmp_path / "seg.dcm", classes, series)
    for file in (seg, write_sr(tmp_path / "sr.dcm", {"WT": Measured(1.0)}, series, seg)):
        dataset = pydicom.dcmread(file)
        assert all(dataset[keyword].is_empty for keyword in (*missing, "PatientSex", "StudyDate"))
    dataset = pydicom.dcmread(seg)
    assert dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2.5


def test_series_without_uids_is_refused_by_its_name(tmp_path):
    series, classes = written_series(tmp_path / "series", description="t1 mprage")
    del series.headers[3].SOPInstanceUID
    with pytest.raises(ImageError, match=r"series 1 \(t1 mprage\) lacks SOPInstanceUID"):
        write_seg(tmp_path / "seg.dcm", classes, series)


def test_names_of_patients_are_in_no_message(tmp_path, caplog, capfd, recwarn):
    name = "Secret Name"  # highdicom warns of names without a caret, and quotes them
    series, classes = written_series(tmp_path / "series")
    for header in series.headers:
        header["PatientName"] = pydicom.DataElement(0x00100010, "PN", name, validation_mode=pydicom.config.IGNORE)
    write_seg(tmp_path / "seg.dcm", classes, series)
    shown = caplog.text + "".join(capfd.readouterr()) + "".join(str(warning.message) for warning in recwarn)
    assert "Secret" not in shown
