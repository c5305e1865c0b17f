"""Series of several vendors agree with the NIfTI files that other software made of them."""

import nibabel as nib
import numpy as np
import pytest

from anymri.data.image import to_lps
from anymri.errors import ImageError
from anymri.prepare.dicom import read_dicom

SERIES = (
    "ge/anatomical/001",
    "siemens/anatomical/001",
    "philips_enhanced/anatomical/001",
    "hyperfine/anatomical/001",
    "generic/compressed_j2k/001",
)


@pytest.mark.parametrize("name", SERIES)
def test_vendor_series_agrees_with_its_reference(real_data, name):
    folder = real_data / "dicom2nifti"
    (series,), left_out = read_dicom(folder / name, fewest_slices=4)
    reference = nib.load(folder / f"{name}_ground_truth.nii.gz")
    values = np.asarray(reference.dataobj, dtype=np.float32).reshape(reference.shape[:3])
    array, affine = to_lps(series.image.array, series.image.affine)
    expected, expected_affine = to_lps(values, reference.affine)
    np.testing.assert_array_equal(array, expected)
    corners = np.array([[*(np.array(corner) * (np.array(array.shape) - 1)), 1] for corner in np.ndindex(2, 2, 2)])
    np.testing.assert_allclose(corners @ affine.T, corners @ expected_affine.T, atol=1e-3)
    assert left_out == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [("slicecount/001", "it has 2 slices"), ("sliceincrement/002", "1 series of CT")],
)
def test_failing_series_are_refused_with_the_reason(real_data, name, reason):
    with pytest.raises(ImageError, match=reason):
        read_dicom(real_data / "dicom2nifti" / "failing" / name)
