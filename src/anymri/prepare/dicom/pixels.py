"""Pixels of DICOM files: decoded whole or refused, then scaled by the factors of the headers."""

from __future__ import annotations

import math
import struct
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats.checks import MOST_VOXELS
from anymri.errors import ImageError
from anymri.extras import need
from anymri.prepare.dicom.frames import Frame
from anymri.prepare.dicom.headers import frame_numbers, number, quiet, text_of
from anymri.prepare.dicom.sources import Source

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
_RLE = "1.2.840.10008.1.2.5"
_JPEG_FAMILY = "1.2.840.10008.1.2.4."
_JPEG_2000 = {f"{_JPEG_FAMILY}{number}" for number in (90, 91, 92, 93)}
# A file may hold several volumes.
_MOST_VOXELS = 4 * MOST_VOXELS
_END_OF_CODESTREAM = b"\xff\xd9"
_SIZE_OF_CODESTREAM = b"\xff\x4f\xff\x51"


def read_volume(frames: Sequence[Frame]) -> NDArray[np.float32]:
    """Return the slices as one volume (x, y, z) float32, with the scale factors of each slice applied.

    Private factors of vendors, such as those of Philips, are not applied. Raises `ImageError` for pixels that are cut
    off, damaged or compressed by a method for which a package is missing.
    """
    columns, rows = frames[0].size
    volume = np.empty((len(frames), rows, columns), np.float32)
    of_file: dict[int, list[int]] = defaultdict(list)
    for place, frame in enumerate(frames):
        of_file[id(frame.header)].append(place)
    for places in of_file.values():
        source = frames[places[0]].header.source
        pixels, scaled = decode(source)
        for place in places:
            frame = frames[place]
            if frame.index >= len(pixels) or pixels.shape[1:] != (rows, columns):
                raise _damaged(source, "its pixels do not have the size that its header states")
            volume[place] = pixels[frame.index]
            if not scaled:
                _scale(volume[place], frame)
    return volume.transpose(2, 1, 0)


def same_pixels(one: Frame, other: Frame) -> bool:
    """Return whether two slices have the same values."""
    return one.size == other.size and np.array_equal(read_volume([one]), read_volume([other]))


def _scale(pixels: NDArray[np.float32], frame: Frame) -> None:
    """Apply RescaleSlope and RescaleIntercept of a slice in place."""
    slope, intercept = (
        frame_numbers(frame.dataset, frame.index, keyword, 1) for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    if slope is not None and slope[0] != 1:
        if slope[0] == 0:
            raise _damaged(frame.header.source, "its RescaleSlope is 0")
        pixels *= np.float32(slope[0])
    if intercept is not None and intercept[0] != 0:
        pixels += np.float32(intercept[0])


def decode(source: Source) -> tuple[NDArray[Any], bool]:
    """Return the pixels (frames, rows, columns) of a file, and whether scale factors were applied already."""
    from pydicom import dcmread

    try:
        with quiet(), source.open() as stream:
            dataset = dcmread(stream, force=True)
            present = "PixelData" in dataset or "FloatPixelData" in dataset
    except Exception as error:
        raise _damaged(source, "its elements cannot be parsed") from error
    if not present:
        raise _damaged(source, "its pixels are missing or cut off")
    sizes = [number(dataset, keyword) or 1 for keyword in ("Rows", "Columns", "NumberOfFrames")]
    if math.prod(sizes) > _MOST_VOXELS:  # decoders allocate them before they read
        raise _damaged(source, f"its header states {' x '.join(f'{size:g}' for size in sizes)} voxels")
    syntax = text_of(dataset.file_meta, "TransferSyntaxUID") if hasattr(dataset, "file_meta") else ""
    if not syntax or syntax in _NATIVE:
        _check_native(source, dataset)
    elif syntax.startswith(_JPEG_FAMILY):
        _check_codestreams(source, dataset, is_2000=syntax in _JPEG_2000)
    elif syntax != _RLE:
        raise _unknown(source, dataset)
    return _decoded(source, dataset, syntax)


def _decoded(source: Source, dataset: Dataset, syntax: str) -> tuple[NDArray[Any], bool]:
    from pydicom.pixels.utils import pixel_array

    if not syntax:
        from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if dataset.original_encoding[0] else ExplicitVRLittleEndian
        )
    try:
        with quiet():
            pixels = pixel_array(dataset, raw=True)
    except Exception as error:
        if syntax.startswith(_JPEG_FAMILY):
            return _decoded_by_gdcm(source, dataset), True
        raise _damaged(source, "its pixels cannot be decoded") from error
    pixels = pixels.reshape(-1, *pixels.shape[-2:])
    return _without_unused_bits(pixels, dataset), False


def _check_native(source: Source, dataset: Dataset) -> None:
    """Raise `ImageError` unless uncompressed pixels have the length that the header states."""
    if "PixelData" not in dataset:
        return
    sizes = [number(dataset, keyword) for keyword in ("Rows", "Columns", "BitsAllocated")]
    if any(size is None for size in sizes):
        raise _damaged(source, "its header does not state the size of the image")
    rows, columns, bits = (int(size or 0) for size in sizes)
    expected = rows * columns * int(number(dataset, "NumberOfFrames") or 1) * bits // 8
    found = len(dataset.PixelData)
    if found < expected:
        raise _damaged(source, f"it has {found} bytes of pixels, and its header states {expected}")
    if found > expected + expected // 8 + 1024:
        raise _damaged(source, f"it has {found} bytes of pixels, more than the {expected} that its header states")


def _check_codestreams(source: Source, dataset: Dataset, is_2000: bool) -> None:
    """Raise `ImageError` if compressed frames are cut off, or larger than the header states.

    Decoders return a part of an image that is cut off without an error, and allocate what the codestream states.
    """
    from pydicom.encaps import generate_frames

    try:
        with quiet():
            count = int(number(dataset, "NumberOfFrames") or 1)
            frames = list(generate_frames(dataset.PixelData, number_of_frames=count))
    except Exception as error:
        raise _damaged(source, "its compressed pixels are cut off") from error
    stated = (int(number(dataset, "Columns") or 0), int(number(dataset, "Rows") or 0))
    for frame in frames:
        if not frame[-64:].rstrip(b"\0").endswith(_END_OF_CODESTREAM):
            raise _damaged(source, "its compressed pixels are cut off")
        start = frame[:4096].find(_SIZE_OF_CODESTREAM) if is_2000 else -1
        if start >= 0 and len(frame) >= start + 24:
            right, bottom, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
            if (right - left, bottom - top) != stated:
                raise _damaged(source, "its compressed image does not have the size that its header states")
    if len(frames) != count:
        raise _damaged(source, f"it has {len(frames)} compressed images of {count}")


def _decoded_by_gdcm(source: Source, dataset: Dataset) -> NDArray[Any]:
    """Return the pixels (frames, rows, columns) of a file as SimpleITK decodes them, with scale factors applied."""
    need("prepare", "SimpleITK", purpose=f"Decoding {source.name} ({_syntax_name(dataset)})")
    import SimpleITK

    shown = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with _on_disk(source) as file:
            reader = SimpleITK.ImageFileReader()
            reader.SetImageIO("GDCMImageIO")
            reader.SetFileName(str(file))
            pixels: NDArray[Any] = SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:
        raise _unknown(source, dataset) from error
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(shown)
    if pixels.ndim not in (2, 3):
        raise _damaged(source, "its images are in colour")
    return pixels.reshape(-1, *pixels.shape[-2:])


@contextmanager
def _on_disk(source: Source) -> Iterator[Path]:
    """Yield the path of a file; that of an entry of a zip is temporary."""
    if source.entry is None:
        yield source.file
        return
    with tempfile.TemporaryDirectory(prefix="anymri-") as folder, source.open() as stream:
        file = Path(folder) / "image.dcm"
        file.write_bytes(stream.read())
        yield file


def _without_unused_bits(pixels: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Return integers with the bits above BitsStored removed, where old files have overlays."""
    stored = int(number(dataset, "BitsStored") or 0)
    unused = 8 * pixels.dtype.itemsize - stored
    if pixels.dtype.kind not in "iu" or stored < 1 or unused <= 0:
        return pixels
    limits = (0, 2**stored - 1) if pixels.dtype.kind == "u" else (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1)
    if pixels.size and limits[0] <= pixels.min() and pixels.max() <= limits[1]:
        return pixels
    cleaned: NDArray[Any] = (pixels << unused) >> unused
    return cleaned


def _syntax_name(dataset: Dataset) -> str:
    return str(dataset.file_meta.TransferSyntaxUID.name)


def _unknown(source: Source, dataset: Dataset) -> ImageError:
    return ImageError(
        f"The pixels of {source.name} cannot be decoded: {_syntax_name(dataset)}.",
        "Export the series without compression, or as JPEG 2000 or RLE.",
    )


def _damaged(source: Source, reason: str) -> ImageError:
    return ImageError(f"{source.name} is damaged or truncated: {reason}.", "Copy or export the series again.")
