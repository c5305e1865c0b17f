"""Which files are read, by content, and how their values are."""

import os

import numpy as np
import pytest
from pydicom import dcmread

from anymri.errors import ImageError, MissingExtraError
from anymri.prepare.dicom import read_dicom
from prepare.dicom.series import write_series

ARRAY = np.random.default_rng(2).integers(0, 1000, (40, 36, 6)).astype(np.int16)
AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])


def test_files_are_found_by_content(tmp_path):
    for place, file in enumerate(write_series(tmp_path / "deep" / "er", ARRAY, AFFINE)):
        file.rename(file.with_name(f"IM{place}" if place % 2 else f"{place}.txt"))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(100))
    (tmp_path / ".hidden.dcm").write_bytes(b"")
    (tmp_path / "table.xlsx").write_bytes(b"PK\x03\x04" + bytes(200))
    (tmp_path / "nowhere.dcm").symlink_to(tmp_path / "absent")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.dcm")
    (series,), left_out = read_dicom(tmp_path)
    np.testing.assert_array_equal(series.image.array, ARRAY)
    assert left_out == []


def test_files_without_preamble_are_read(tmp_path):
    for file in write_series(tmp_path, ARRAY, AFFINE):
        dataset = dcmread(file)
        del dataset.file_meta
        dataset.save_as(file.with_suffix(""), implicit_vr=True, little_endian=True)
        file.unlink()
    (series,), _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(series.image.array, ARRAY)


@pytest.mark.parametrize("compression", ["rle", "jpeg2000"])
@pytest.mark.parametrize("multiframe", [False, True])
def test_compressed_series_keep_their_values(tmp_path, compression, multiframe):
    write_series(tmp_path, ARRAY, AFFINE, compression=compression, multiframe=multiframe)
    (series,), _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(series.image.array, ARRAY)


def test_lossless_jpeg_is_read_by_simpleitk(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    for file in write_series(tmp_path, ARRAY, AFFINE, headers={"RescaleSlope": 2, "RescaleIntercept": -3}):
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(file.with_suffix(".jpg.dcm")))
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        image = sitk.ReadImage(str(file))
        writer.Execute(sitk.Cast(image, sitk.sitkInt16))
        written, source = dcmread(file.with_suffix(".jpg.dcm")), dcmread(file)
        assert written.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
        for element in source:
            if element.keyword not in ("PixelData", "RescaleSlope", "RescaleIntercept"):
                written[element.tag] = element
        written.save_as(file)
        file.with_suffix(".jpg.dcm").unlink()
    (series,), _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(series.image.array, 2.0 * ARRAY - 3)


def test_scale_factors_of_each_slice_are_applied(tmp_path):
    for place, file in enumerate(write_series(tmp_path, ARRAY, AFFINE)):
        dataset = dcmread(file)
        dataset.RescaleSlope, dataset.RescaleIntercept = place + 1, 10 * place
        dataset.save_as(file)
    (series,), _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(series.image.array, ARRAY * (np.arange(6) + 1) + 10 * np.arange(6))


def test_values_that_are_not_whole_survive(tmp_path):
    values = ARRAY / 7.0
    for name, multiframe in (("slices", False), ("frames", True)):
        write_series(tmp_path / name, values, AFFINE, multiframe=multiframe)
        (series,), _ = read_dicom(tmp_path / name)
        np.testing.assert_allclose(series.image.array, values, atol=values.max() / 32000)


def test_bits_above_those_stored_are_not_part_of_the_values(tmp_path):
    for file in write_series(
        tmp_path, ARRAY, AFFINE, headers={"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}
    ):
        dataset = dcmread(file)
        pixels = np.frombuffer(dataset.PixelData, "<u2").copy()
        pixels[::5] |= 0x1000  # an overlay
        dataset.PixelData = pixels.tobytes()
        dataset.save_as(file)
    (series,), _ = read_dicom(tmp_path)
    np.testing.assert_array_equal(series.image.array, ARRAY)


def test_single_file_and_what_is_none_are_told_apart(tmp_path):
    (file,) = write_series(tmp_path, ARRAY, AFFINE, multiframe=True)
    assert len(read_dicom(file)[0]) == 1
    (tmp_path / "text").write_text("x" * 500)
    with pytest.raises(ImageError, match="is not a DICOM file"):
        read_dicom(tmp_path / "text")
    with pytest.raises(ImageError, match="does not exist"):
        read_dicom(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="does not contain a DICOM file"):
        read_dicom(tmp_path / "empty")


def test_reading_without_pydicom_names_the_extra(tmp_path, monkeypatch):
    write_series(tmp_path, ARRAY, AFFINE)
    monkeypatch.setattr("anymri.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs pydicom.*\n.*anymri\[dicom\]"):
        read_dicom(tmp_path)
