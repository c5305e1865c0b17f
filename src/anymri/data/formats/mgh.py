"""Reading of FreeSurfer MGH files."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats.checks import check_voxels, damaged
from anymri.data.formats.content import opened
from anymri.errors import ImageError, InputWarning

SUFFIXES = (".mgz", ".mgh")

_HEADER = np.dtype(
    [
        ("version", ">i4"),
        ("dims", ">i4", 4),
        ("type", ">i4"),
        ("dof", ">i4"),
        ("goodRASFlag", ">i2"),
        ("delta", ">f4", 3),
        ("Mdc", ">f4", (3, 3)),  # directions of x, y and z, one per row
        ("Pxyz_c", ">f4", 3),  # position of the centre
    ]
)
_START_OF_VOXELS = 284
_TYPES = {0: "u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
# By the definition of the format, unless goodRASFlag is positive: x to the left, y to the feet, z to the front.
_DEFAULT_DIRECTIONS = np.array([[-1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float32)


def read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], None]:
    """Return the array, the affine and None of an MGH file; see `anymri.data.formats`."""
    with opened(path) as content:
        header = np.frombuffer(content.start(_START_OF_VOXELS), _HEADER, 1)[0]
        if header["version"] != 1:
            raise damaged(path, "its header is not that of an MGH file")
        if int(header["type"]) not in _TYPES:
            raise ImageError(
                f"{path} has the data type {header['type']}, which MGH files cannot have.", "Export the file again."
            )
        shape, dtype = tuple(header["dims"].tolist()), np.dtype(_TYPES[int(header["type"])])
        check_voxels(path, shape, dtype)
        stored, _ = content.voxels(_START_OF_VOXELS, shape, dtype)
    return stored.astype(np.float32, copy=False), _affine(path, header), None


def _affine(path: Path, header: np.void) -> NDArray[np.float64]:
    axes, centre = header["Mdc"].T * header["delta"], header["Pxyz_c"]
    if header["goodRASFlag"] <= 0:
        warnings.warn(
            f"{path} does not give its position (goodRASFlag is {header['goodRASFlag']}), so that left and right are "
            "not known; the default of FreeSurfer is used: x grows to the left.",
            InputWarning,
            stacklevel=3,
        )
        axes, centre = _DEFAULT_DIRECTIONS.T, np.zeros(3)
    affine = np.eye(4, dtype=np.float32)  # rounded as by nibabel
    affine[:3, :3] = axes
    affine[:3, 3] = centre - axes @ header["dims"][:3] / 2
    return affine.astype(np.float64)
