"""Plan of `anymri segment` for a raw study, as the examination shows it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from anymri.extras import install_line
from anymri.modalities import MODALITIES
from anymri.prepare.alignment import best_scan
from anymri.prepare.brain_tools import installed
from anymri.prepare.checks import LARGEST_BRAIN_ML, LARGEST_CUT, SMALLEST_BRAIN_ML
from anymri.prepare.findings import Examination
from anymri.prepare.raw import RawStudy


def add_plan(
    study: RawStudy, several_grids: bool, reasons: Sequence[str], registration: bool, found: Examination
) -> None:
    """Add what `anymri segment` will do.

    reasons  why the scans cannot be used as they are
    """
    if not reasons:
        found.plan.append("The scans are on one grid of about 1 mm and without skull: they are used as they are.")
    else:
        check_simpleitk(any(scan.skull for scan in found.scans), found)
        fixed = best_scan(study)
        _refuse_brain(fixed, found)
        methods = sorted({str(scan.brain["method"]) for scan in found.scans if scan.brain is not None})
        if methods:
            voted = "; the masks of the scans are voted to one" if len(study.scans) > 1 else ""
            found.plan.append(f"The brain is found by {', '.join(methods)}{voted}.")
        others = [modality for modality in study.scans if modality != fixed]
        if others and several_grids:
            move = "registered to" if registration else "brought by their headers onto"
            found.plan.append(f"{', '.join(others)}: {move} {fixed}, whose slices are the finest.")
        found.plan.append("Scans are resampled to 1 mm, and voxels outside the brain become 0.")
    found.plan.append(f"The label map has the grid of {study.reference}; --space gives another one.")
    missing = [modality for modality in MODALITIES if modality not in study.scans]
    if missing:
        found.plan.append(f"{', '.join(missing)}: missing; the network works without.")
    if found.refused:
        found.plan.insert(0, "The case is refused as it is: see the errors.")


def check_simpleitk(with_skull: bool, found: Examination) -> None:
    """Add an error that names what to install if SimpleITK is missing, without which no scan is prepared.

    with_skull  whether a scan has the head around the brain, for which a tool that finds the brain is named too
    """
    if find_spec("SimpleITK") is None:
        extra = "brain" if with_skull and not installed() else "prepare"  # `brain` installs `prepare` too
        what = "Preparing the scans needs SimpleITK, which is not installed."
        found.add("error", "", what, f"Install it: {install_line(extra)}")


def _refuse_brain(fixed: str, found: Examination) -> None:
    """Add an error if the scan that others are brought onto does not show a whole brain."""
    brain = next(scan.brain for scan in found.scans if scan.label == fixed)
    if brain is None:
        return
    if not SMALLEST_BRAIN_ML <= brain["volume_ml"] <= LARGEST_BRAIN_ML or brain["cut_share"] > LARGEST_CUT:
        found.add(
            "error",
            fixed,
            "It does not show a whole brain, and the other scans would be brought onto it."
            if len(found.scans) > 1
            else "It does not show a whole brain.",
            "Give a scan of the whole head, or a mask of the brain by --brain-mask FILE.",
        )
