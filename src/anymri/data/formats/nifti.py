"""Reading of NIfTI-1, NIfTI-2 and FreeSurfer MGH files, and writing of single-file NIfTI."""

from __future__ import annotations

import io
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats.checks import check_voxels, damaged, degenerate
from anymri.files import replacing

if TYPE_CHECKING:
    from nibabel import Nifti1Header
    from nibabel.freesurfer.mghformat import MGHHeader

SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh")

_GZIP_MAGIC = b"\x1f\x8b"
# nibabel logs what it repairs in a header, without the file's name; what matters is checked here.
_NO_LOG = logging.Logger("nibabel headers", level=logging.CRITICAL + 1)


def read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], Nifti1Header | None]:
    """Return the array, the affine and the NIfTI header of a NIfTI or MGH file; see `anymri.data.formats`."""
    from isal import igzip

    content = path.read_bytes()
    if content.startswith(_GZIP_MAGIC):
        content = igzip.decompress(content)
    is_mgh = path.suffix.lower() in (".mgz", ".mgh")
    header = _mgh_header(content) if is_mgh else _nifti_header(path, content)
    header.check_fix(logger=_NO_LOG)
    shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), header.get_data_offset()
    check_voxels(path, shape, dtype)
    needed = offset + math.prod(shape) * dtype.itemsize
    if len(content) < needed:
        raise damaged(path, f"it has {len(content)} bytes of {needed}")
    stored = np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape[:3], order="F")
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1, 0):
        stored = stored * slope + intercept
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    return stored.astype(np.float32), affine, None if is_mgh else header


def new_header(shape: tuple[int, ...], affine: NDArray[np.float64]) -> Nifti1Header:
    """Return a NIfTI-1 header in millimetres, with the affine as qform and sform (code 1: scanner)."""
    from nibabel import Nifti1Header

    header = Nifti1Header()
    header.set_data_shape(shape)
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm")
    return header


def header_of_map(header: Nifti1Header) -> Nifti1Header:
    """Return a copy of the header of a scan for a map with the same geometry: without intent and display range."""
    copied = header.copy()
    copied.set_intent("none")
    copied["cal_min"] = copied["cal_max"] = 0
    return copied


def write(path: Path, array: NDArray[Any], header: Nifti1Header) -> None:
    """Write a NIfTI file whole or not at all, the same bytes for the same input; `header` is changed.

    path    compressed if its name ends in .gz
    array   (x, y, z) uint8, int16 or float32
    header  has the shape, also with further axes of length 1; data type, scale and offset are set here, because
            nibabel's writer puts NaN into the scale, which not every reader takes for 1
    """
    from isal import igzip

    if array.dtype not in (np.uint8, np.int16, np.float32):
        raise ValueError(f"images are written as uint8, int16 or float32, not {array.dtype}")
    header.set_data_dtype(array.dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
    voxels = array.astype(header.get_data_dtype(), copy=False).tobytes(order="F")
    content = header.binaryblock + b"\0\0\0\0" + voxels  # four zeros: no extensions
    if path.name.endswith(".gz"):
        content = igzip.compress(content, 1, mtime=0)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _mgh_header(content: bytes) -> MGHHeader:
    from nibabel.freesurfer.mghformat import MGHHeader

    return MGHHeader.from_fileobj(io.BytesIO(content), check=False)


def _nifti_header(path: Path, content: bytes) -> Nifti1Header:
    """Return the header as in the file, without extensions; its length distinguishes NIfTI-1 from NIfTI-2."""
    from nibabel import Nifti1Header, Nifti2Header

    lengths = {int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big")}
    header_class = Nifti2Header if Nifti2Header.sizeof_hdr in lengths else Nifti1Header
    header = header_class(content[: header_class.sizeof_hdr], check=False)
    if header["magic"] != header_class.single_magic:
        raise damaged(path, "its header is not that of a NIfTI file in one piece")
    # nibabel's repair of headers replaces a zero spacing by 1 mm.
    if header["sform_code"] == 0 and not np.all(header["pixdim"][1:4]):
        raise degenerate(path, "its header gives a spacing of zero")
    return header
