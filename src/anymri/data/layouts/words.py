"""Words in names of image files, in one vocabulary for all layouts, and how a name is read into them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from anymri.modalities import ALIASES, find_modality


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# `segm` is in case 355 of BraTS 2020, `OTMultiClass` in BraTS 2013.
LABEL = _set("seg segm segs segmentation segmentations label labels labelmap gt truth groundtruth otmulticlass")
LESION = _set("tumor tumors tumour tumours lesion lesions roi rois gtv")
MASK = frozenset({"mask", "masks"})
BRAIN = _set("brain bet hdbet skull skullstrip skullstripped skullstripping")
# Names of one region of a tumour; a mask of one region is not a label map.
REGION = _set(
    "wt tc et cet rc ncr net netc snfh edema oedema necrosis necrotic enhancing nonenhancing core whole cavity cyst"
)
# Parts of the head and other diseases: their maps show no tumour.
TISSUE = _set(
    "tissue tissues gm wm csf aseg aparc aparcaseg aparcdktaseg carpet dkt wmparc parcellation hippocampus hippocampi "
    "amygdala thalamus cerebrum cerebellum brainstem ventricle ventricles vessel vessels artery arteries vein veins "
    "eye eyes optic chiasm cochlea oar oars stroke infarct infarction wmh aneurysm microbleed microbleeds"
)
PREDICTION = _set("pred preds prediction predictions predicted")
# Images that are not the scan named beside: maps, T2*, perfusion, probabilities, synthetic scans, templates, images of
# other kinds that were moved to a scan. `computed` replaces phrases such as `dixon fat`.
DERIVED = _set(
    "computed map maps mapping distance dist star starw starmap rho ratio diff difference subtraction subtracted prob "
    "probs probability probabilities uncertainty entropy logits softmax heatmap field biasfield warp warpfield "
    "jacobian noise gradient phase mip pve template localizer localiser scout voided inpainted synthetic synth "
    "synthesised synthesized generated imputed reconstructed swi hemo dwi dti ep2d b0 b1000 adc asl dsc dce perf "
    "perfusion cbv rcbv cbf rcbf mtt mra mrv mrs tof bold inv1 inv2 pet ct"
)
CONTRAST = _set(
    "post gd gad gado gadolinium gadovist gadavist dotarem magnevist ce km mkm mdc inj injected contr contrast "
    "contraste contrasto kontrast контраст контраста контрастом withcontrast enh enhanced postcontrast postgd postgad"
)
# Words of a modality only after it, with neutral words between: contrast in `T1_c`, `T1_ax_C`, `T1+`, and `T1_w`.
CONTRAST_AFTER_T1 = frozenset({"c", "cm", "plus"})
WEIGHTED_AFTER = frozenset({"w", "wi"})
NO_CONTRAST = _set("pre precontrast pregd pregad noncontrast nocontrast noncontrasted nonenhanced unenhanced okm")
# Words after T1 that leave open whether contrast was given, unless another word says it: `T1_IV`, `T1_W&WO`.
UNCLEAR_CONTRAST = _set("iv delayed wo without")
# T2 with one of these sequences is T2*.
GRADIENT_ECHO = _set("gre ffe fl2d medic")
ORIENTATION = _set("ax axial sag sagittal cor coronal tra trans transversal 2d 3d")
# Words of protocols, which also have series numbers: see `Named.is_protocol`.
SEQUENCE = _set(
    "se tse fse gre ge spgr fspgr bravo mprage memp mpr cube vibe flash tfe ffe tir tirm blade propeller frfse space"
)
# A modality after one of these is the space that a scan was moved to.
TO = _set("to into in on onto space")
# The same, only between two modalities: `reg_T1` is T1.
MOVED = _set(
    "2 reg registered registration coreg coregistered aligned align warped resampled transformed moved matched"
)
# Orientations, sequences and steps of preprocessing: they are not part of the name of a case.
NEUTRAL = (
    _set(
        "iso mr mri img image scan stripped strip native nativ mni mni152 sri sri24 atlas n4 bias biascorrected "
        "corrected bfc norm normalized normalised zscore preproc preprocessed proc processed postprocessed resample "
        "res r2s subtr mean div std crop cropped deface defaced orig original raw final hires lowres fs fatsat dixon "
        "weighted denoised smoothed ground manual expert auto automatic automated approx consensus corr dark fluid "
        "darkfluid desc minus"
    )
    | ORIENTATION
    | SEQUENCE
    | BRAIN
    | CONTRAST
    | NO_CONTRAST
    | TO
    | MOVED - {"2"}
)
# Words for the time of a scan: P1_flair_2019 and P1_t1c_2021 are two cases.
_TIME = re.compile(
    r"(?:19|20)\d\d|((?:19|20)\d{6})\d*|(?:ses|session|visit|day|week|month|tp|timepoint|baseline|followup)\d*"
    r"|(?:pre|post)op(?:erative)?"
)
_SIGNS = {"+": "plus", "*": "star", "-": "minus"}
_NOT = "non|no|not|without|wo|w o|minus|sans|sin|senza|ohne|zonder|uden|utan|bez|без|pre|before|prior to"
# Words that are part of `with contrast` or `without contrast`, and no name of a case there.
LINKS = _set("with avec con met mit med after") | frozenset(_NOT.replace("|", " ").split())
_GIVEN = "|".join(sorted(CONTRAST - {"post"}))
_SIZE = re.compile(r"\d+(?:p\d+)?(?:mm|iso|d|t)")

_ROLES = LABEL | LESION | MASK | frozenset(ALIASES)
# Words that may be written together: `brainmask`, `t1post`, `3dflair`; the short ones only beside a word with a role.
_SHORT = _set("2 ce km to in reg space map wt tc et 2d 3d")
_JOINED = sorted(_ROLES | BRAIN | CONTRAST | NO_CONTRAST | PREDICTION | _SHORT, key=lambda word: (-len(word), word))
_NUMBERED = re.compile(rf"({'|'.join(word for word in _JOINED if word not in _SHORT and word[-1].isalpha())})(\d+)")
_SCANS = "|".join(ALIASES)
_KNOWN = _ROLES | NEUTRAL | REGION | TISSUE | PREDICTION | DERIVED | MOVED
_PHRASES = tuple(
    (re.compile(rf"(?<!\S)(?:{pattern})(?!\S)"), word)
    for pattern, word in (
        (
            r"(pre|post) (?:op|operative|surgery|surgical|rt|radiation|treatment|therapy|proc|processed|processing)",
            r"\1op",
        ),
        (r"(?:w|with)(?: and)? (?:wo|w o|without)", "pre post"),
        (rf"(?:{_NOT}) (?:{_GIVEN})", "noncontrast"),
        (rf"(?:c|{_GIVEN}) (?:minus|none|no|off|absent)", "noncontrast"),
        (r"(?:to|in|into|on|onto) (?:atlas|template)", "mni"),
        (rf"({_SCANS}) atlas(?! (?:{'|'.join(sorted(TO | MOVED))}))", r"\1 computed"),
        (rf"({_SCANS}) sub$", r"\1 computed"),
        (r"dixon (?:fat|f|opp|opposed)", "computed"),
        (rf"({'|'.join(sorted(LABEL | LESION))}) maps?", r"\1"),
        (r"ground truth", "truth"),
        (r"dark fluid", "darkfluid"),
        (r"(t1|t2) (?:w|wi|weighted)", r"\1w"),
    )
)


class Word(NamedTuple):
    """A word of a name in lower case, and where it is in the name: `stem[start:end]`."""

    text: str
    start: int
    end: int


@lru_cache(maxsize=100_000)
def split_words(stem: str) -> tuple[Word, ...]:
    """Return the words of a file name without suffix.

    Words end at all that is not a letter or a digit, at the borders of `tumorSeg` and `TSEpost`, and between known
    words: `flair2t1` has three. A minus after a word, as in `T1_C-`, is a word too.
    """
    found = []
    for chunk in re.finditer(r"[^\W_]+|[+*]|-(?=$|[_. ])", stem):
        position = chunk.start()
        for text in _split(chunk[0]):
            found.append(Word(_SIGNS.get(text, text.lower()), position, position + len(text)))
            position += len(text)
    return tuple(found)


def join_phrases(words: Sequence[str]) -> list[str]:
    """Return words with phrases as one word: `post op` is `postop`, `without contrast` is `noncontrast`."""
    text = " ".join(words)
    for pattern, replacement in _PHRASES:
        text = pattern.sub(replacement, text)
    return text.split()


def has_role(word: str) -> bool:
    """Return whether a word is a modality, or says that the file is a label map or a mask."""
    return word in _ROLES


def is_neutral(word: str) -> bool:
    """Return whether a word is not part of the name of a case: `axial`, `n4`, `1mm`, `post`, `reg`."""
    return word in NEUTRAL or bool(_SIZE.fullmatch(word))


def is_time(word: str) -> bool:
    """Return whether one word is for a time: `day1`, `baseline`, `2019`, `20190305`."""
    return _TIME.fullmatch(word) is not None


def time_of(words: Sequence[Word]) -> list[str]:
    """Return the words for the time of a scan, such as `day`, `2`; of a date with a time, the date."""
    found = []
    for before, word in pairwise([Word("", 0, 0), *words]):
        match = _TIME.fullmatch(word.text)
        if match or (word.text.isdecimal() and _TIME.fullmatch(before.text) and not before.text[-1:].isdecimal()):
            found.append((match and match[1]) or word.text)
    return found


@lru_cache(maxsize=100_000)
def _split(chunk: str) -> tuple[str, ...]:
    low = chunk.lower()
    if low in _KNOWN or find_modality(low):
        return (chunk,)
    parts = re.split(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z]{2})(?=[a-z]{3})", chunk)
    if len(parts) > 1:
        return tuple(piece for part in parts for piece in _split(part))
    if numbered := _NUMBERED.fullmatch(low):
        return chunk[: numbered.end(1)], chunk[numbered.end(1) :]
    pieces = _pieces(low) or ()
    fits = all(map(_fits, ("", *pieces), pieces, (*pieces[1:], "")))
    return tuple(pieces) if pieces and fits else (chunk,)


def _pieces(text: str) -> tuple[str, ...] | None:
    """Return the known words that a text consists of, or None."""
    if not text:
        return ()
    for word in _JOINED:
        if text.startswith(word) and (rest := _pieces(text[len(word) :])) is not None:
            return (word, *rest)
    return None


def _fits(before: str, piece: str, after: str) -> bool:
    """Return whether a piece may be a word: short ones only beside a role, and `2` only between modalities."""
    if piece == "2":
        return before in ALIASES and after in ALIASES
    return piece not in _SHORT or has_role(before) or has_role(after)
