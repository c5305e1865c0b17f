"""Zip archives: read in memory, and refused if they are hostile or damaged."""

import copy
import stat
import tracemalloc
import zipfile

import numpy as np
import pytest

from anymri.errors import ImageError
from anymri.prepare.dicom import archive, read_dicom
from anymri.prepare.searching import unpacked
from prepare.dicom.series import write_series

ARRAY = np.random.default_rng(2).integers(0, 1000, (40, 36, 6)).astype(np.int16)
AFFINE = np.diag([-1.0, -1.0, 3.0, 1.0])


def zipped(path, folder):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for file in sorted(folder.rglob("*")):
            target.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("compression", [None, "rle", "jpeg2000"])
@pytest.mark.parametrize("multiframe", [False, True])
def test_zip_is_read_in_memory(tmp_path, compression, multiframe):
    write_series(tmp_path / "in", ARRAY, AFFINE, compression=compression, multiframe=multiframe)
    path = zipped(tmp_path / "study.zip", tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    (series,), _ = read_dicom(path)
    np.testing.assert_array_equal(series.image.array, ARRAY)
    assert series.files == (path,)
    assert sorted(tmp_path.rglob("*")) == before


def test_zip_in_a_folder_is_read_too(tmp_path):
    write_series(tmp_path / "in", ARRAY, AFFINE)
    zipped(tmp_path / "out.zip", tmp_path / "in")
    write_series(tmp_path / "study", ARRAY, AFFINE, series_number=2)
    (tmp_path / "out.zip").rename(tmp_path / "study" / "t1.zip")
    assert len(read_dicom(tmp_path / "study")[0]) == 2


@pytest.mark.parametrize("name", ["../out.dcm", "/etc/out.dcm", "a/../../out.dcm", "C:\\out.dcm", "..\\out.dcm"])
def test_zip_with_entries_that_climb_is_refused(tmp_path, name):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr(name, b"x")
    with pytest.raises(ImageError, match="leads out of its folder"):
        read_dicom(path)


def test_zip_with_a_link_is_refused(tmp_path):
    path = tmp_path / "study.zip"
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as target:
        target.writestr(info, "/etc/passwd")
    with pytest.raises(ImageError, match="is a link or a device"):
        read_dicom(path)


def test_zip_bomb_is_refused_before_it_is_decompressed(tmp_path):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("zeros.dcm", bytes(80 * 1024**2))
    with pytest.raises(ImageError, match="times its size, as a zip bomb does"):
        read_dicom(path)


def test_a_large_image_of_a_zip_is_never_whole_in_memory(tmp_path):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("a-t1c.nii", bytes(24 * 1024**2))
    tracemalloc.start()
    with unpacked(path) as folder:
        assert (folder / "a-t1c.nii").stat().st_size == 24 * 1024**2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 1024**2


def test_zip_with_overlapping_entries_is_refused(tmp_path):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("0.dcm", bytes(1000))
        for place in range(1, 9):
            again = copy.copy(target.filelist[0])
            again.filename = f"{place}.dcm"
            target.filelist.append(again)
    with pytest.raises(ImageError, match="its entries overlap"):
        read_dicom(path)


def test_zip_that_expands_to_too_much_is_refused(tmp_path, monkeypatch):
    write_series(tmp_path / "in", ARRAY, AFFINE)
    path = zipped(tmp_path / "study.zip", tmp_path / "in")
    monkeypatch.setattr(archive, "MOST_BYTES", 1000)
    with pytest.raises(ImageError, match="more than any study has"):
        read_dicom(path)


def test_encrypted_zip_is_refused(tmp_path):
    write_series(tmp_path / "in", ARRAY, AFFINE)
    path = zipped(tmp_path / "study.zip", tmp_path / "in")
    content = bytearray(path.read_bytes())
    place = content.find(b"PK\x01\x02")
    content[place + 8] |= 1  # the flag in the directory of the zip
    path.write_bytes(content)
    with pytest.raises(ImageError, match="it is encrypted"):
        read_dicom(path)


def test_zip_in_a_zip_is_refused(tmp_path):
    write_series(tmp_path / "in", ARRAY, AFFINE)
    (tmp_path / "outer").mkdir()
    zipped(tmp_path / "outer" / "inner.zip", tmp_path / "in")
    with pytest.raises(ImageError, match="contains another zip"):
        read_dicom(zipped(tmp_path / "study.zip", tmp_path / "outer"))


def test_damaged_zip_is_refused(tmp_path):
    write_series(tmp_path / "in", ARRAY, AFFINE)
    path = zipped(tmp_path / "study.zip", tmp_path / "in")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match="is damaged"):
        read_dicom(path)
    path.write_bytes(content[:300] + bytes(60) + content[360:])
    with pytest.raises(ImageError, match="is damaged"):
        read_dicom(path)
