"""What callers give as a case - files, images in memory, studies - as a raw study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anymri.data.case import Case, Study
from anymri.data.layouts import case_from_files, find_cases
from anymri.data.layouts.found import counted
from anymri.errors import CohortError, ConfigurationError
from anymri.prepare.in_memory import Volume, raw_from_images
from anymri.prepare.preparation import Preparation, as_found
from anymri.prepare.raw import RawStudy, read_raw


def read_given(
    case: Path | str | None,
    scans: Mapping[str, Path | str | Volume],
    brain_mask: Path | str | Volume | None = None,
    dicom_study: int | None = None,
) -> RawStudy:
    """Return the raw study of files, see `read_raw`, or of scans that are all in memory, see `raw_from_images`."""
    files = {name: Path(scan) for name, scan in scans.items() if isinstance(scan, Path | str)}
    images = {name: scan for name, scan in scans.items() if not isinstance(scan, Path | str)}
    mask_file, mask_image = (Path(brain_mask), None) if isinstance(brain_mask, Path | str) else (None, brain_mask)
    if images and case is None and not files and mask_file is None:
        return raw_from_images(images, mask_image)
    if images or mask_image is not None:
        raise ConfigurationError(
            "Files and images in memory are given together.", "Give all as files, or all as images."
        )
    return read_raw(None if case is None else Path(case), files, mask_file, dicom_study)


def as_raw(
    case: RawStudy | Preparation | Study | Case | Path | str | Mapping[str, Path | str | Volume],
) -> RawStudy | Preparation:
    """Return the scans of a case as they were found, and a case that was read or prepared as it is."""
    if isinstance(case, RawStudy | Preparation):
        return case
    if isinstance(case, Study):
        return as_found(case)
    if isinstance(case, Mapping):
        return read_given(None, case)
    return read_raw(case)


def as_case(case: Case | Path | str | Mapping[str, Path | str]) -> Case:
    """Return the case that a case folder holds, or that scans make up; raise `CohortError` for several cases."""
    if isinstance(case, Case):
        return case
    if isinstance(case, Mapping):
        return case_from_files({name: Path(path) for name, path in case.items()})
    cases = find_cases(Path(case))
    if len(cases) > 1:
        names = counted([each.name for each in cases])
        raise CohortError(f"{case} holds several cases: {names}.", "Give the folder of one case.")
    return cases[0]
