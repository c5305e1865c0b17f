"""One scan or label map with its geometry: reading, turning, writing.

Arrays are (x, y, z). World coordinates are RAS+ millimetres as in nibabel. Inside anymri arrays have the voxel
orientation of BraTS files, LPS (x grows to the patient's left, y to the back, z to the head); an `Image` keeps the
orientation of its file. Formats: NIfTI-1 and -2, NRRD, MetaImage, FreeSurfer MGH. Only gzip-compressed or plain
single-file NIfTI is written.
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.errors import ImageError
from anymri.files import replacing

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".mgz", ".mgh")

# Finer than any MRI of a brain. A smaller value is a damaged header, or one in metres.
_SMALLEST_SPACING_MM = 0.01
# Volume of a voxel over that of the box with its edges: 1 for right angles, 0 when an axis lies in the plane of others.
_SMALLEST_SKEW = 1e-3
# ITK fills the memory that a header asks for before it looks whether the file holds that much.
_MOST_VOXELS = 1024**3

_GZIP_MAGIC = b"\x1f\x8b"
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# nibabel logs what it mends in a header, without the file's name; what matters is checked here.
_NO_LOG = logging.Logger("nibabel headers", level=logging.CRITICAL + 1)
_stderr_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class Image:
    """A volume as its file stores it.

    array   (x, y, z) float32, in the orientation of the file, scale factors applied
    affine  (4, 4) float64: voxel indices to RAS+ millimetres
    path    the file
    header  the NIfTI header of the file, None for other formats: what keeps written label maps in the same geometry
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    path: Path
    header: Any = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        x, y, z = self.array.shape
        return x, y, z

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along x, y and z."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return x, y, z

    @property
    def orientation(self) -> str:
        """Where x, y and z grow to, for example `LPS`; the closest letters if the scan is oblique."""
        from nibabel.orientations import aff2axcodes

        return "".join(aff2axcodes(self.affine))

    @property
    def voxel_volume_ml(self) -> float:
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


def image_stem(path: Path) -> str | None:
    """The file name without its image suffix; None if `path` is not named like an image."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return None


def read_image(path: Path) -> Image:
    """The volume in `path`; raises `ImageError` for anything that is not one finite 3-D image.

    A fourth axis of length 1 is dropped from the array; `write_like` restores it.
    """
    if not path.exists():
        raise ImageError(f"{path} does not exist.", "Check the name, or leave the modality out.")
    if path.is_dir():
        raise ImageError(f"{path} is a folder, not an image.", "Give the image file itself.")
    if image_stem(path) is None:
        raise ImageError(f"{path} is not named like an image.", f"Convert it to NIfTI; known: {', '.join(SUFFIXES)}.")
    read = _read_itk if path.suffix.lower() in (".nrrd", ".mha", ".mhd") else _read_nibabel
    try:
        with np.errstate(all="ignore"):  # overflow ends as infinite values, which are refused
            array, affine, header = read(path)
            _check_geometry(path, affine)
    except ImageError:
        raise
    except Exception as error:  # damaged files make the libraries raise nearly every class there is
        raise _damaged(path, str(error) or type(error).__name__) from error
    _check_finite(path, array)
    return Image(array, affine, path, header)


def read_scan(path: Path) -> Image:
    """The scan in `path`; raises `ImageError` like `read_image`, and also if all voxels hold the same value."""
    image = read_image(path)
    if image.array.min() == image.array.max():
        raise ImageError(
            f"{path} holds the value {image.array.flat[0]:g} in every voxel.",
            "Leave the modality out if it does not exist; scans that do not exist are absent, never files of zeros.",
        )
    return image


def to_lps(array: NDArray[Any], affine: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Flips and swaps the axes of a volume so that they grow to L, P and S; no voxel value changes.

    returns  the array, a view with strides of any sign, and its affine
    """
    from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

    turn = ornt_transform(io_orientation(affine), axcodes2ornt("LPS"))
    return apply_orientation(array, turn), affine @ inv_ornt_aff(turn, array.shape)


def from_lps(array: NDArray[Any], like: Image) -> NDArray[Any]:
    """Turns an LPS volume on the grid of `like` to the stored orientation of `like`: the inverse of `to_lps`."""
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    turned: NDArray[Any] = apply_orientation(array, ornt_transform(axcodes2ornt("LPS"), io_orientation(like.affine)))
    return turned


def write_like(path: Path, array: NDArray[np.uint8] | NDArray[np.float32], like: Image) -> None:
    """Writes a volume with exactly the geometry of `like`.

    path   .nii.gz or .nii; replaced whole or not at all, the same bytes for the same input
    array  (x, y, z) in the stored orientation of `like`; uint8 label map or float32 map
    """
    if array.shape != like.shape:
        raise ValueError(f"array is {array.shape}, {like.path} is {like.shape}")
    if like.header is None:
        write_image(path, array, like.affine)
        return
    header = like.header.copy()
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    _write(path, array, header)


def write_image(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Writes a new NIfTI-1 volume in millimetres, with the affine as qform and sform (code 1: scanner).

    path   .nii.gz or .nii; replaced whole or not at all, the same bytes for the same input
    array  (x, y, z) int16, uint8 or float32
    """
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header()
    header.set_data_shape(array.shape)
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm")
    _write(path, array, header)


def _write(path: Path, array: NDArray[Any], header: Any) -> None:
    """Writes `array` under `header`, which holds the shape (with axes of length 1 that the array may lack); data type,
    scale and offset are set here. nibabel's own writer puts NaN into the scale, which not every reader takes for 1."""
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


def _read_nibabel(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], Any]:
    """Array, affine and NIfTI header (None for MGH) of a NIfTI or MGH file."""
    from isal import igzip

    content = path.read_bytes()
    if content.startswith(_GZIP_MAGIC):
        content = igzip.decompress(content)
    is_mgh = path.suffix.lower() in (".mgz", ".mgh")
    header = _mgh_header(content) if is_mgh else _nifti_header(path, content)
    header.check_fix(logger=_NO_LOG)
    shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), header.get_data_offset()
    _check_voxels(path, shape, dtype)
    needed = offset + math.prod(shape) * dtype.itemsize
    if len(content) < needed:
        raise _damaged(path, f"it holds {len(content)} bytes of {needed}")
    stored = np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape[:3], order="F")
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1, 0):
        stored = stored * slope + intercept
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    return stored.astype(np.float32), affine, None if is_mgh else header


def _mgh_header(content: bytes) -> Any:
    from nibabel.freesurfer.mghformat import MGHHeader

    return MGHHeader.from_fileobj(io.BytesIO(content), check=False)


def _nifti_header(path: Path, content: bytes) -> Any:
    """The header as it stands in the file; NIfTI-1 and -2 tell themselves apart by its length. Extensions are left."""
    from nibabel import Nifti1Header, Nifti2Header

    lengths = {int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big")}
    header_class = Nifti2Header if Nifti2Header.sizeof_hdr in lengths else Nifti1Header
    header = header_class(content[: header_class.sizeof_hdr], check=False)
    if header["magic"] != header_class.single_magic:
        raise _damaged(path, "it does not say that it is a NIfTI file in one piece")
    # nibabel's repair of headers puts 1 mm in the place of a zero spacing.
    if header["sform_code"] == 0 and not np.all(header["pixdim"][1:4]):
        raise _degenerate(path, "its header gives a spacing of zero")
    return header


def _read_itk(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], None]:
    """Array and affine of an NRRD or MetaImage file."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    is_nrrd = path.suffix.lower() == ".nrrd"
    reader.SetImageIO("NrrdImageIO" if is_nrrd else "MetaImageIO")
    reader.SetFileName(str(path))
    if not is_nrrd:
        _check_meta_axes(path)
    try:
        with _silent_stderr():
            reader.ReadImageInformation()
            if reader.GetNumberOfComponents() != 1:
                raise _not_scalar(path)
            if math.prod(reader.GetSize()) > _MOST_VOXELS:
                raise _damaged(path, f"its header asks for {_times(reader.GetSize())} voxels")
            image = reader.Execute()
    except RuntimeError as error:  # its text is a page of C++ source places, and ends in "Reason: Success"
        raise _damaged(path, "ITK cannot read it") from error
    array = SimpleITK.GetArrayViewFromImage(image).T
    _check_voxels(path, array.shape, array.dtype)
    axes = image.GetDimension()
    to_world = np.eye(4)
    to_world[:3, :3] = np.reshape(image.GetDirection(), (axes, axes))[:3, :3] * image.GetSpacing()[:3]
    to_world[:3, 3] = image.GetOrigin()[:3]
    return array.reshape(array.shape[:3], order="F").astype(np.float32), _LPS_TO_RAS @ to_world, None


def _check_meta_axes(path: Path) -> None:
    """ITK has room for 10 axes, and brings the whole process down when a damaged header gives more."""
    with path.open("rb") as stream:
        axes = re.search(rb"NDims\s*=\s*(\d+)", stream.read(65536))
    if axes is None or int(axes[1]) > 10:
        raise _damaged(path, "its header does not give the number of axes")


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Sends what C++ code prints to standard error nowhere: MetaImage errors arrive there besides the exception."""
    with _stderr_lock:
        saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(nowhere)


def _check_voxels(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if min(shape, default=0) < 1:
        raise _damaged(path, f"its header gives the size {_times(shape)}")
    if len(shape) < 3:
        raise ImageError(f"{path} is {len(shape)}-D ({_times(shape)}).", "Give the whole 3-D volume.")
    volumes = math.prod(shape[3:])
    if volumes > 1:
        raise ImageError(f"{path} holds {volumes} volumes ({_times(shape)}).", "Give one 3-D volume a modality.")
    if dtype.kind not in "iufb":
        raise _not_scalar(path)


def _check_geometry(path: Path, affine: NDArray[np.float64]) -> None:
    if not np.isfinite(affine).all():
        raise _degenerate(path, "it holds NaN or infinite values")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < _SMALLEST_SPACING_MM:
        raise _degenerate(path, f"the spacing is {spacing.min():g} mm along one axis")
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < _SMALLEST_SKEW:
        raise _degenerate(path, "its three axes lie in one plane")


def _check_finite(path: Path, array: NDArray[np.float32]) -> None:
    count = array.size - np.count_nonzero(np.isfinite(array))
    if count:
        raise ImageError(
            f"{path} holds NaN or infinite values in {count} of {array.size} voxels.",
            "Find the step that made them, or set them to the background value if they lie outside the head.",
        )


def _damaged(path: Path, reason: str) -> ImageError:
    return ImageError(f"{path} is damaged, cut short or no image: {reason}.", "Copy or export the file again.")


def _degenerate(path: Path, reason: str) -> ImageError:
    return ImageError(
        f"The position of the voxels of {path} cannot be used: {reason}.",
        "Export the scan again, or restore its affine from the original series.",
    )


def _not_scalar(path: Path) -> ImageError:
    return ImageError(f"{path} holds complex, colour or vector voxels.", "Give an image with one real value a voxel.")


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
