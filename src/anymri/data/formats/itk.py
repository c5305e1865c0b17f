"""Reading of NRRD and MetaImage files with SimpleITK, which is in the extra `prepare`."""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats.checks import check_voxels, damaged, not_scalar, size_text
from anymri.extras import need

SUFFIXES = (".nrrd", ".mha", ".mhd")

# ITK allocates the memory that a header asks for before it checks that the file has that much.
_MOST_VOXELS = 1024**3
# ITK has room for 10 axes, and more of them in a damaged header abort the whole process.
_MOST_AXES = 10

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_stderr_lock = threading.Lock()


def read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64], None]:
    """Return the array, the affine and None of an NRRD or MetaImage file; see `anymri.data.formats`."""
    need("prepare", "SimpleITK", purpose=f"Reading {path}")
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
                raise not_scalar(path)
            if math.prod(reader.GetSize()) > _MOST_VOXELS:
                raise damaged(path, f"its header declares {size_text(reader.GetSize())} voxels")
            image = reader.Execute()
    except RuntimeError as error:  # its text is a page of C++ source places, and ends in "Reason: Success"
        raise damaged(path, "ITK cannot read it") from error
    array = SimpleITK.GetArrayViewFromImage(image).T
    check_voxels(path, array.shape, array.dtype)
    axes = image.GetDimension()
    to_world = np.eye(4)
    to_world[:3, :3] = np.reshape(image.GetDirection(), (axes, axes))[:3, :3] * image.GetSpacing()[:3]
    to_world[:3, 3] = image.GetOrigin()[:3]
    return array.reshape(array.shape[:3], order="F").astype(np.float32), _LPS_TO_RAS @ to_world, None


def _check_meta_axes(path: Path) -> None:
    with path.open("rb") as stream:
        axes = re.search(rb"NDims\s*=\s*(\d+)", stream.read(65536))
    if axes is None or int(axes[1]) > _MOST_AXES:
        raise damaged(path, "its header does not give the number of axes")


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what C++ code prints to standard error: errors of MetaImage are printed there besides the exception."""
    with _stderr_lock:
        saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(nowhere)
