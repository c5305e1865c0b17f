"""What an examination of raw scans found, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """Something that a person should know about a scan or a study.

    level   error: `anymri segment` refuses; warning: a result may be wrong; note: for information
    scan    label of the scan; empty if it concerns the study
    text    a sentence: what was found
    advice  a sentence: what to do about it; empty if nothing has to be done
    """

    level: Level
    scan: str
    text: str
    advice: str = ""


@dataclass(frozen=True)
class ScanReport:
    """One scan as it was found.

    label            modality, or the name of the file if its modality is not known
    modality         role that its name, its headers or an option gives it; None if it is not known
    file             image file, or first file of a DICOM series
    format           NIfTI, MGH, NRRD, MetaImage or DICOM
    shape            voxels along x, y and z
    spacing_mm       distance between neighbouring voxels along x, y and z
    orientation      directions in which x, y and z grow
    oblique_degrees  largest angle between an axis of the voxels and the closest axis of the world
    shear_degrees    largest deviation from 90 degrees between two axes of the voxels
    position         where the position comes from, with codes: "sform (1), qform (1)"
    intensities      `min`, `max`, `percentile_1`, `percentile_99`, `background`; the last is None if it is not constant
    skull            whether the head around the brain is visible; None if that could not be found out
    brain            `method`, `volume_ml`, and `cut_share`, see `anymri.prepare.checks.largest_cut`
    recognised       `modality` (None: none of the four) and `confidence` by the headers or the intensities
    """

    label: str
    modality: str | None
    file: Path
    format: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    oblique_degrees: float
    shear_degrees: float
    position: str
    intensities: Mapping[str, float | None]
    skull: bool | None = None
    brain: Mapping[str, Any] | None = None
    recognised: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class PairReport:
    """How a scan lies on the one that others are brought onto.

    scan, onto         labels of the scans
    overlap_by_header  Dice of the brain masks, each made from its scan alone: about 0.94 if the scans are aligned
    overlap            the same after a rigid registration; None without one
    residual_mm        estimated error of the registration at the edge of the brain
    shift_mm           displacement of the middle of the brain by the registration
    angle_degrees      rotation angle of the registration
    accepted           whether the registration passed its checks
    reason             what it found, as a sentence
    """

    scan: str
    onto: str
    overlap_by_header: float | None
    overlap: float | None = None
    residual_mm: float | None = None
    shift_mm: float | None = None
    angle_degrees: float | None = None
    accepted: bool | None = None
    reason: str = ""


@dataclass
class Examination:
    """All that was found out about the scans of one case.

    case      name of the case
    scans     the scans that could be read
    pairs     how they lie on each other
    findings  what a person should know
    plan      what `anymri segment` will do, one sentence per step
    left_out  sentences about what was found and is not used
    """

    case: str
    scans: list[ScanReport] = field(default_factory=list)
    pairs: list[PairReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    plan: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, level: Level, scan: str, text: str, advice: str = "") -> None:
        """Add a finding, unless it is there already."""
        finding = Finding(level, scan, text, advice)
        if finding not in self.findings:
            self.findings.append(finding)

    @property
    def refused(self) -> bool:
        """Whether `anymri segment` would refuse the case."""
        return any(finding.level == "error" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, ready for JSON, with numbers rounded to four decimals."""
        plain: dict[str, Any] = _plain(asdict(self) | {"refused": self.refused})
        return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.bool_):
        return bool(value)
    return round(float(value), 4) if isinstance(value, float | np.floating) else value
