"""Checks of the contents of image files, and the errors that they raise."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.errors import ImageError

# Finer than any MRI of a brain. A smaller value means a damaged header, or one in metres.
SMALLEST_SPACING_MM = 0.01
# Volume of a voxel over that of the box with its edges: 1 for right angles, 0 if the three axes are in one plane.
SMALLEST_SKEW = 1e-3


def check_voxels(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise `ImageError` unless a header describes one 3-D volume with one real value per voxel."""
    if min(shape, default=0) < 1:
        raise damaged(path, f"its header gives the size {size_text(shape)}")
    if len(shape) < 3:
        raise ImageError(f"{path} is {len(shape)}-D ({size_text(shape)}).", "Give the whole 3-D volume.")
    volumes = math.prod(shape[3:])
    if volumes > 1:
        raise ImageError(f"{path} has {volumes} volumes ({size_text(shape)}).", "Give one 3-D volume per modality.")
    if dtype.kind not in "iufb":
        raise not_scalar(path)


def check_geometry(path: Path, affine: NDArray[np.float64]) -> None:
    """Raise `ImageError` unless an affine (4, 4), voxels to mm, is finite and invertible with plausible spacing."""
    if not np.isfinite(affine).all():
        raise degenerate(path, "it has NaN or infinite values")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < SMALLEST_SPACING_MM:
        raise degenerate(path, f"the spacing is {spacing.min():g} mm along one axis")
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < SMALLEST_SKEW:
        raise degenerate(path, "its three axes are in one plane")


def check_finite(path: Path, array: NDArray[np.float32]) -> None:
    """Raise `ImageError` with their number if some voxels are not finite."""
    count = array.size - np.count_nonzero(np.isfinite(array))
    if count:
        raise ImageError(
            f"{path} has NaN or infinite values in {count} of {array.size} voxels.",
            "Fix the step that made them, or set them to the background value if they are outside the head.",
        )


def damaged(path: Path, reason: str) -> ImageError:
    """Return the error for a file that cannot be read."""
    return ImageError(f"{path} is damaged, truncated or not an image: {reason}.", "Copy or export the file again.")


def degenerate(path: Path, reason: str) -> ImageError:
    """Return the error for a file whose voxels have no usable position."""
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
