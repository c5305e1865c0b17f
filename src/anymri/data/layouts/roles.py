"""Roles of the files of a case: a modality, `label` or `brain_mask`; and how files with roles become a case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from anymri.data.case import Case
from anymri.data.image import image_stem
from anymri.errors import CohortError
from anymri.modalities import MODALITIES, find_modality

# Second sentence of errors about a cohort without cases.
LAYOUTS_TEXT = (
    "Give a CSV manifest (columns case, t1, t1c, t2, flair, label), an nnU-Net raw folder, a BIDS folder, or one "
    "folder per case with files like name_t1ce.nii.gz."
)

# Words in file names that are not a modality. `segm` is in case 355 of BraTS 2020, `OTMultiClass` in BraTS 2013.
_LABEL_WORDS = frozenset({"seg", "segm", "label", "truth", "gt", "otmulticlass"})
_MASK_WORDS = frozenset({"mask", "brainmask"})
_TUMOUR_WORDS = frozenset({"tumor", "tumour", "lesion"})


def role_of_name(stem: str) -> str | None:
    """Return the role of a file by its name without suffix, or None.

    The last word with a role counts, because the words before belong to the name of the case; `t1_ce` counts as `t1ce`.
    """
    words = re.findall(r"[a-z0-9]+", stem.lower())
    for before, word in reversed(list(zip(["", *words], words, strict=False))):
        if role := _role_of_word(before, word):
            return role
    return None


def _role_of_word(before: str, word: str) -> str | None:
    if word in _LABEL_WORDS or (word == "mask" and before in _TUMOUR_WORDS):
        return "label"
    if word in _MASK_WORDS:
        return "brain_mask"
    return (find_modality(before + word) if find_modality(before) else None) or find_modality(word)


def has_scan(roles: Iterable[tuple[str | None, Path]]) -> bool:
    """Return whether one of the files is a scan."""
    return any(role in MODALITIES for role, _ in roles)


def case_of_roles(name: str, roles: Iterable[tuple[str | None, Path]]) -> Case:
    """Return the case of files with their roles; files without a role are ignored.

    Raises `CohortError` if two files have the same role.
    """
    by_role: dict[str, Path] = {}
    for role, file in roles:
        if role in by_role:
            raise CohortError(
                f"{by_role[role]} and {file} both look like the {role.replace('_', ' ')} of one case.",
                "Keep one of them there, or list the files of each case in a CSV manifest.",
            )
        if role is not None:
            by_role[role] = file
    return case_of_files(name, by_role)


def case_of_files(name: str, files: Mapping[str, Path], patient: str = "") -> Case:
    """Return the case of a mapping from role to file."""
    scans = {modality: files[modality] for modality in MODALITIES if modality in files}
    return Case(name, scans, files.get("label"), files.get("brain_mask"), patient)


def images_in(folder: Path) -> list[tuple[Path, str]]:
    """Return the image files of `folder`, sorted, each with its name without suffix; none if there is no folder."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [(f, stem) for f in files if (stem := image_stem(f)) is not None and f.is_file() and is_visible(f)]


def is_visible(path: Path) -> bool:
    """Return whether a file or folder exists and is not hidden."""
    return path.exists() and not path.name.startswith(".")
