"""A raw study of images in memory: nibabel images, or arrays with their affines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from anymri.data.case import Case
from anymri.data.formats.checks import check_geometry, check_values, check_voxels
from anymri.data.image import Image, checked_scan
from anymri.data.layouts import by_modality
from anymri.errors import ImageError
from anymri.prepare.raw import RawScan, RawStudy


@runtime_checkable
class SpatialImage(Protocol):
    """Image of nibabel: voxels, affine and header."""

    dataobj: Any
    affine: Any
    header: Any


Volume: TypeAlias = SpatialImage | tuple[NDArray[Any], NDArray[Any]]


def raw_from_images(images: Mapping[str, Volume], brain_mask: Volume | None = None) -> RawStudy:
    """Return the raw study of images in memory.

    images      any alias of a modality -> a nibabel image, or (array, affine): (x, y, z) of real numbers, and (4, 4)
                voxels to RAS+ mm
    brain_mask  mask of the brain in the same form

    Raises `ImageError` for what is not a 3-D volume of finite values with a plausible affine.
    """
    found = {name: checked_scan(_image(name, value)) for name, value in by_modality(images).items()}
    case = Case("case", {modality: image.path for modality, image in found.items()})
    scans = {modality: RawScan(found[modality], ()) for modality in case.scans}
    mask = None if brain_mask is None else _image("brain mask", brain_mask)
    every = {modality: scan.image for modality, scan in scans.items()} | ({} if mask is None else {"brain_mask": mask})
    inputs = {role: {"file": f"{role} (in memory)", "sha256": _hash(image)} for role, image in every.items()}
    return RawStudy("case", scans, mask, case=case, inputs=inputs)


def _image(name: str, value: Volume) -> Image:
    path = Path(f"{name} (in memory)")
    if isinstance(value, SpatialImage):
        from nibabel import Nifti1Header

        array, affine = np.asanyarray(value.dataobj), value.affine
        header = value.header.copy() if isinstance(value.header, Nifti1Header) else None
    elif isinstance(value, tuple) and len(value) == 2:
        (array, affine), header = map(np.asarray, value), None
    else:
        raise ImageError(
            f"The image of {name} is a {type(value).__name__}.",
            "Give all scans as files, or all as nibabel images or pairs of an array (x, y, z) and its affine (4, 4).",
        )
    check_voxels(path, array.shape, array.dtype)
    if np.shape(affine) != (4, 4):
        raise ImageError(f"The affine of {name} has the shape {np.shape(affine)}.", "Give a matrix of 4 x 4.")
    affine = np.asarray(affine, dtype=np.float64)
    check_geometry(path, affine)
    array = np.array(array, dtype=np.float32).reshape(array.shape[:3])
    check_values(path, array)
    return Image(array, affine, path, header)


def _hash(image: Image) -> str:
    """Return the SHA-256 of voxels and affine."""
    return hashlib.sha256(image.array.tobytes() + image.affine.tobytes()).hexdigest()
