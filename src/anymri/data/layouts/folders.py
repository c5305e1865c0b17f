"""Folders of images whose names contain their roles: one folder per case, as in BraTS, or several cases in one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from anymri.data.case import Case
from anymri.data.layouts import found as reasons
from anymri.data.layouts.found import Found, case_of_roles
from anymri.data.layouts.listing import Above, folders_above, identity, list_folder, walk
from anymri.data.layouts.names import Named, folder_name, read_names
from anymri.errors import CohortError


def find(root: Path) -> Found:
    """Return the cases in a folder and up to four folders below it; images in folders inside a case are not used."""
    found = Found()
    _search(root, root, reasons.DEPTH, found, folders_above(root))
    return found


def _search(root: Path, folder: Path, depth: int, found: Found, above: Above) -> None:
    """Add the cases of `folder`; `above` identifies the folders on the way to it, which links may lead back to."""
    here = identity(folder)
    if here in above:
        return
    listing = list_folder(folder)
    named, unknown = read_names(folder, listing.images)
    found.skip(reasons.NOT_UNDERSTOOD, _relative(unknown, root))
    found.skip(reasons.OTHER_FORMAT, _relative(listing.others, root))
    found.skip(reasons.BROKEN_LINK, _relative(listing.broken, root))
    if any(image.is_scan for image in named):
        cases, without_scan = _cases(folder, named)
        found.cases += cases
        found.skip(reasons.NO_SCAN, _relative(without_scan, root))
        below = (each for child in listing.folders for _, each in walk(child, reasons.DEPTH, (*above, here)))
        inside = (file for each in below for file, _ in each.images)
        found.skip(reasons.INSIDE_A_CASE, _relative(inside, root))
        return
    found.skip(reasons.NO_SCAN, _relative((image.file for image in named), root))
    if not (listing.images or listing.others or listing.folders):
        found.skip(reasons.NO_IMAGE, _relative([folder], root))
    if depth == 0:
        found.skip(reasons.TOO_DEEP, _relative(listing.folders, root))
        return
    for child in listing.folders:
        _search(root, child, depth - 1, found, (*above, here))


def _relative(files: Iterable[Path], root: Path) -> Iterator[str]:
    return (file.relative_to(root).as_posix() for file in files)


def _cases(folder: Path, named: Sequence[Named]) -> tuple[list[Case], list[Path]]:
    """Return the cases of a folder with scans, and the label maps and masks that belong to none of them.

    Raises `CohortError` if the names could be those of one case or of several.
    """
    groups: dict[tuple[str, ...], list[Named]] = defaultdict(list)
    for image in named:
        groups[image.key].append(image)
    nameless = groups.pop((), [])
    _join_at_home(groups)
    if len(groups) <= 1:
        return [_case(folder_name(folder), named)], []
    with_scans = {key: images for key, images in groups.items() if any(image.is_scan for image in images)}
    roles = [image.role for image in named]
    could_be_one = len(set(roles)) == len(roles) == len(groups)
    if nameless or len(with_scans) < 2 or could_be_one:
        one, other = list(groups.values())[:2]
        raise CohortError(
            f"The images in {folder} could belong to one case or to {len(groups)}: two are named {one[0].file.name} "
            f"and {other[0].file.name}.",
            "Give each case its folder, or list the cases in a CSV manifest (columns case, t1, t1c, t2, flair, label).",
        )
    others = [image.file for key, images in groups.items() if key not in with_scans for image in images]
    return [_case(images[0].name, images) for images in with_scans.values()], others


def _join_at_home(groups: dict[tuple[str, ...], list[Named]]) -> None:
    """Join images whose names begin with that of the folder: those without further words, and those with some."""
    at_home = sorted((key for key, images in groups.items() if images[0].at_home), key=len)
    if len(at_home) == 2 and at_home[1][: len(at_home[0])] == at_home[0]:
        groups[at_home[1]] += groups.pop(at_home[0])


def _case(name: str, images: Sequence[Named]) -> Case:
    return case_of_roles(name, [(image.role, image.file) for image in sorted(images, key=lambda image: image.file)])
