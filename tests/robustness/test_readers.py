"""Hostile and damaged image files: each is read right, or refused with the reason, in little time and memory."""

from __future__ import annotations

import gzip
import os
import signal
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from anymri.data.image import SUFFIXES, read_image
from anymri.errors import ImageError
from robustness import fuzz

FILES = 300
VOXELS = np.arange(120, dtype="<i2").reshape(4, 5, 6)
META = (
    "Comment = text\nObjectType = Image\nNDims = 3\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nElementSpacing = 1 1 1\n"
    "DimSize = 4 5 6\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
)
NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\nspace: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nsizes: 4 5 6\n"
    "endian: little\nencoding: raw\n"
)
STYLES = [
    ("\n", "\n"),
    ("\n", "\r\n"),
    (" = ", "="),
    (" = ", "\t=\t"),
    (" = ", " : "),
    ("\n", "\n \n"),
    ("\n", " \n\t"),
]


@pytest.fixture(autouse=True)
def limited_time() -> Iterator[None]:
    """Raise TimeoutError in a test that waits, for example for the other end of a pipe."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_mutated_files_are_read_as_by_other_readers_or_refused(tmp_path):
    report = fuzz.check(range(FILES), tmp_path)
    assert not report.failures, str(report)
    assert report.read + report.refused == FILES
    assert report.compared > FILES / 10
    assert report.largest[0] < 50e6


def crash(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(path: Path) -> None:
    signal.pause()


def fill_the_memory(path: Path) -> None:
    np.ones(2 * fuzz.MOST_MEMORY, np.uint8)


def move_voxels(path: Path) -> object:
    image = read_image(path)
    image.array[:] = image.array[::-1].copy()
    return image


FAULTS = {
    crash: "ends the process with -9",
    hang: "hangs",
    fill_the_memory: "MemoryError",
    move_voxels: "read as another image",
}


@pytest.mark.parametrize("reader", FAULTS)
def test_faults_of_a_reader_are_reported_with_their_seed_and_file(tmp_path, monkeypatch, reader):
    monkeypatch.setattr(fuzz, "read_image", reader)
    monkeypatch.setattr(fuzz, "MOST_SECONDS", 0.3 if reader is hang else 10)
    report = fuzz.check(range(12 if reader is move_voxels else 2), tmp_path)
    assert report.failures
    for seed, failure in report.failures.items():
        assert FAULTS[reader] in failure
        assert list((tmp_path / str(seed)).iterdir())


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("line", "hostile"),
    [
        ("ElementDataFile = LOCAL", "ElementDataFile = %s%s%s%n"),
        ("ElementDataFile = LOCAL", "ElementDataFile = a%99999999d.raw 1 6 1"),
        ("ElementDataFile = LOCAL", "ElementDataFile = LIST 99"),
        ("NDims = 3", "NDims = 3\nNDims = 93"),
        ("ElementType = MET_SHORT", "ElementType = MET_SHORT\nNDims = 93"),
        ("NDims = 3", "ndims = 3\nNDIMS = 93"),
        ("NDims = 3", "NDims = 4611686018427387907"),
        ("Comment = text", "NDims = 93"),
    ],
)
def test_metaimage_header_that_ends_the_process_in_itk_is_refused(tmp_path, style, line, hostile):
    path = tmp_path / "a.mha"
    path.write_bytes(META.replace(line, hostile).replace(*style).encode() + VOXELS.tobytes(order="F"))
    with pytest.raises(ImageError):
        read_image(path)


@pytest.mark.parametrize(
    "line", ["Comment = NDims = 93", "Name = a\nComment = x NDims=93", "Comment = ElementDataFile = %n"]
)
def test_fields_inside_a_comment_are_not_read(tmp_path, line):
    path = tmp_path / "a.mha"
    path.write_bytes(META.replace("Comment = text", line).encode() + VOXELS.tobytes(order="F"))
    np.testing.assert_array_equal(read_image(path).array, VOXELS)


@pytest.mark.parametrize("place", ["/etc/passwd", "../a.raw", "/dev/zero", "pipe", "device", "folder"])
def test_data_file_elsewhere_or_of_another_kind_is_not_opened(tmp_path, place):
    folder = tmp_path / "case"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes(order="F"))
    os.mkfifo(folder / "pipe")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "a.mhd").write_text(META.replace("LOCAL", place) + "\n" * 300)
    (folder / "a.nrrd").write_text(f"{NRRD}byte skip: -1\ndata file: {place}\n\n" + "\n" * 300)
    for name in ("a.mhd", "a.nrrd"):
        with pytest.raises(ImageError):
            read_image(folder / name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pipes_and_devices_are_not_opened(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(ImageError):
            read_image(tmp_path / f"{name}{suffix}")


def inflating_files() -> dict[str, bytes]:
    """Return files of each compressed format whose header describes 120 voxels before 16 MB of zeros."""
    zeros = bytes(2**24)
    nifti = nib.Nifti1Image(VOXELS, np.eye(4)).to_bytes()
    mgh = nib.MGHImage(VOXELS.astype(np.float32), np.eye(4)).to_bytes()
    meta = META.replace("ElementDataFile", "CompressedData = True\nElementDataFile")
    return {
        "a.nii.gz": gzip.compress(nifti + zeros, 1),
        "a.mgz": gzip.compress(mgh + zeros, 1),
        "a.mha": meta.encode() + zlib.compress(zeros, 1),
        "a.nrrd": NRRD.replace("raw", "gzip").encode() + b"\n" + gzip.compress(zeros, 1),
    }


def test_data_that_inflate_far_beyond_their_header_are_refused_in_little_memory(tmp_path):
    for name, content in inflating_files().items():
        (tmp_path / name).write_bytes(content)
        tracemalloc.start()
        with pytest.raises(ImageError):
            read_image(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 4e6, name
        tracemalloc.stop()


def test_header_that_declares_more_than_its_data_can_be_is_refused_before_allocation(tmp_path):
    nifti = bytearray(nib.Nifti1Image(VOXELS, np.eye(4)).to_bytes())
    nifti[40:48] = np.array([3, 1000, 1000, 1000], "<i2").tobytes()
    meta, nrrd = META.replace("4 5 6", "1000 1000 1000"), NRRD.replace("4 5 6", "1000 1000 1000")
    files = {
        "a.nii": bytes(nifti),
        "a.nii.gz": gzip.compress(nifti),
        "a.mha": meta.encode() + bytes(99),
        "b.mha": meta.replace("ElementDataFile", "CompressedData = 1\nElementDataFile").encode() + zlib.compress(b"a"),
        "a.nrrd": nrrd.encode() + b"\n" + bytes(99),
        "b.nrrd": nrrd.replace("raw", "gzip").encode() + b"\n" + gzip.compress(b"a"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        tracemalloc.start()
        with pytest.raises(ImageError):
            read_image(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 4e6, name
        tracemalloc.stop()
