"""Which files form a series, which series are scans, and whose they are."""

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from anymri.errors import CohortError, ImageError
from anymri.prepare.dicom import check_one_patient, read_dicom
from prepare.dicom.series import in_plane, write_series

ARRAY = np.random.default_rng(1).integers(0, 1000, (8, 9, 6)).astype(np.int16)
AFFINE = np.diag([-1.0, -1.0, 4.0, 1.0])


def write(folder, number, **options):
    return write_series(folder, ARRAY + number, AFFINE, series_number=number, **options)


def test_series_are_told_apart_by_their_uid_in_one_folder(tmp_path):
    write(tmp_path, 1, description="t1")
    write(tmp_path, 2, description="t2", multiframe=True)
    series, _ = read_dicom(tmp_path)
    assert [one.description for one in series] == ["t1", "t2"]
    for one in series:
        np.testing.assert_array_equal(one.image.array, ARRAY + one.number)


def test_headers_have_no_pixels_and_follow_the_slices(tmp_path):
    files = write(tmp_path, 3, shuffle=True)
    (series,), _ = read_dicom(tmp_path)
    assert [header.SOPInstanceUID for header in series.headers] == [dcmread(file).SOPInstanceUID for file in files]
    assert not any("PixelData" in header for header in series.headers)
    assert series.study_uid == series.headers[0].StudyInstanceUID
    assert series.frame_of_reference_uid == series.headers[0].FrameOfReferenceUID
    assert (series.acquired.hour, series.acquired.minute) == (10, 18)


def test_frames_of_one_file_are_ordered_along_their_normal(tmp_path):
    (file,) = write(tmp_path, 1, multiframe=True, reverse=True)
    (series,), _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(series.image.array, ARRAY + 1)
    assert (series.frames, series.files, len(series.headers)) == ((5, 4, 3, 2, 1, 0), (file,), 1)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("EchoTime", (20, 90)),
        ("TemporalPositionIdentifier", (1, 2)),
        ("AcquisitionNumber", (1, 2)),
        ("AcquisitionTime", ("101500", "102000")),
    ],
)
def test_series_with_two_volumes_is_divided(tmp_path, keyword, values):
    write_series(tmp_path / "a", ARRAY, AFFINE, headers={keyword: values[0]})
    for place, file in enumerate(write_series(tmp_path / "b", ARRAY + 7, AFFINE, headers={keyword: values[1]})):
        dataset = dcmread(file)
        dataset.SOPInstanceUID = f"1.2.3.{place + 1}"
        dataset.save_as(file)
    series, _ = read_dicom(tmp_path)
    assert [one.part for one in series] == [1, 2]
    for one, expected in zip(series, (ARRAY, ARRAY + 7), strict=True):
        np.testing.assert_array_equal(one.image.array, expected)


def test_two_orientations_in_one_series_are_two_volumes(tmp_path):
    write_series(tmp_path / "a", ARRAY, AFFINE)
    for place, file in enumerate(write_series(tmp_path / "b", *in_plane(ARRAY, AFFINE, "sagittal"))):
        dataset = dcmread(file)
        dataset.SOPInstanceUID = f"1.2.3.{place + 1}"
        dataset.save_as(file)
    series, _ = read_dicom(tmp_path)
    assert {one.image.shape for one in series} == {(8, 9, 6), (9, 6, 8)}


def test_series_in_three_orientations_is_a_localiser(tmp_path):
    write(tmp_path, 1)
    for place, plane in enumerate(("axial", "coronal", "sagittal")):
        for index, file in enumerate(write_series(tmp_path / plane, *in_plane(ARRAY, AFFINE, plane), series_number=2)):
            dataset = dcmread(file)
            dataset.SOPInstanceUID = f"1.2.3.{place + 1}.{index + 1}"
            dataset.save_as(file)
    series, left_out = read_dicom(tmp_path)
    assert [one.number for one in series] == [1]
    assert left_out == ["Series 2 left out: it is a localiser: its slices have three orientations."]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localiser"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]}, "a diffusion map"),
        ({"ImageType": ["DERIVED", "SECONDARY", "PERFUSION", "RELCBV"]}, "a perfusion map"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "a projection"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SUBTRACTION"]}, "a subtraction"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "a phase image"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "a mosaic"),
        ({"PhotometricInterpretation": "RGB"}, "in colour"),
    ],
)
def test_other_images_are_left_out_with_the_reason(tmp_path, headers, reason):
    write(tmp_path, 1)
    write(tmp_path, 2, description="map", headers=headers)
    series, left_out = read_dicom(tmp_path)
    assert [one.number for one in series] == [1]
    assert len(left_out) == 1
    assert left_out[0].startswith("Series 2 (map) left out: ")
    assert reason in left_out[0]


def test_derived_scan_without_a_word_for_maps_stays(tmp_path):
    write(tmp_path, 1, headers={"ImageType": ["DERIVED", "PRIMARY", "M", "DENOISED"]})
    series, left_out = read_dicom(tmp_path)
    assert (len(series), left_out) == (1, [])


def test_reformatted_series_is_left_out_beside_its_source_only(tmp_path):
    headers = {"ImageType": ["DERIVED", "SECONDARY", "MPR"], "EchoTime": 3}
    write(tmp_path, 2, headers=headers)
    assert len(read_dicom(tmp_path)[0]) == 1
    write(tmp_path, 1, headers={"EchoTime": 3})
    series, left_out = read_dicom(tmp_path)
    assert [one.number for one in series] == [1]
    assert "reformatted from another series" in left_out[0]


def test_other_objects_are_left_out_and_counted(tmp_path):
    write(tmp_path, 1)
    write(tmp_path, 2, headers={"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"})
    write(tmp_path, 3, headers={"Modality": "SEG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"})
    series, left_out = read_dicom(tmp_path)
    assert len(series) == 1
    assert left_out == [
        "1 series of CT (6 files) left out: only MR images are read.",
        "1 series of SEG (6 files) left out: only MR images are read.",
    ]


def test_folder_without_an_mr_series_says_what_it_has(tmp_path):
    write(tmp_path, 2, headers={"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"})
    with pytest.raises(ImageError, match=r"no MR series that can be used\. 1 series of CT"):
        read_dicom(tmp_path)


def test_few_slices_are_left_out_unless_asked_for(tmp_path):
    write_series(tmp_path, ARRAY[..., :4], AFFINE)
    with pytest.raises(ImageError, match="it has 4 slices, as a localiser has"):
        read_dicom(tmp_path)
    assert len(read_dicom(tmp_path, fewest_slices=4)[0]) == 1


def test_blank_series_is_left_out(tmp_path):
    write(tmp_path, 1)
    write_series(tmp_path, np.full_like(ARRAY, 5), AFFINE, series_number=2)
    series, left_out = read_dicom(tmp_path)
    assert len(series) == 1
    assert "the value 5 in every voxel" in left_out[0]


def test_series_with_very_many_volumes_is_left_out(tmp_path):
    write(tmp_path, 1)
    for volume in range(9):
        files = write_series(
            tmp_path / str(volume), ARRAY, AFFINE, series_number=2, headers={"TemporalPositionIdentifier": volume + 1}
        )
        for index, file in enumerate(files):
            dataset = dcmread(file)
            dataset.SOPInstanceUID = f"1.2.{volume + 1}.{index + 1}"
            dataset.save_as(file)
    series, left_out = read_dicom(tmp_path)
    assert [one.number for one in series] == [1]
    assert "it holds 9 volumes" in left_out[0]


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "SECRET-2"},
        {"PatientBirthDate": "19850403"},
        {"PatientName": "Secretname^Other"},
    ],
)
def test_two_patients_are_refused_without_their_identifiers(tmp_path, other):
    write(tmp_path, 1, patient_id="SECRET-1", study_uid="1.2.3")
    headers = {"PatientID": "SECRET-1", "PatientName": "Phantom^SECRET-1"} | other
    write(tmp_path, 2, patient_id="SECRET-1", study_uid="1.2.3", headers=headers)
    with pytest.raises(CohortError, match="more than one patient") as caught:
        read_dicom(tmp_path)
    for secret in ("SECRET", "Secretname", "1985", "1970"):
        assert secret.lower() not in str(caught.value).replace(str(tmp_path), "").lower()


def test_name_in_another_spelling_or_missing_is_the_same_patient(tmp_path):
    write(tmp_path, 1, study_uid="1.2.3", headers={"PatientName": "DOE^JANE^"})
    write(tmp_path, 2, study_uid="1.2.3", headers={"PatientName": "Doe^Jane", "PatientBirthDate": None})
    assert len(read_dicom(tmp_path)[0]) == 2


def test_patients_of_several_folders_can_be_compared(tmp_path):
    write(tmp_path / "a", 1, patient_id="A")
    write(tmp_path / "b", 2, patient_id="B")
    first, second = (read_dicom(tmp_path / name)[0][0] for name in "ab")
    check_one_patient([first, first])
    assert first.patient_key != second.patient_key
    with pytest.raises(CohortError, match="more than one patient"):
        check_one_patient([first, second])


def test_several_studies_are_numbered_by_date_without_showing_it(tmp_path):
    write(tmp_path, 1, study_uid="1.2.9", headers={"StudyDate": "20190301"})
    write(tmp_path, 2, study_uid="1.2.3", headers={"StudyDate": "20200301"})
    write(tmp_path, 3, study_uid="1.2.3", headers={"StudyDate": "20200301"})
    with pytest.raises(CohortError, match=r"study 1 with 1 series, study 2 with 2 series") as caught:
        read_dicom(tmp_path)
    assert "2019" not in str(caught.value).replace(str(tmp_path), "")
    assert [one.number for one in read_dicom(tmp_path, study=1)[0]] == [1]
    assert [one.number for one in read_dicom(tmp_path, study=2)[0]] == [2, 3]
    with pytest.raises(CohortError, match="does not have a study 3"):
        read_dicom(tmp_path, study=3)


def test_series_with_more_orientations_than_any_scan_is_left_out_without_comparing_all(tmp_path):
    write_series(tmp_path, np.ones((4, 4, 300), np.int16), AFFINE, multiframe=True, description="t1")
    (file,) = tmp_path.iterdir()
    dataset = dcmread(file)
    groups = dataset.PerFrameFunctionalGroupsSequence
    for angle, group in zip(np.linspace(0, 1, len(groups)), groups, strict=True):
        group.PlaneOrientationSequence = [Dataset()]
        rows = [f"{np.cos(angle):.8f}", f"{np.sin(angle):.8f}", "0"]
        group.PlaneOrientationSequence[0].ImageOrientationPatient = [*rows, "0", "0", "1"]
    dataset.save_as(file)
    with pytest.raises(ImageError, match="more than 100 orientations"):
        read_dicom(tmp_path)
