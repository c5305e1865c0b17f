"""Checks of the contents of image files, and the errors that they raise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.errors import ImageError

# Finer and coarser than any MRI of a brain. Values beyond mean a damaged header, or one in another unit.
SMALLEST_SPACING_MM = 0.01
LARGEST_SPACING_MM = 50
# Ten metres: no scanner is so large.
LARGEST_ORIGIN_MM = 10_000
# Volume of a voxel over that of the box with its edges: 1 for right angles, 0 if the three axes are in one plane.
SMALLEST_SKEW = 1e-3
# Larger than a head with the finest voxels. Readers refuse more before they allocate memory.
LONGEST_AXIS = 2048
MOST_VOXELS = 512**3
# Intensities of MRI do not have a unit, but those of scanners and of usual scalings are far below.
LARGEST_VALUE = 1e9


def check_voxels(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise `ImageError` unless a header describes one 3-D volume with one real value per voxel, of plausible size."""
    if min(shape, default=0) < 1:
        raise damaged(path, f"its header gives the size {size_text(shape)}")
    if len(shape) < 3:
        raise ImageError(f"{path} is {len(shape)}-D ({size_text(shape)}).", "Give the whole 3-D volume.")
    if min(shape[:3]) == 1:
        raise ImageError(f"{path} is a single slice ({size_text(shape)}).", "Give the whole 3-D volume.")
    volumes = math.prod(shape[3:])
    if volumes > 1:
        raise ImageError(f"{path} has {volumes} volumes ({size_text(shape)}).", "Give one 3-D volume per modality.")
    if dtype.kind not in "iufb":
        raise not_scalar(path)
    if max(shape) > LONGEST_AXIS or math.prod(shape) > MOST_VOXELS:
        raise ImageError(
            f"The header of {path} gives the size {size_text(shape)}, larger than any MRI of a brain.",
            f"Export the file again, or resample it to at most {LONGEST_AXIS} voxels per axis and 512^3 in all.",
        )


def check_geometry(path: Path, affine: NDArray[np.float64]) -> None:
    """Raise `ImageError` unless an affine (4, 4), voxels to mm, can be that of an MRI of a brain."""
    fault = geometry_fault(affine)
    if fault:
        raise degenerate(path, fault)


def geometry_fault(affine: NDArray[np.float64]) -> str | None:
    """Return why an affine (4, 4), voxels to mm, cannot be that of an MRI of a brain, or None if it can."""
    if not np.isfinite(affine).all():
        return "it has NaN or infinite values"
    with np.errstate(over="ignore"):
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < SMALLEST_SPACING_MM:
        return f"the spacing is {spacing.min():g} mm along one axis"
    if spacing.max() > LARGEST_SPACING_MM:
        return f"the spacing is {spacing.max():g} mm along one axis"
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < SMALLEST_SKEW:
        return "its three axes are in one plane"
    origin = affine[:3, 3]
    if np.abs(origin).max() > LARGEST_ORIGIN_MM:
        return f"the origin is at {', '.join(f'{value:g}' for value in origin)} mm"
    return None


def check_values(path: Path, array: NDArray[np.float32]) -> None:
    """Raise `ImageError` if voxels are not finite, with their number, or beyond the values of any MRI."""
    low, high = array.min(), array.max()  # NaN if there is one
    largest = max(high, -low, key=abs)
    if np.isnan(low) or np.isinf(largest):
        count = array.size - np.count_nonzero(np.isfinite(array))
        raise ImageError(
            f"{path} has NaN or infinite values in {count} of {array.size} voxels.",
            "Fix the step that made them, or set them to the background value if they are outside the head.",
        )
    if abs(largest) > LARGEST_VALUE:
        raise ImageError(
            f"{path} has voxels with values up to {largest:g}, beyond those of any MRI ({LARGEST_VALUE:g}).",
            "Export the file again; its data type, byte order or scale factors are probably wrong.",
        )


def damaged(path: Path, reason: str) -> ImageError:
    """Return the error for a file that is cut off or has other content than its format prescribes."""
    return ImageError(f"{path} is damaged, truncated or not an image: {reason}.", "Copy or export the file again.")


def degenerate(path: Path, reason: str) -> ImageError:
    """Return the error for a file whose voxels do not have a usable position."""
    return ImageError(
        f"The position of the voxels of {path} cannot be used: {reason}.",
        "Export the scan again, or restore its affine from the original series.",
    )


def not_scalar(path: Path) -> ImageError:
    """Return the error for complex, colour or vector voxels."""
    return ImageError(f"{path} has complex, colour or vector voxels.", "Give an image with one real value per voxel.")


def size_text(shape: tuple[int, ...]) -> str:
    """Return a shape in words: 240x240x155."""
    return "x".join(map(str, shape))
