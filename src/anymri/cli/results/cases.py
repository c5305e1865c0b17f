"""What commands about cases return."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymri.cli.results import BAD_INPUT, DONE, PARTLY_DONE, Result


@dataclass(frozen=True)
class Phantoms(Result):
    """A cohort of phantoms: its folder, the names of its cases, the name of its label scheme."""

    folder: Path
    cases: list[str]
    label_scheme: str


@dataclass(frozen=True)
class Examined(Result):
    """What `anymri doctor` found, see docs/raw-scans.md.

    refused  whether `anymri segment` would refuse the case
    """

    case: str
    scans: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    plan: list[str]
    left_out: list[str]
    refused: bool

    @property
    def exit_code(self) -> int:
        """Exit code: 2 if not one scan could be read."""
        return DONE if self.scans else BAD_INPUT


@dataclass(frozen=True)
class CaseSegmentation(Result):
    """The segmentation of one case.

    folder        folder of the result
    segmentation  label map
    files         other files that were written
    scans         modality -> file that was read; of a DICOM series, the first one
    modalities    the modalities that were used
    weights       files of the weights
    lane          how the network was computed
    volumes_ml    region or class -> volume in millilitres
    """

    folder: Path
    segmentation: Path
    files: list[Path]
    case: str
    scans: dict[str, Path]
    modalities: list[str]
    weights: list[Path]
    lane: str
    volumes_ml: dict[str, float]


@dataclass(frozen=True)
class FollowedUp(Result):
    """The comparison of two time points, see docs/follow-up.md.

    comparison          JSON file with all figures
    files               other files that were written
    first, second       folders of the two results
    days                days from the first to the second; null if they are unknown
    modalities          the modalities that were used at both
    weights             files of the weights
    change_ml           region -> change of its volume in millilitres
    change_interval_ml  region -> lower and upper end of its interval
    """

    folder: Path
    comparison: Path
    files: list[Path]
    first: Path
    second: Path
    days: int | None
    modalities: list[str]
    weights: list[Path]
    change_ml: dict[str, float]
    change_interval_ml: dict[str, list[float]]


@dataclass(frozen=True)
class Served(Result):
    """A studio that was served until it was interrupted: its address, without the token."""

    url: str


@dataclass(frozen=True)
class FailedCase:
    """A case that was not segmented: what is wrong, and what to do."""

    name: str
    what: str
    fix: str


@dataclass(frozen=True)
class CohortSegmentation(Result):
    """The segmentation of a cohort.

    summary    CSV file with one row per case
    page       HTML page; null without the extra `report`
    segmented  names of the cases that this command segmented; kept: whose results were whole; elsewhere: that another
               command works on
    failed     cases without a result
    """

    folder: Path
    summary: Path
    page: Path | None
    weights: list[Path]
    segmented: list[str]
    kept: list[str]
    elsewhere: list[str]
    failed: list[FailedCase]

    @property
    def exit_code(self) -> int:
        """Exit code: 3 if some cases failed."""
        return PARTLY_DONE if self.failed else DONE
