"""Roles of the files of a case by their names: a modality, `label` or `brain_mask`; the rules are in docs/data.md."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from anymri.data.layouts import words as known
from anymri.modalities import find_modality


@dataclass(frozen=True)
class Unclear:
    """Reason why the rules do not give a role to a name.

    reason   end of the sentence "its name ..."
    is_scan  whether the file may be a scan
    """

    reason: str
    is_scan: bool = False


Role = str | Unclear | None

_MAPS = known.LABEL | known.LESION | known.MASK

# Role of a mask whose name does not say of what: it is a brain mask if its other words are those of the case.
UNDECIDED_MASK = "mask"
OF_NOTHING = Unclear("does not say of what it is a mask")
_OF_A_REGION = Unclear("is that of a single region of a tumour, and a label map contains all")


@lru_cache(maxsize=100_000)
def role_of_words(words: tuple[str, ...]) -> Role:
    """Return the role of a file by the words of its name, without those of the case; None if it does not have one."""
    return _role(known.join_phrases(words))


def _role(words: Sequence[str]) -> Role:
    if _is_computed(words):
        return None
    modality = modality_of_words(words)
    if not set(words) & _MAPS:
        return None if _shows_tissue(words) else modality
    return _OF_A_REGION if _is_of_one_region(words) else _role_of_map(set(words), modality)


def _role_of_map(words: Set[str], modality: Role) -> Role:
    """Return the role of a file whose name has a word for a mask, a label map or a tumour."""
    if words & known.TISSUE:
        return None
    if words & known.LESION:
        is_map = modality is None or words & (known.MASK | known.LABEL)
        return "label" if is_map else Unclear("contains the words of a tumour and of a scan", is_scan=True)
    if words & known.LABEL:
        return None if words & known.BRAIN else "label"
    if words & known.BRAIN:
        return "brain_mask"
    return UNDECIDED_MASK if modality is None else OF_NOTHING


def modality_of_words(words: Sequence[str]) -> Role:
    """Return the modality that words name: the moved scan of `FLAIR to T1`, T1c for T1 with a contrast word."""
    places = [place for place, word in enumerate(words) if find_modality(word)]
    for place, word in enumerate(words):
        if word in known.TO | known.MOVED and places and places[0] < place < places[-1]:
            return _moved(words[:place], words[place + 1 :], word)
    return _single(
        [word for before, word in pairwise(["", *words]) if not (before in known.TO and find_modality(word))]
    )


def _moved(words: Sequence[str], target: Sequence[str], link: str) -> Role:
    """Return the modality of a scan that was moved to the space of `target`."""
    role = _single(words)
    onto = next(modality for word in target if (modality := find_modality(word)))
    if link == "space" and (role, onto) == ("T2", "FLAIR"):
        if known.ORIENTATION & {*words, *target}:
            return "FLAIR"  # a protocol: 3D_SAG_T2_SPACE_FLAIR
        return Unclear("is that of a T2 in the space of FLAIR, or of a FLAIR of the sequence SPACE", is_scan=True)
    if role == "T1" and onto not in ("T1", "T1c") and known.CONTRAST & set(target):
        return Unclear("does not say which scan was taken after contrast", is_scan=True)
    return role


def _single(words: Sequence[str]) -> Role:
    """Return the one modality that words name."""
    places = [place for place, word in enumerate(words) if find_modality(word)]
    names = list(dict.fromkeys(str(find_modality(words[place])) for place in places))
    if names == ["T2"] and "darkfluid" in words:
        names = ["FLAIR"]  # Siemens: t2_tirm_tra_dark-fluid
    if names == ["T2", "FLAIR"] and all(map(known.is_neutral, words[places[0] + 1 : places[-1]])):
        names = ["FLAIR"]
    if len(names) > 1:
        return Unclear(f"contains the words of {' and of '.join(names)}", is_scan=True)
    if not names or (names == ["T2"] and known.GRADIENT_ECHO & set(words)):
        return None
    if names[0] not in ("T1", "T1c"):
        return names[0]
    start = places[0]
    while start and known.is_neutral(words[start - 1]):
        start -= 1
    around = set(words[start:])
    end = places[-1] + 1
    while end < len(words) - 1 and known.is_neutral(words[end]):
        end += 1
    beside = {*words[places[0] : end + 1]} & known.CONTRAST_AFTER_T1 or words[start - 1 : start] == ["plus"]
    with_contrast = names[0] == "T1c" or around & known.CONTRAST or beside
    if with_contrast and (around & known.NO_CONTRAST or around & {"t1n", "t1pre", "t1native"}):
        return Unclear("says both with and without contrast", is_scan=True)
    if not (with_contrast or around & known.NO_CONTRAST) and known.UNCLEAR_CONTRAST & set(words[end:]):
        return Unclear("does not say whether the scan was taken after contrast", is_scan=True)
    return "T1c" if with_contrast else "T1"


def _is_computed(words: Sequence[str]) -> bool:
    """Return whether words name a prediction, or an image that was computed from a scan."""
    roles = [place for place, word in enumerate(words) if known.has_role(word)]
    near = words[max(roles[0] - 1, 0) :] if roles else words
    return bool(known.PREDICTION & set(words) or known.DERIVED & set(near))


def _shows_tissue(words: Sequence[str]) -> bool:
    """Return whether a tissue is named after a modality, as in `T1_GM`; before it, the word may name a case."""
    first = next((place for place, word in enumerate(words) if find_modality(word)), len(words))
    return bool(known.TISSUE & set(words[first:]))


def _is_of_one_region(words: Sequence[str]) -> bool:
    """Return whether the name of a region is next to a word for a mask, a label map or a tumour."""
    is_near = any({one, other} & known.REGION and {one, other} & _MAPS for one, other in pairwise(words))
    return is_near or bool(set(words) & known.MASK and set(words) & {"wt", "tc", "et"})
