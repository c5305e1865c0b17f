"""One scan or label map with its geometry: reading, changing the orientation, writing.

Arrays are (x, y, z). World coordinates are RAS+ millimetres as in nibabel. Inside anymri arrays have the voxel
orientation of BraTS files, LPS (x grows to the patient's left, y to the back, z to the head); an `Image` keeps the
orientation of its file. Formats: NIfTI-1 and -2, FreeSurfer MGH, NRRD, MetaImage. Only single-file NIfTI is written.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats import metaimage, mgh, nifti, nrrd
from anymri.data.formats.checks import check_geometry, check_values
from anymri.data.formats.content import check_regular
from anymri.errors import AnymriError, ImageError, InputWarning

if TYPE_CHECKING:
    from nibabel import Nifti1Header

_log = logging.getLogger(__name__)
_FORMATS = (nifti, mgh, nrrd, metaimage)
# Label maps have fewer values, and scans, 8-bit ones included, have more.
_FEW_VALUES = 10
_SAMPLE = 10_000
SUFFIXES = tuple(suffix for known in _FORMATS for suffix in known.SUFFIXES)


@dataclass(frozen=True, eq=False)
class Image:
    """A volume in the orientation of its file.

    array   (x, y, z) float32, scale factors applied
    affine  (4, 4) float64: voxel indices to RAS+ millimetres
    path    the file
    header  NIfTI header of the file, which keeps written maps in exactly the same geometry; None for other formats
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    path: Path
    header: Nifti1Header | None = field(default=None, repr=False)

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
        """Directions in which x, y and z grow, for example `LPS`; the closest letters if the scan is oblique."""
        from nibabel.orientations import aff2axcodes

        return "".join(aff2axcodes(self.affine))

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


def image_stem(path: Path) -> str | None:
    """Return the file name without its image suffix, or None if the suffix is not that of an image."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return None


def read_image(path: Path) -> Image:
    """Read one finite 3-D volume; raise `ImageError` for any other file.

    A fourth axis of length 1 is dropped from the array; `write_like` restores it.
    """
    check_regular(path)
    if image_stem(path) is None:
        raise ImageError(
            f"{path} does not have the suffix of an image.", f"Convert it to NIfTI; known: {', '.join(SUFFIXES)}."
        )
    file_format = next((known for known in _FORMATS if path.suffix.lower() in known.SUFFIXES), nifti)
    try:
        with np.errstate(all="ignore"):  # overflow gives infinite values, which are refused
            array, affine, header = file_format.read(path)
            check_geometry(path, affine)
    except (AnymriError, InputWarning):  # a note is raised with --strict
        raise
    except MemoryError as error:
        raise ImageError(
            f"{path} does not fit into memory.", "Close other programs, or use a machine with more memory."
        ) from error
    except Exception as error:  # unusual files make the libraries raise nearly every class there is
        raise ImageError(
            f"anymri cannot read {path}.", "If another program can open it, run with --debug and report the traceback."
        ) from error
    check_values(path, array)
    _log.info("read %s: %s voxels", path, "x".join(map(str, array.shape)))
    return Image(array, affine, path, header)


def data_file_of(path: Path) -> Path | None:
    """Return the file beside an image that has its voxels, None if they are in the image file or cannot be found."""
    for known in (nrrd, metaimage):
        if path.suffix.lower() in known.SUFFIXES:
            with suppress(ImageError, OSError):
                check_regular(path)
                file: Path = known.voxels_of(path).file
                return None if file == path else file
    return None


def read_scan(path: Path) -> Image:
    """Read a scan as `read_image` does, and check it as `checked_scan` does."""
    return checked_scan(read_image(path))


def checked_scan(image: Image) -> Image:
    """Return an image that is used as a scan; raise `ImageError` if all voxels have the same value.

    An `InputWarning` says that a scan has so few values that it could be a label map.
    """
    path = image.path
    if image.array.min() == image.array.max():
        raise ImageError(
            f"{path} has the value {image.array.flat[0]:g} in every voxel.",
            "Omit the modality if it is missing; a missing scan is not a file of zeros.",
        )
    if _has_few_values(image.array):
        warnings.warn(
            f"{path} is used as a scan, but it has at most {_FEW_VALUES} different values, all whole numbers: "
            "is it a label map?",
            InputWarning,
            stacklevel=2,
        )
    return image


def _has_few_values(array: NDArray[np.float32]) -> bool:
    """Return whether the values are whole numbers and as few as in label maps."""
    values = array.ravel(order="K")
    # Every voxel is examined only where a part of them has few values, because sorting takes time.
    for part in (values[:: values.size // _SAMPLE + 1], values):
        found = np.unique(part)
        if found.size > _FEW_VALUES or not np.array_equal(found, np.rint(found)):
            return False
    return True


def to_lps(array: NDArray[Any], affine: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Flip and swap the axes of a volume so that they grow to L, P and S; voxel values do not change.

    array    (x, y, z) in any orientation
    affine   (4, 4): its voxel indices to RAS+ millimetres
    returns  the array, a view with strides of any sign, and its affine
    """
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    return _reoriented(array, affine, ornt_transform(io_orientation(affine), axcodes2ornt("LPS")))


def to_axes_of(
    array: NDArray[Any], affine: NDArray[np.float64], grid: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Flip and swap the axes of a volume so that they have the directions of the axes of another volume.

    array    (X, Y, Z) and any further axes
    affine   (4, 4): its voxel indices to RAS+ millimetres
    grid     (4, 4): affine of the other volume. In scans at 45 degrees rounding decides which axis is nearest to L, P
             or S, so that all scans of a case follow one of them
    returns  the array, a view with strides of any sign, and its affine
    """
    from nibabel.orientations import io_orientation

    return _reoriented(array, affine, io_orientation(np.linalg.inv(grid) @ affine))


def from_lps(array: NDArray[Any], like: Image) -> NDArray[Any]:
    """Return an LPS volume (x, y, z) on the grid of `like` in the orientation of `like`: the inverse of `to_lps`."""
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    change = ornt_transform(axcodes2ornt("LPS"), io_orientation(like.affine))
    stored: NDArray[Any] = apply_orientation(array, change)
    return stored


def _reoriented(
    array: NDArray[Any], affine: NDArray[np.float64], change: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    from nibabel.orientations import apply_orientation, inv_ornt_aff

    return apply_orientation(array, change), affine @ inv_ornt_aff(change, array.shape)


def write_like(path: Path, array: NDArray[np.uint8] | NDArray[np.float32], like: Image) -> None:
    """Write a map with exactly the geometry of `like`.

    path   .nii.gz or .nii; replaced whole or not at all, with the same bytes for the same input
    array  (x, y, z) in the orientation of `like`; uint8 label map or float32 map
    """
    if array.shape != like.shape:
        raise ValueError(f"array is {array.shape}, {like.path} is {like.shape}")
    if like.header is None:
        write_image(path, array, like.affine)
    else:
        nifti.write(path, array, nifti.header_of_map(like.header))


def write_image(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Write a new NIfTI-1 volume in millimetres.

    path    .nii.gz or .nii; replaced whole or not at all, with the same bytes for the same input
    array   (x, y, z) int16, uint8 or float32
    affine  (4, 4): voxel indices to RAS+ millimetres, written as qform and sform
    """
    nifti.write(path, array, nifti.new_header(array.shape, affine))
