"""Examination of raw scans before they are segmented: what they are, how they fit together, and what will be done."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from anymri.data.image import image_stem, read_scan
from anymri.data.layouts.listing import walk
from anymri.data.layouts.names import role_of_name
from anymri.errors import AnymriError, AnymriWarning
from anymri.extras import install_line
from anymri.modalities import MODALITIES
from anymri.prepare.alignment import ALIGNED, NOT_ALIGNED, best_scan, header_overlap
from anymri.prepare.brain import BrainMask
from anymri.prepare.checks import without
from anymri.prepare.duplicates import find_duplicates
from anymri.prepare.examining import examine_scan
from anymri.prepare.findings import Examination, PairReport
from anymri.prepare.grid import study_grid
from anymri.prepare.plan import add_plan
from anymri.prepare.preparation import reasons_to_prepare, study_as_it_is
from anymri.prepare.raw import RawScan, RawStudy, read_raw
from anymri.prepare.registration import register
from anymri.prepare.searching import series_in
from anymri.progress import Progress, silent

T = TypeVar("T")
_NONE: Mapping[str, Path] = MappingProxyType({})

# Images that are examined if the scans of a case cannot be told apart, and levels of folders that are searched.
_MOST_IMAGES, _DEPTH = 16, 4
# Roles of images that are not examined as scans.
_NOT_SCANS = ("label", "brain_mask")


def examine(
    source: Path | None = None,
    scans: Mapping[str, Path] = _NONE,
    brain_method: str = "auto",
    registration: bool = True,
    dicom_study: int | None = None,
    progress: Progress = silent,
) -> Examination:
    """Return what can be found out about the scans of one case; nothing is refused.

    source, scans, dicom_study  see `anymri.prepare.raw.read_raw`
    brain_method                see `anymri.prepare.preparation.prepare`
    registration                also register each scan to the best one, which takes some seconds per scan
    progress                    called with what is done next

    A file that cannot be read and any other error become findings.
    """
    found = Examination("case" if source is None else source.name)
    with _noted(found, ""):
        study = _attempt(found, "", partial(read_raw, source, scans, None, dicom_study))
    if study is None:
        each = list(_single_scans(source, scans, dicom_study, found))
    else:
        found.case, found.left_out = study.name, list(study.left_out)
        each = [(modality, modality, scan) for modality, scan in study.scans.items()]
    brains: dict[str, BrainMask] = {}
    for done, (label, modality, scan) in enumerate(each):
        progress(label, done, len(each))
        with _noted(found, label):
            brain = examine_scan(label, modality, scan, brain_method, found)
        if brain is not None:
            brains[label] = brain
    find_duplicates({label: scan for label, _, scan in each}, found)
    if study is not None:
        as_it_is = _attempt(found, "", partial(study_as_it_is, study))
        reasons = reasons_to_prepare(study, as_it_is, brain_method)
        _relate(study, brains, registration, bool(reasons), progress, found)
        add_plan(study, as_it_is is None, reasons, registration, found)
    return found


def _single_scans(
    source: Path | None, scans: Mapping[str, Path], dicom_study: int | None, found: Examination
) -> Iterator[tuple[str, str | None, RawScan]]:
    """Yield label, probable modality and scan of what can be read, where the case as a whole cannot."""
    images: list[tuple[str, str | None, Path]] = [
        (path.name, role, path) for role, path in scans.items() if image_stem(path) is not None
    ]
    if source is not None and source.is_file() and image_stem(source) is not None:
        images.append((source.name, None, source))
    elif source is not None and source.is_dir():
        images_of_folders = [file for _, listing in walk(source, _DEPTH) for file, _ in listing.images]
        every = [file for file in images_of_folders if role_of_name(image_stem(file) or "") not in _NOT_SCANS]
        if len(every) > _MOST_IMAGES:
            found.add("note", "", f"Only the first {_MOST_IMAGES} of {len(every)} images were examined.")
        images += [(file.relative_to(source).as_posix(), None, file) for file in every[:_MOST_IMAGES]]
    for name, role, path in images:
        with _noted(found, name):
            image = _attempt(found, name, partial(read_scan, path))
        if image is not None:
            named = role or role_of_name(image_stem(path) or "")
            yield name, named if named in MODALITIES else None, RawScan(image, (path,))
    places = [path for path in scans.values() if image_stem(path) is None]
    if source is not None and image_stem(source) is None:
        places.append(source)
    for place in places:
        with _noted(found, ""):
            series, left_out = _attempt(found, "", partial(series_in, place, dicom_study)) or ([], [])
        found.left_out += left_out
        for each in series:
            yield each.title, None, RawScan(each.image, each.files, each)


def _attempt(found: Examination, label: str, work: Callable[[], T]) -> T | None:
    """Return what `work` returns; an error becomes a finding."""
    try:
        return work()
    except AnymriError as error:
        text, advice = error.what, error.fix
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        text, advice = f"It cannot be examined: {error}", "Check the file, or report this as a bug."
    if not any(each.text == text for each in found.findings):
        found.add("error", label, text, advice)
    return None


@contextmanager
def _noted(found: Examination, label: str) -> Iterator[None]:
    """Turn the warnings of some work into findings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    known = {finding.text for finding in found.findings}
    for each in caught:
        if issubclass(each.category, AnymriWarning) and str(each.message) not in known:
            found.add("warning", label, str(each.message))
            known.add(str(each.message))


def _relate(
    study: RawStudy,
    brains: Mapping[str, BrainMask],
    registration: bool,
    prepared: bool,
    progress: Progress,
    found: Examination,
) -> None:
    """Add how each scan lies on the best one, by its header and after a rigid registration.

    prepared  whether the scans are prepared, and not used as they are
    """
    if find_spec("SimpleITK") is None:
        if len(study.scans) > 1 and not prepared:  # otherwise the plan says that it is missing
            found.add(
                "warning",
                "",
                "How the scans lie on each other was not examined, because SimpleITK is not installed.",
                f"Install it: {install_line('prepare')}",
            )
        return
    fixed = best_scan(study)
    anchor = study.scans[fixed].image
    for modality, scan in study.scans.items():
        if modality == fixed or fixed not in brains or modality not in brains:
            continue
        progress(f"{modality} on {fixed}", len(study.scans), len(study.scans))
        overlap = header_overlap(anchor, brains[fixed], scan.image, brains[modality])
        pair = PairReport(modality, fixed, overlap)
        if registration:
            with _noted(found, modality):
                work = partial(register, scan.image, anchor, brains[modality].mask, brains[fixed].mask)
                fit = _attempt(found, modality, work)
            if fit is not None:
                pair = PairReport(
                    modality,
                    fixed,
                    overlap,
                    fit.overlap,
                    fit.residual_mm,
                    fit.shift_mm,
                    fit.angle_degrees,
                    bool(fit.accepted),
                    fit.reason,
                )
        found.pairs.append(pair)
        kept = overlap >= ALIGNED and study_grid(scan.image).same_as(study_grid(anchor))
        _add_findings(study, pair, prepared and not kept, found)


def _add_findings(study: RawStudy, pair: PairReport, registered: bool, found: Examination) -> None:
    """Add findings about scans that do not lie on each other.

    registered  whether `anymri segment` registers the scan
    """
    if pair.accepted is False and not registered:
        found.add(
            "warning",
            pair.scan,
            f"It has the grid of the {pair.onto} scan, but does not lie on it: {pair.reason}",
            "Check that both are scans of one patient and that neither is mirrored, because the grid is trusted.",
        )
    elif pair.accepted is False:
        found.add(
            "error",
            pair.scan,
            f"It cannot be aligned with the {pair.onto} scan: {pair.reason}",
            f"Check that both are scans of one patient, or leave it out: {without(study, pair.scan)}",
        )
    elif pair.overlap_by_header is not None and pair.overlap_by_header < NOT_ALIGNED:
        found.add(
            "note",
            pair.scan,
            f"By its header its brain overlaps that of the {pair.onto} scan by {pair.overlap_by_header:.2f} only; "
            "aligned scans overlap by about 0.94.",
            "Nothing has to be done: it will be registered.",
        )
