"""Names of the images of one folder: the role of each image, and the case that it belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anymri.data.layouts.roles import OF_NOTHING, UNDECIDED_MASK, Role, Unclear, role_of_words
from anymri.data.layouts.words import (
    CONTRAST,
    CONTRAST_AFTER_T1,
    DERIVED,
    LESION,
    LINKS,
    NO_CONTRAST,
    ORIENTATION,
    SEQUENCE,
    WEIGHTED_AFTER,
    Word,
    has_role,
    is_neutral,
    split_words,
    time_of,
)
from anymri.errors import CohortError
from anymri.modalities import MODALITIES, find_modality

_HOW_TO_NAME = (
    "Rename it, list the files in a CSV manifest (columns case, t1, t1c, t2, flair, label, mask), or give the scans of "
    "one case by --t1, --t1c, --t2 and --flair."
)

# Label maps of data sets whose names are not those of their folders and scans: case 355 of BraTS 2020, BraTS 2015.
_RELEASED_LABEL = re.compile(r"W39_1998\.09\.19_Segm|VSD\.Brain(?:_\dmore)?\.XX\.O\.OT\.\d+")
_TEMPLATE = re.compile(r"(?:MNI152|avg152|mni_icbm152).*", re.IGNORECASE)


@dataclass(frozen=True)
class Named:
    """An image whose name gives it a role.

    file     the image file
    role     a modality, `label` or `brain_mask`
    key      the words that name the patient and the time of the scan; empty if there are none
    name     the same, as written in the file name
    at_home  whether the name begins with that of the folder
    words    all words that do not give a role
    """

    file: Path
    role: str
    key: tuple[str, ...]
    name: str
    at_home: bool
    words: frozenset[str]

    @property
    def is_scan(self) -> bool:
        """Whether the image is a scan."""
        return self.role in MODALITIES

    @property
    def is_protocol(self) -> bool:
        """Whether the name has a word that protocols of scanners have: an orientation, a sequence or contrast."""
        return bool(self.words & (ORIENTATION | SEQUENCE | CONTRAST | NO_CONTRAST))


def read_names(folder: Path, images: Sequence[tuple[Path, str]]) -> tuple[list[Named], list[Path]]:
    """Return the images of a folder that have a role, and those whose names are not understood.

    images  files with their names without suffix

    Raises `CohortError` for a name that the rules do not decide, if it may be a scan or is beside scans.
    """
    home, shared = _compact(folder_name(folder)), _shared([split_words(stem) for _, stem in images])
    named: list[Named] = []
    unknown: list[Path] = []
    unclear: dict[Path, Unclear] = {}
    for file, stem in images:
        words = split_words(stem)
        skipped = _length_of(home, words)
        role = role_of_name(stem, skipped or shared)
        if isinstance(role, Unclear):
            unclear[file] = role
        elif role is None:
            unknown.append(file)
        else:
            named.append(_named(file, stem, role, skipped or shared, home, at_home=skipped > 0))
    about_scans = {word.text for word in split_words(folder_name(folder))}
    about_scans.update(*(image.words for image in named if image.is_scan))
    for place, image in enumerate(named):
        if image.role == UNDECIDED_MASK:
            named[place] = replace(image, role="brain_mask")
            of_tumour = any(word.text in LESION for word in split_words(image.file.name))
            if of_tumour or not image.words <= about_scans:
                unclear[image.file] = OF_NOTHING
    has_scans = any(image.is_scan for image in named)
    for file, why in unclear.items():
        if has_scans or why.is_scan:
            raise unclear_name(file, why)
    return [image for image in named if image.file not in unclear], sorted([*unknown, *unclear])


def role_of_name(stem: str, skipped: int = 0) -> Role:
    """Return the role of a file or folder by its name without suffix.

    skipped  number of words at the beginning that belong to the case
    """
    if _RELEASED_LABEL.fullmatch(stem):
        return "label"
    if _TEMPLATE.fullmatch(stem):
        return None
    return role_of_words(tuple(word.text for word in split_words(stem)[skipped:]))


def unclear_name(file: Path, why: Unclear) -> CohortError:
    """Return the error about a name that the rules do not decide."""
    return CohortError(f"The role of {file} is unclear: its name {why.reason}.", _HOW_TO_NAME)


def folder_name(folder: Path) -> str:
    """Return the name of a folder as written, also of a link; of `.` and `..` that of the folder that it is."""
    return folder.name if folder.name.strip(".") else folder.resolve().name


def _named(file: Path, stem: str, role: str, skipped: int, home: str, at_home: bool) -> Named:
    """Return an image; its key is the words before the first one with a role, or else those after it."""
    if _RELEASED_LABEL.fullmatch(stem):
        return Named(file, role, (), "", False, frozenset())
    words = split_words(stem)
    first = next(place for place, word in enumerate(words) if place >= skipped and has_role(word.text))
    own = own_words(words)
    before = [word for place, word in enumerate(words[:first]) if place < skipped or word in own]
    after = [word for word in own if word.start > words[first].start]
    key = before or after
    at_home = at_home or "".join(word.text for word in key) == home
    when = time_of(after) if before else []
    name = "_".join([stem[key[0].start : key[-1].end], *when]) if key else ""
    return Named(file, role, (*(word.text for word in key), *when), name, at_home, _without_role(words))


def _without_role(words: Sequence[Word]) -> frozenset[str]:
    return frozenset(word.text for word in words if not has_role(word.text))


def own_words(words: Sequence[Word]) -> list[Word]:
    """Return the words that may be part of the name of a case."""
    around = zip(("", *(word.text for word in words)), words, (*(word.text for word in words[1:]), ""), strict=False)
    return [word for before, word, after in around if _is_own(before, word.text, after)]


def _is_own(before: str, word: str, after: str) -> bool:
    if find_modality(before) and word in CONTRAST_AFTER_T1 | WEIGHTED_AFTER:
        return False
    if word in LINKS and after in LINKS | CONTRAST - {"post"}:
        return False
    return not (is_neutral(word) or has_role(word))


def _shared(names: Sequence[Sequence[Word]]) -> int:
    """Return how many words all names with a role begin with, if these are the name of a case and not a role."""
    with_role = [name for name in names if any(has_role(word.text) for word in name)]
    if len(with_role) < 2:
        return 0
    count = 0
    for words in zip(*with_role, strict=False):
        if len({word.text for word in words}) > 1:
            break
        count += 1
    return count if all(_names_a_case(name, count) for name in with_role) else 0


def _names_a_case(words: Sequence[Word], count: int) -> bool:
    """Return whether the first words are more than roles, and a role follows them."""
    own = any(not (has_role(word.text) or is_neutral(word.text) or word.text in DERIVED) for word in words[:count])
    return own and any(has_role(word.text) for word in words[count:])


def _length_of(home: str, words: Sequence[Word]) -> int:
    """Return how many words the name of the folder has at the beginning of a name; 0 if it does not begin so."""
    text = ""
    for count, word in enumerate(words, start=1):
        text += word.text
        if text == home:
            return count if _names_a_case(words, count) else 0
        if not home.startswith(text):
            return 0
    return 0


def _compact(name: str) -> str:
    return "".join(word.text for word in split_words(name))
