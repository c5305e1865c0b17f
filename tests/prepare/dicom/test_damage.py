"""Damaged files are errors, never shorter or other scans."""

import warnings
from contextlib import suppress

import numpy as np
import pytest
from pydicom import dcmread

from anymri.errors import AnymriError, ImageError, InputWarning
from anymri.prepare.dicom import read_dicom
from prepare.dicom.series import write_series

ARRAY = np.random.default_rng(2).integers(0, 1000, (40, 36, 6)).astype(np.int16)
AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])


@pytest.mark.parametrize("compression", [None, "rle", "jpeg2000"])
@pytest.mark.parametrize("multiframe", [False, True])
@pytest.mark.parametrize("lost", [60, 0.5])
def test_truncated_file_is_an_error_and_never_a_shorter_scan(tmp_path, compression, multiframe, lost):
    files = write_series(tmp_path, ARRAY, AFFINE, compression=compression, multiframe=multiframe)
    content = files[-1].read_bytes()
    files[-1].write_bytes(content[: int(len(content) - (lost if lost > 1 else lost * len(content)))])
    with pytest.raises(ImageError, match=r"damaged|truncated|cannot be read"):
        read_dicom(tmp_path)


def test_empty_or_foreign_file_with_the_suffix_of_dicom_is_an_error(tmp_path):
    files = write_series(tmp_path, ARRAY, AFFINE)
    for content in (b"", b"text"):
        files[-1].write_bytes(content)
        with pytest.raises(ImageError, match="has the suffix of a DICOM file, but is empty"):
            read_dicom(tmp_path)


def test_every_truncation_of_a_slice_is_noticed(tmp_path):
    files = write_series(tmp_path, ARRAY, AFFINE)
    content = files[-1].read_bytes()
    for length in range(0, len(content), 151):
        files[-1].write_bytes(content[:length])
        with pytest.raises(ImageError):
            read_dicom(tmp_path)


def test_image_larger_than_its_header_states_is_refused(tmp_path):
    files = write_series(tmp_path, ARRAY, AFFINE, compression="jpeg2000")
    for file in files:
        dataset = dcmread(file)
        dataset.Columns = 8
        dataset.save_as(file)
    with pytest.raises(ImageError, match="does not have the size that its header states"):
        read_dicom(tmp_path)


def test_damaged_files_are_counted_and_named(tmp_path):
    files = write_series(tmp_path, ARRAY, AFFINE)
    for file in files[1:3]:
        file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(ImageError, match=rf"2 of 6 DICOM files .*: {files[1].name}, {files[2].name}\."):
        read_dicom(tmp_path)


def test_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    write_series(tmp_path, ARRAY, AFFINE)

    def walk(folder, onerror):
        onerror(PermissionError(13, "Permission denied", str(folder)))

    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(ImageError, match="cannot be read: Permission denied"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("options", [{}, {"multiframe": True, "compression": "rle"}])
def test_changed_bytes_give_a_whole_scan_or_an_error(tmp_path, options):
    files = write_series(tmp_path, ARRAY, AFFINE, headers={"EchoTime": 90, "RepetitionTime": 3000}, **options)
    content, rng = files[-1].read_bytes(), np.random.default_rng(5)
    shapes = set()
    for _ in range(60):
        changed = bytearray(content)
        for place in rng.integers(128, 1800, 3):
            changed[place] = rng.integers(256)
        files[-1].write_bytes(changed)
        with warnings.catch_warnings(), suppress(AnymriError):
            warnings.simplefilter("ignore", InputWarning)
            shapes.update(one.image.shape for one in read_dicom(tmp_path, fewest_slices=6)[0])
    assert shapes == {ARRAY.shape}
