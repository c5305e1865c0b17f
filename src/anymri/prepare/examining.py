"""Examination of one scan: grid, position, intensities, skull, brain and probable modality."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import Image, image_stem, to_lps
from anymri.errors import AnymriError, MissingExtraError
from anymri.prepare.brain import BrainMask, find_brain, has_skull
from anymri.prepare.checks import (
    LARGEST_BRAIN_ML,
    LARGEST_CUT,
    LARGEST_SPACING_MM,
    SMALLEST_BRAIN_ML,
    cut_is_noted,
    largest_cut,
    spacing_text,
)
from anymri.prepare.findings import Examination, ScanReport
from anymri.prepare.plan import check_simpleitk
from anymri.prepare.plausibility import structure_fault
from anymri.prepare.raw import RawScan
from anymri.prepare.sequences import SURE, recognise, recognise_image

# Larger angles between the axes of the voxels are not rounding.
_SHEAR_DEGREES = 0.1
_FORMATS = {".mgh": "MGH", ".mgz": "MGH", ".nrrd": "NRRD", ".nhdr": "NRRD", ".mha": "MetaImage", ".mhd": "MetaImage"}


def examine_scan(label: str, modality: str | None, scan: RawScan, method: str, found: Examination) -> BrainMask | None:
    """Add the report and the findings of a scan; return its brain mask, or None if it could not be found.

    label   modality or file name, for the findings
    method  how the brain is found, see `anymri.prepare.brain.find_brain`; none: it is not looked for
    """
    image = scan.image
    skull, brain = (None, None) if method == "none" else _brain(label, scan, method, found)
    recognised = _recognised(label, modality, scan, found)
    directions = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    report = ScanReport(
        label=label,
        modality=modality,
        file=image.path,
        format=_format(scan),
        shape=image.shape,
        spacing_mm=image.spacing_mm,
        orientation=image.orientation,
        oblique_degrees=_oblique(directions),
        shear_degrees=_shear(directions),
        position=_position(image),
        intensities=_intensities(image.array),
        skull=skull,
        brain=None if brain is None else _brain_figures(label, image, brain, found),
        recognised=recognised,
    )
    found.scans.append(report)
    if max(image.spacing_mm) > LARGEST_SPACING_MM:
        found.add(
            "error",
            label,
            f"Its voxels are {spacing_text(image.spacing_mm)} mm, more than {LARGEST_SPACING_MM:g} mm along one axis.",
            "Give a scan with thinner slices.",
        )
    if report.shear_degrees > _SHEAR_DEGREES:
        found.add(
            "note", label, f"Its axes are not perpendicular: they are sheared by {report.shear_degrees:.1f} degrees."
        )
    if fault := structure_fault(image):
        found.add("warning", label, f"{fault[:1].upper()}{fault[1:]}")
    return brain


def _brain(label: str, scan: RawScan, method: str, found: Examination) -> tuple[bool | None, BrainMask | None]:
    skull = None
    try:
        skull = bool(has_skull(scan.image))
        return skull, find_brain(scan.image, method)
    except MissingExtraError as error:
        if method in ("auto", "fallback"):
            check_simpleitk(bool(skull), found)
        else:
            found.add("error", "", error.what, error.fix)
    except (ValueError, RuntimeError, AnymriError) as error:
        what, fix = (
            (error.what, error.fix) if isinstance(error, AnymriError) else (f"The brain was not found: {error}", "")
        )
        found.add("error", label, what, fix or "Check that it is a scan of a whole head.")
    return skull, None


def _brain_figures(label: str, image: Image, brain: BrainMask, found: Examination) -> dict[str, object]:
    """Return the figures of a brain, and add findings if it cannot be a whole brain."""
    if not SMALLEST_BRAIN_ML <= brain.volume_ml <= LARGEST_BRAIN_ML:
        found.add(
            "warning",
            label,
            f"The brain has {brain.volume_ml:.0f} mL by the method {brain.method}, and brains have "
            f"{SMALLEST_BRAIN_ML:.0f} to {LARGEST_BRAIN_ML:.0f} mL.",
            "Check that it is a scan of a whole head, or give a mask of the brain by --brain-mask FILE.",
        )
    face, share = largest_cut(to_lps(brain.mask, image.affine)[0])
    if cut_is_noted(share):
        found.add(
            "warning",
            label,
            f"The {face} part of the brain is not in the scan: on that face the brain has {100 * share:.0f} % of its "
            "largest section.",
            "Give a scan of the whole head." if share > LARGEST_CUT else "Expect errors there.",
        )
    return {"method": brain.method, "volume_ml": brain.volume_ml, "cut_share": share}


def _recognised(label: str, modality: str | None, scan: RawScan, found: Examination) -> dict[str, object] | None:
    """Return which modality a scan looks like, and add a finding if it contradicts its role."""
    seen = scan.recognition
    if seen is None and scan.series is not None:
        seen = recognise(scan.series)
    elif seen is None:
        seen = recognise_image(scan.image, "")
    if modality is not None and seen.modality != modality and seen.confidence >= SURE:
        looks = f"a {seen.modality} scan" if seen.modality else "none of the four modalities"
        found.add(
            "warning",
            label,
            f"It is given as {modality}, but looks like {looks} (confidence {seen.confidence:.2f}).",
            "Check whether scans were swapped, and name each scan by its option, as in --t1c FILE.",
        )
    return {"modality": seen.modality, "confidence": seen.confidence}


def _format(scan: RawScan) -> str:
    if scan.series is not None:
        return "DICOM"
    path = scan.image.path
    return _FORMATS.get(path.suffix.lower(), "NIfTI" if image_stem(path) is not None else "DICOM")


def _oblique(directions: NDArray[np.float64]) -> float:
    """Return the largest angle in degrees between an axis of the voxels and the closest axis of the world."""
    return float(np.degrees(np.arccos(np.clip(np.abs(directions).max(axis=0), 0, 1))).max())


def _shear(directions: NDArray[np.float64]) -> float:
    """Return the largest deviation in degrees from right angles between the axes of the voxels."""
    cosines = np.abs(directions.T @ directions - np.eye(3)).max()
    return float(np.degrees(np.arcsin(np.clip(cosines, 0, 1))))


def _position(image: Image) -> str:
    """Return where the position of the voxels comes from."""
    if image.header is None:
        return "header"
    codes = {name: int(image.header[f"{name}_code"]) for name in ("sform", "qform")}
    return ", ".join(f"{name} ({code})" for name, code in codes.items() if code) or "none"


def _intensities(array: NDArray[np.float32]) -> Mapping[str, float | None]:
    from anymri.data.preprocessing import background_value

    low, first, last, high = np.percentile(array, (0, 1, 99, 100)).tolist()
    background = background_value(array)
    return {"min": low, "max": high, "percentile_1": first, "percentile_99": last, "background": background}
