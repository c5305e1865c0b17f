"""Slices in space: order, orientation, gaps, doubles and shear."""

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from anymri.errors import ImageError, InputWarning
from anymri.prepare.dicom import read_dicom
from prepare.dicom.series import in_plane, rotated, sheared, write_series

ARRAY = np.random.default_rng(0).integers(0, 1000, (14, 12, 10)).astype(np.int16)
AFFINE = np.array([[-0.9, 0, 0, 31.0], [0, -1.1, 0, 42.5], [0, 0, 2.5, -17.25], [0, 0, 0, 1.0]])


def world_values(array, affine):
    """Return the voxels as rows (x, y, z in mm, value), sorted: the same for one scan in any axis order."""
    indices = np.indices(array.shape).reshape(3, -1)
    points = (affine[:3, :3] @ indices + affine[:3, 3:]).T
    rows = np.column_stack([np.round(points, 3) + 0.0, array.ravel()])
    return rows[np.lexsort(rows.T)]


def assert_same_place(image, array, affine):
    np.testing.assert_allclose(world_values(image.array, image.affine), world_values(array, affine), atol=2e-3)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("how", [{}, {"reverse": True}, {"shuffle": True}, {"multiframe": True}])
def test_every_voxel_has_its_value_at_its_position(tmp_path, plane, how):
    array, affine = in_plane(ARRAY, rotated(AFFINE, (12, -7, 20)), plane)
    write_series(tmp_path, array, affine, **how)
    (series,), left_out = read_dicom(tmp_path)
    assert_same_place(series.image, ARRAY, rotated(AFFINE, (12, -7, 20)))
    assert left_out == []


def test_slices_are_ordered_along_their_normal_whatever_their_numbers(tmp_path):
    files = write_series(tmp_path, ARRAY, AFFINE, reverse=True, shuffle=True)
    (series,), _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(series.image.array, ARRAY)
    assert list(series.files) == files
    heights = [float(header.ImagePositionPatient[2]) for header in series.headers]
    assert heights == sorted(heights)


def test_slices_against_the_normal_are_reversed(tmp_path):
    flipped = AFFINE @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 9], [0, 0, 0, 1.0]])
    write_series(tmp_path, ARRAY[..., ::-1], flipped)
    (series,), _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(series.image.array, ARRAY)
    np.testing.assert_allclose(series.image.affine, AFFINE, atol=1e-6)


def test_tilted_stack_keeps_its_shear_and_is_noted(tmp_path):
    affine = sheared(AFFINE, 0.6)
    write_series(tmp_path, ARRAY, affine)
    with pytest.warns(InputWarning, match=r"is tilted by 13\.5 degrees"):
        (series,), _ = read_dicom(tmp_path)
    np.testing.assert_allclose(series.image.affine, affine, atol=1e-6)
    assert "tilted" in series.notes[0]


def test_missing_slice_leaves_the_series_out_and_is_named(tmp_path):
    files = write_series(tmp_path, ARRAY, AFFINE, description="t1 post")
    files[4].unlink()
    with pytest.raises(ImageError, match=r"\(t1 post\) left out: a slice is missing between image 4 and image 6"):
        read_dicom(tmp_path)


def test_unequal_gaps_leave_the_series_out_and_are_named(tmp_path):
    files = write_series(tmp_path, ARRAY, AFFINE)
    dataset = dcmread(files[7])
    dataset.ImagePositionPatient[2] += 0.4
    dataset.save_as(files[7])
    with pytest.raises(ImageError, match=r"gaps between its slices differ, from 2\.10 to 2\.90 mm \(between image 7"):
        read_dicom(tmp_path)


def test_gaps_may_differ_by_rounding(tmp_path):
    files = write_series(tmp_path, ARRAY, AFFINE)
    dataset = dcmread(files[7])
    dataset.ImagePositionPatient[2] += 0.02
    dataset.save_as(files[7])
    (series,), _ = read_dicom(tmp_path)
    assert series.image.spacing_mm[2] == pytest.approx(2.5, abs=0.01)


def test_shifted_slice_leaves_the_series_out(tmp_path):
    files = write_series(tmp_path, ARRAY, AFFINE)
    dataset = dcmread(files[5])
    dataset.ImagePositionPatient[0] += 3
    dataset.save_as(files[5])
    with pytest.raises(ImageError, match=r"3\.00 mm off a straight line"):
        read_dicom(tmp_path)


def doubled(files, tmp_path, change):
    dataset = dcmread(files[3])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    change(dataset)
    dataset.save_as(tmp_path / "again.dcm")


def test_slice_that_is_there_twice_is_used_once(tmp_path):
    doubled(write_series(tmp_path, ARRAY, AFFINE), tmp_path, lambda dataset: None)
    with pytest.warns(InputWarning, match="1 slice twice"):
        (series,), _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(series.image.array, ARRAY)


def test_different_images_at_one_position_leave_the_series_out(tmp_path):
    def change(dataset):
        dataset.PixelData = dataset.PixelData[::-1]

    doubled(write_series(tmp_path, ARRAY, AFFINE), tmp_path, change)
    with pytest.raises(ImageError, match=r"different images at one position \(image 4 and image 4\)"):
        read_dicom(tmp_path)


def test_copied_file_is_used_once(tmp_path):
    files = write_series(tmp_path, ARRAY, AFFINE)
    (tmp_path / "copy").write_bytes(files[0].read_bytes())
    with pytest.warns(InputWarning, match="is a copy of another"):
        (series,), _ = read_dicom(tmp_path)
    assert series.image.shape == ARRAY.shape


def test_position_that_is_missing_leaves_the_series_out(tmp_path):
    write_series(tmp_path, ARRAY, AFFINE, headers={"ImagePositionPatient": None})
    with pytest.raises(ImageError, match="does not state the position of the slices"):
        read_dicom(tmp_path)
