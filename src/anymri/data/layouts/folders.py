"""Folders of images whose names contain their roles: one folder per case, as in BraTS, or several cases in one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from anymri.data.case import Case
from anymri.data.layouts import found as reasons
from anymri.data.layouts.found import Found, case_of_roles
from anymri.data.layouts.listing import Above, Listing, check_readable, folders_above, identity, list_folder, walk
from anymri.data.layouts.names import Named, folder_name, own_words, read_names, role_of_name
from anymri.data.layouts.visits import name_visits
from anymri.data.layouts.words import is_time, split_words
from anymri.errors import CohortError
from anymri.modalities import MODALITIES

# Levels of folders in a folder that holds one scan, as in 1_T1/NIFTI/T1.nii.gz.
_DEPTH_OF_ONE = 1


def find(root: Path) -> Found:
    """Return the cases in a folder and up to four folders below it; images in folders inside a case are not used."""
    found = Found()
    cases = list(_search(root, root, reasons.DEPTH, found, folders_above(root)))
    found.cases = name_visits(cases, root)
    return found


def _search(root: Path, folder: Path, depth: int, found: Found, above: Above) -> Iterator[tuple[Path, Case]]:
    """Yield the cases of `folder` and those below it, each with its folder.

    above  the folders on the way to `folder`, which links may lead back to
    """
    here = identity(folder)
    if here in above:
        return
    listing = list_folder(folder)
    listing.images += _one_per_folder(listing, (*above, here))
    named, unknown = read_names(folder, listing.images)
    found.skip(reasons.NOT_UNDERSTOOD, _relative(unknown, root))
    found.skip(reasons.OTHER_FORMAT, _relative(listing.others, root))
    found.skip(reasons.BROKEN_LINK, _relative(listing.broken, root))
    if any(image.is_scan for image in named):
        cases, without_scan = _cases(folder, named)
        yield from ((folder, case) for case in cases)
        found.skip(reasons.NO_SCAN, _relative(without_scan, root))
        used = {file for file, _ in listing.images}
        below = (each for child in listing.folders for _, each in walk(child, reasons.DEPTH, (*above, here)))
        inside = (file for each in below for file, _ in each.images if file not in used)
        found.skip(reasons.INSIDE_A_CASE, _relative(inside, root))
        return
    found.skip(reasons.NO_SCAN, _relative((image.file for image in named), root))
    if not (listing.images or listing.others or listing.folders):
        found.skip(reasons.NO_IMAGE, _relative([folder], root))
    if depth == 0:
        found.skip(reasons.TOO_DEEP, _relative(listing.folders, root))
        return
    for child in listing.folders:
        yield from _search(root, child, depth - 1, found, (*above, here))


def _one_per_folder(listing: Listing, above: Above) -> list[tuple[Path, str]]:
    """Return the images of folders that hold one scan or map each, as T1/T1.nii.gz; none if other folders have images.

    The names of a folder and its image give the same role, and agree in the other words but for numbers.
    """
    found: list[tuple[Path, str]] = []
    for child in [] if listing.images else listing.folders:
        below = (image for _, each in walk(child, _DEPTH_OF_ONE, above) for image in each.images)
        images = list(islice(below, 2))
        if not images:
            continue
        file, stem = images[0]
        role = role_of_name(stem)
        own = [word for word in own_words(split_words(child.name)) if not word.text.isdecimal()]
        if len(images) > 1 or role is None or role_of_name(child.name) != role or (own and child.name != stem):
            return []
        check_readable(file)
        found.append((file, stem))
    return found if any(role_of_name(stem) in MODALITIES for _, stem in found) else []


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
    if len(groups) <= 1 or _are_series(groups, named):
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
    """Join images whose names begin with that of the folder: those without further words, and those with some.

    Label maps and masks join the only scans there, unless the further words are numbers or for a time.
    """
    at_home = sorted((key for key, images in groups.items() if images[0].at_home), key=len)
    if len(at_home) == 2 and at_home[1][: len(at_home[0])] == at_home[0]:
        groups[at_home[1]] += groups.pop(at_home[0])
        return
    with_scans = [key for key in at_home if any(image.is_scan for image in groups[key])]
    for key in at_home if len(with_scans) == 1 else []:
        differing = {*key} ^ {*with_scans[0]}
        if key != with_scans[0] and not any(word.isdecimal() or is_time(word) for word in differing):
            groups[with_scans[0]] += groups.pop(key)


def _are_series(groups: Mapping[tuple[str, ...], Sequence[Named]], named: Sequence[Named]) -> bool:
    """Return whether names differ in the numbers of series only, as 3_AX_T1 and 4_AX_FLAIR of dcm2niix.

    These are at the beginning or after another number, differ in all scans, which differ in their roles, and are beside
    words of protocols: in all names, or in one of at least three.
    """
    roles = [image.role for image in named]
    one_each = all(sum(image.is_scan for image in images) == 1 for images in groups.values())
    if len(set(roles)) < len(roles) or not one_each or len({len(key) for key in groups}) > 1:
        return False
    differing = [place for place, words in enumerate(zip(*groups, strict=True)) if len(set(words)) > 1]
    scans = [image.is_protocol for image in named if image.is_scan]
    if len(differing) != 1 or not (all(scans) or (len(scans) > 2 and any(scans))):
        return False
    (place,) = differing
    return all(
        key[place].isdecimal() and not is_time(key[place]) and (place == 0 or key[place - 1].isdecimal())
        for key in groups
    )


def _case(name: str, images: Sequence[Named]) -> Case:
    return case_of_roles(name, [(image.role, image.file) for image in sorted(images, key=lambda image: image.file)])
