"""What a case is made of, before anything is prepared: its files, what each one is taken for, and what is wrong."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.data.image import image_stem
from anymri.data.layouts import search
from anymri.data.layouts.listing import walk
from anymri.data.layouts.names import role_of_name
from anymri.errors import AnymriError
from anymri.prepare.doctor import examine as examine_scans
from anymri.prepare.searching import series_in
from anymri.progress import Progress
from anymri.studio.source import CaseSource

if TYPE_CHECKING:
    from anymri.prepare.findings import ScanReport

# Images of a folder that are listed, and levels of folders that are searched.
_MOST_IMAGES, _DEPTH = 64, 4
# Roles of files that are not scans.
_OTHER_ROLES = {"label": "label map", "brain_mask": "brain mask"}


def examine(source: CaseSource, brain: str, progress: Progress) -> dict[str, Any]:
    """Return what can be found out about the scans of a case; nothing is refused.

    brain     how the brain is found in scans with skull, see `anymri.prepare.preparation.prepare`

    scans     none if not one can be read; else one per file that may be a scan: `path`, `name`, `modality`, `why`,
              `shape`, `spacing_mm`, `confidence`
    findings  what a person should know, each with `level`, `scan`, `text`, `advice`
    plan      what will be done, one sentence per step
    refused   whether the case cannot be segmented as it is
    label     file of the expert label map
    brain_mask  file of the mask of the brain

    Registration is not tried here, because it takes long: the preparation reports what it found.
    """
    found = examine_scans(source.place, source.scans, brain, registration=False, progress=progress)
    scans = [_of_report(report) for report in found.scans]
    known = {scan["path"] for scan in scans}
    progress("other files", len(scans), len(scans))
    if scans:
        scans += [scan for scan in _others(source) if scan["path"] not in known]
    roles = _roles(source)
    scans = [scan for scan in scans if scan["path"] not in roles.values()]
    found.plan.extend(f"{role[:1].upper()}{role[1:]}: {file.name}." for role, file in roles.items())
    plain = found.as_dict()
    return {
        "scans": scans,
        "findings": plain["findings"] + [_note(sentence) for sentence in found.left_out],
        "plan": plain["plan"],
        "refused": found.refused,
        "label": roles.get("label map"),
        "brain_mask": roles.get("brain mask"),
    }


def _note(sentence: str) -> dict[str, str]:
    return {"level": "note", "scan": "", "text": sentence, "advice": ""}


def _of_report(report: ScanReport) -> dict[str, Any]:
    seen = report.recognised or {}
    looks = seen.get("modality") or "none of the four"
    if report.modality is None:
        why = f"looks like {looks}"
    elif role_of_name(image_stem(report.file) or "") == report.modality:
        why = "by its name"
    else:
        why = "by its headers" if report.format == "DICOM" else "by its intensities"
    return {
        "path": report.file,
        "name": report.file.name if report.format != "DICOM" or report.modality else report.label,
        "modality": report.modality,
        "why": why,
        "shape": list(report.shape),
        "spacing_mm": [round(mm, 3) for mm in report.spacing_mm],
        "confidence": 1.0 if why == "by its name" else round(float(seen.get("confidence", 0.0)), 2),
    }


def _others(source: CaseSource) -> Iterator[dict[str, Any]]:
    """Yield files and series of the place that the examination does not use, so that a person can choose them."""
    if source.place is None or not source.place.is_dir():
        return
    images = [file for _, listing in walk(source.place, _DEPTH) for file, _ in listing.images]
    for file in images[:_MOST_IMAGES]:
        yield _unused(file, file.relative_to(source.place).as_posix())
    with warnings.catch_warnings(), suppress(AnymriError, OSError, ValueError):
        warnings.simplefilter("ignore")  # the examination has reported them
        for series in series_in(source.place, None)[0]:
            shape = list(series.image.shape)
            yield _unused(series.files[0], series.title) | {"shape": shape}


def _unused(path: Path, name: str) -> dict[str, Any]:
    none = {"modality": None, "why": "not used", "shape": None, "spacing_mm": None, "confidence": 0.0}
    return {"path": path, "name": name, **none}


def _roles(source: CaseSource) -> dict[str, Path]:
    """Return the label map and the brain mask that belong to the case: those given, or by the names of files."""
    found: dict[str, Path | None] = {"label": source.label, "brain_mask": source.brain_mask}
    if source.place is not None and source.place.is_dir():
        with warnings.catch_warnings(), suppress(AnymriError, OSError):
            warnings.simplefilter("ignore")
            cases = search(source.place).cases
            if len(cases) == 1:
                found["label"] = found["label"] or cases[0].label
                found["brain_mask"] = found["brain_mask"] or cases[0].brain_mask
    return {_OTHER_ROLES[role]: path for role, path in found.items() if path is not None}
