"""Position of the voxels of a NIfTI file: its sform, its qform or its spacing, in millimetres.

A form whose code is 0 is not set. Of two forms the sform is used, as by nibabel. ITK uses the qform unless the code of
the sform is 1, and takes the spacing from `pixdim`; where that gives another position, a note is issued.
"""

from __future__ import annotations

import logging
import warnings
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats.checks import degenerate, geometry_fault
from anymri.errors import InputWarning

if TYPE_CHECKING:
    from nibabel import Nifti1Header


Affine = NDArray[np.float64]

# Lower three bits of xyzt_units -> the unit and its length in mm. All others are millimetres, as in ITK.
_UNITS = {1: ("metres", 1000.0), 3: ("microns", 0.001)}
# Largest b*b + c*c + d*d of a quaternion. Rounding gives less than 1 + 1e-6; this is a generous bound.
_LONGEST_QUATERNION = 1 + 1e-3
_TOLERANCE = 1e-3
# nibabel logs what it repairs in a header, without the file's name; what matters is checked here.
_NO_LOG = logging.Logger("nibabel headers", level=logging.CRITICAL + 1)
_REFUSE_NOTHING = 1000


def affine_mm(path: Path, header: Nifti1Header) -> Affine:
    """Return the affine (4, 4) from voxels to RAS+ mm.

    header  repaired for other programs that read a map written with it: quaternions get length 1, the codes of forms
            that cannot be used become 0, and an impossible spacing becomes that of the sform; the unit stays

    Issues an `InputWarning` if a form cannot be used, if none is set, and if sform and qform differ; see `differ`.
    Raises `ImageError` if none can be used.
    """
    pixdim = header["pixdim"].astype(np.float64)
    header.check_fix(logger=_NO_LOG, error_level=_REFUSE_NOTHING)
    unit, scale = _UNITS.get(int(header["xyzt_units"]) & 7, ("mm", 1.0))
    usable: dict[str, Affine] = {}
    faults: dict[str, str] = {}
    for name in [name for name in ("sform", "qform") if header[f"{name}_code"]] or ["pixdim"]:
        try:
            usable[name] = _usable(_FORMS[name](header, pixdim), scale)
        except ValueError as error:
            faults[name] = f"{error}, in {unit} by its xyzt_units" if scale != 1 else str(error)
    if not usable:
        raise degenerate(path, "; ".join(f"{name}: {fault}" for name, fault in faults.items()))
    used, affine = next(iter(usable.items()))
    for name, fault in faults.items():
        header[f"{name}_code"] = 0
        _note(f"The {name} of {path} cannot be used, because {fault}; its {used} is used.")
    if used == "pixdim":
        _note(
            f"{path} has no sform and no qform, so that left and right are not known; x is taken to grow to the left."
        )
    if used == "sform" and not faults:
        _compare(path, header, affine, usable.get("qform"), pixdim[1:4] * scale)
    return affine


def differ(one: Affine, other: Affine) -> bool:
    """Return whether two affines in mm differ by more than 1e-3, in directions relative to the spacing or in mm."""
    relative = (one - other)[:3] / [*np.linalg.norm(other[:3, :3], axis=0), 1]
    return not np.abs(relative).max() <= _TOLERANCE


def _usable(affine: Affine, scale: float) -> Affine:
    """Return an affine in mm, given that of a header; raise ValueError if it cannot be that of an MRI of a brain."""
    in_mm: Affine = np.diag([scale, scale, scale, 1.0]) @ affine
    if fault := geometry_fault(in_mm):
        raise ValueError(fault)
    return in_mm


def _sform(header: Nifti1Header, pixdim: NDArray[np.float64]) -> Affine:
    sform = np.asarray(header.get_sform(), dtype=np.float64)
    if not _is_spacing(pixdim[1:4]):
        header["pixdim"][1:4] = np.linalg.norm(sform[:3, :3], axis=0)
    return sform


def _qform(header: Nifti1Header, pixdim: NDArray[np.float64]) -> Affine:
    """Return the qform, with the quaternion normalised in the header if rounding made it longer than 1, as in ITK."""
    _check_spacing(pixdim[1:4])
    if pixdim[0] < 0 and pixdim[0] != -1:  # nibabel takes such a factor for 1, and ITK for -1
        raise ValueError(f"pixdim[0], the handedness, is {pixdim[0]:g}")
    names = ("quatern_b", "quatern_c", "quatern_d")
    quaternion = np.array([header[name] for name in names], dtype=np.float64)
    square = quaternion @ quaternion
    if not square <= _LONGEST_QUATERNION:
        raise ValueError(f"b*b + c*c + d*d of its quaternion is {square:g} instead of at most 1")
    if square - 1 >= abs(header.quaternion_threshold):
        for name, value in zip(names, quaternion / np.sqrt(square), strict=True):
            header[name] = value
    return np.asarray(header.get_qform(), dtype=np.float64)


def _spacing_only(header: Nifti1Header, pixdim: NDArray[np.float64]) -> Affine:
    _check_spacing(pixdim[1:4])
    return np.asarray(header.get_base_affine(), dtype=np.float64)


_FORMS = {"sform": _sform, "qform": _qform, "pixdim": _spacing_only}


def _check_spacing(spacing: NDArray[np.float64]) -> None:
    if not _is_spacing(spacing):
        raise ValueError(_spacing_text(spacing))


def _spacing_text(spacing: NDArray[np.float64]) -> str:
    return f"the spacing is {', '.join(f'{value:g}' for value in spacing)}"


def _is_spacing(spacing: NDArray[np.float64]) -> bool:
    """Return whether a spacing is positive; other values are repaired by nibabel in one way, and by ITK in another."""
    return bool((np.isfinite(spacing) & (spacing > 0)).all())


def _compare(
    path: Path, header: Nifti1Header, sform: Affine, qform: Affine | None, spacing: NDArray[np.float64]
) -> None:
    """Issue a note if the header gives another position besides its sform, or a spacing that cannot be."""
    other, name = qform, "qform"
    if other is None:
        if not _is_spacing(spacing):
            _note(f"The pixdim of {path} cannot be used, because {_spacing_text(spacing)}; its sform is used.")
            return
        other, name = sform.copy(), "pixdim"
        other[:3, :3] *= spacing / np.linalg.norm(sform[:3, :3], axis=0)
    if differ(other, sform):
        corners = [[*corner, 1] for corner in product(*((0, size - 1) for size in header["dim"][1:4].tolist()))]
        distance = np.linalg.norm(corners @ (other - sform).T, axis=1).max()
        _note(
            f"{path} gives two positions: the corners by its {name} are up to {distance:.3g} mm from those by its "
            "sform, which is used."
        )


def _note(text: str) -> None:
    warnings.warn(text, InputWarning, stacklevel=4)
