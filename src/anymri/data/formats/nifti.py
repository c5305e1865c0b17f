"""Reading of NIfTI-1 and NIfTI-2 files, and writing of single-file NIfTI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats.checks import check_voxels, damaged
from anymri.data.formats.content import Content, opened
from anymri.data.formats.position import affine_mm, differ
from anymri.errors import ImageError
from anymri.files import replacing

if TYPE_CHECKING:
    from nibabel import Nifti1Header

SUFFIXES = (".nii.gz", ".nii")

_CONVERT = "Export the scan as NIfTI, or rename the file."
# First bytes of other files that are found with the name of a NIfTI file -> what they are and what to do.
_OTHER_FILES = {
    b"\x89PNG": ("a PNG picture", _CONVERT),
    b"\xff\xd8\xff": ("a JPEG picture", _CONVERT),
    b"NRRD": ("an NRRD file", _CONVERT),
    b"ObjectType": ("a MetaImage file", _CONVERT),
    b"PK\x03\x04": ("a ZIP archive", "Unpack it."),
    b"version https://git-lfs": ("a pointer of Git LFS", "Download the file itself: git lfs pull."),
}
# The length of its header, 348, as in NIfTI-1, in both byte orders.
_STARTS_OF_ANALYZE = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")
# Whole numbers up to here fit into the field of NIfTI-1, a 32-bit float. Extensions are not so long.
_LARGEST_OFFSET = 2**24


def read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], Nifti1Header]:
    """Return the array, the affine and the NIfTI header; see `anymri.data.formats`.

    The header is repaired: label maps that are written with it have the same grid in other programs.
    """
    with opened(path) as content:
        header = _header(content)
        shape, dtype, scale = _shape(path, header), _data_type(path, header), _scale(path, header)
        check_voxels(path, shape, dtype)
        stored = _voxels(content, header, shape, dtype)
    array = stored.astype(np.float32, copy=False) if scale == (1, 0) else _scaled(stored, scale)
    return array, affine_mm(path, header), header


def new_header(shape: tuple[int, ...], affine: NDArray[np.float64]) -> Nifti1Header:
    """Return a NIfTI-1 header in millimetres, with the affine as sform and, unless it is sheared, as qform."""
    from nibabel import Nifti1Header

    header = Nifti1Header()
    header.set_data_shape(shape)
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    if differ(header.get_qform(), header.get_sform()):
        header["qform_code"] = 0
    header.set_xyzt_units("mm")
    return header


def header_of_map(header: Nifti1Header) -> Nifti1Header:
    """Return a copy of the header of a scan for a map with the same geometry: without intent and display range."""
    copied = header.copy()
    copied.set_intent("none")
    copied["cal_min"] = copied["cal_max"] = 0
    return copied


def write(path: Path, array: NDArray[Any], header: Nifti1Header, scale: tuple[float, float] = (1.0, 0.0)) -> None:
    """Write a NIfTI file whole or not at all, the same bytes for the same input; `header` is changed.

    path    compressed if its name ends in .gz
    array   (x, y, z) uint8, int16 or float32
    header  has the shape, also with further axes of length 1; data type, scale and offset are set here, because
            nibabel's writer puts NaN into the scale, which not every reader takes for 1
    scale   slope and intercept, by which readers of the file get the values from the array
    """
    from isal import igzip

    if array.dtype not in (np.uint8, np.int16, np.float32):
        raise ValueError(f"images are written as uint8, int16 or float32, not {array.dtype}")
    header.set_data_dtype(array.dtype)
    header["scl_slope"], header["scl_inter"] = scale
    header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    voxels = array.astype(header.get_data_dtype(), copy=False).tobytes(order="F")
    content = header.binaryblock + b"\0\0\0\0" + voxels  # four zeros: no extensions
    if path.name.endswith(".gz"):
        content = igzip.compress(content, 1, mtime=0)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _header(content: Content) -> Nifti1Header:
    """Return the header as in the file, without extensions."""
    from nibabel import Nifti1Header, Nifti2Header

    start = content.start(Nifti1Header.sizeof_hdr)
    header_class = Nifti2Header if start[4:7] in (b"n+2", b"ni2") else Nifti1Header
    start += content.start(header_class.sizeof_hdr - len(start))
    header = header_class(start, check=False)
    if header["magic"] not in (header.single_magic, header.pair_magic):
        raise _not_nifti(content.path, start)
    if header["magic"] == header.pair_magic and header["vox_offset"] < header.single_vox_offset:
        raise ImageError(
            f"{content.path} is the header of a pair of files, without voxels.",
            "Convert the .hdr and the .img file into one .nii file.",
        )
    return header


def _not_nifti(path: Path, start: bytes) -> ImageError:
    for first, (kind, fix) in _OTHER_FILES.items():
        if start.startswith(first):
            return ImageError(f"{path} is {kind}, not a NIfTI file.", fix)
    if start[128:132] == b"DICM":
        return ImageError(f"{path} is a DICOM file, not a NIfTI file.", "Convert its series to NIfTI with dcm2niix.")
    if start.startswith(_STARTS_OF_ANALYZE) and not any(start[344:348]):
        return ImageError(
            f"{path} is an Analyze 7.5 file, which does not say where left and right are.",
            "Convert the original series to NIfTI with dcm2niix.",
        )
    return damaged(path, "its header is not that of a NIfTI file")


def _shape(path: Path, header: Nifti1Header) -> tuple[int, ...]:
    """Return the sizes of all axes; axes of size 0 after the third, which some programs write, become 1."""
    axes = int(header["dim"][0])
    if not 1 <= axes <= 7:
        raise damaged(path, "dim[0], the number of axes, is not in 1 to 7 in its header")
    further = header["dim"][4 : axes + 1]
    further[further == 0] = 1
    return tuple(header["dim"][1 : axes + 1].tolist())


def _data_type(path: Path, header: Nifti1Header) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except KeyError:
        dtype = np.dtype("V")
    if not dtype.itemsize:
        raise ImageError(
            f"{path} has {header['datatype']} as datatype, which anymri does not read.",
            "Save it with another data type.",
        )
    return dtype


def _scale(path: Path, header: Nifti1Header) -> tuple[float, float]:
    """Return slope and intercept, (1, 0) if the slope is zero or not finite, as in nibabel."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return 1, 0
    if not np.isfinite(intercept):
        raise ImageError(
            f"The intercept of {path}, scl_inter, is {intercept} although its slope is set.", "Export the file again."
        )
    return slope, intercept


def _scaled(stored: NDArray[Any], scale: tuple[float, float]) -> NDArray[np.float32]:
    """Return the values (x, y, z) with slope and intercept applied slice by slice: large scans would take gigabytes."""
    values = np.empty(stored.shape, np.float32, order="F")
    for place in range(stored.shape[2]):
        values[..., place] = stored[..., place] * scale[0] + scale[1]
    return values


def _voxels(content: Content, header: Nifti1Header, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the stored voxels; an offset inside the header becomes its end if the length of the file agrees."""
    offset, end = float(header["vox_offset"]), int(header.single_vox_offset)
    cannot_be = ImageError(
        f"{content.path} gives {offset:.16g} as the place where its voxels begin, vox_offset, which cannot be right.",
        f"Export the file again, or set the field to {end} if the voxels follow the header.",
    )
    if not (0 <= offset <= min(_LARGEST_OFFSET, content.most) and offset.is_integer()):
        raise cannot_be
    start = max(int(offset), end)
    between = content.start(start - header.sizeof_hdr)
    try:
        array, trailing = content.voxels(start, shape, dtype)
    except ImageError as error:
        raise (cannot_be if offset < end else error) from error
    has_extensions = between[0] != 0
    if offset < end and (has_extensions or trailing):
        raise cannot_be
    return array
