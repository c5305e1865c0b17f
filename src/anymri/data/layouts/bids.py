"""BIDS: sub-XX/[ses-YY/]anat/sub-XX[_ses-YY]_T1w.nii.gz, with label maps there or in derivatives."""

from __future__ import annotations

from pathlib import Path

from anymri.data.case import Case
from anymri.data.image import image_stem
from anymri.data.layouts.roles import case_of_roles, has_scan, images_in
from anymri.modalities import find_modality


def cases(root: Path) -> list[Case]:
    """Return the cases of a BIDS folder, one per session; none if there is no anat folder with scans."""
    labels = [file for file in sorted(root.glob("derivatives/**/sub-*seg.nii*")) if _role(file) == "label"]
    found = []
    for anat in sorted([*root.glob("sub-*/anat"), *root.glob("sub-*/ses-*/anat")]):
        name = "_".join(anat.relative_to(root).parts[:-1])
        roles = [(_role(file), file) for file, _ in images_in(anat)]
        roles += [("label", file) for file in labels if _case_name(file) == name]
        if has_scan(roles):
            found.append(case_of_roles(name, roles))
    return found


def _case_name(file: Path) -> str:
    """Return `sub-XX` or `sub-XX_ses-YY` of a BIDS file."""
    return "_".join(entity for entity in file.name.split("_")[:-1] if entity.startswith(("sub-", "ses-")))


def _role(file: Path) -> str | None:
    """Return the role of a BIDS file by the word after its last entity: T1w, FLAIR, dseg, ..."""
    suffix = (image_stem(file) or "").rpartition("_")[2]
    if suffix in ("dseg", "seg"):
        return "label"
    modality = find_modality(suffix)
    return "T1c" if modality == "T1" and "_ce-" in file.name else modality
