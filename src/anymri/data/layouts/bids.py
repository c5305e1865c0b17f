"""BIDS: sub-XX/[ses-YY/]anat/sub-XX[_ses-YY]_T1w.nii.gz, with label maps there or in derivatives.

A role comes from the entities of a name, as label-lesion, and from its suffix, the word after the last one: T1w, dseg.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from anymri.data.layouts import found as reasons
from anymri.data.layouts import words as known
from anymri.data.layouts.found import Found, case_of_roles
from anymri.data.layouts.listing import check_readable, folders_above, identity, list_folder, walk
from anymri.data.layouts.names import unclear_name
from anymri.data.layouts.roles import Role, Unclear, modality_of_words
from anymri.data.layouts.words import join_phrases, split_words
from anymri.errors import CohortError
from anymri.files import read_text
from anymri.modalities import MODALITIES, find_modality

# Suffixes of label maps and masks.
_MAPS = known.LABEL | known.LESION | known.MASK | {"dseg"}
# Entities whose words do not describe what an image shows.
_PLACES = frozenset({"sub", "ses", "space", "run", "task", "res", "den"})
# Largest number of folders between `derivatives` and a file.
_DEPTH = 8


@dataclass(frozen=True)
class Name:
    """Name of a BIDS file: its entities in order, as {"sub": "01", "label": "lesion"}, and its suffix.

    The suffix is empty in names that end with an entity, as `sub-01_label-tumor`.
    """

    entities: Mapping[str, str]
    suffix: str

    @classmethod
    def read(cls, stem: str) -> Name:
        """Return the entities and the suffix of a file name, given without `.nii.gz`."""
        parts = stem.split("_")
        suffix = "" if "-" in parts[-1] else parts.pop()
        return cls({key: value for key, _, value in (part.partition("-") for part in parts)}, suffix.lower())

    @property
    def case(self) -> str:
        """`sub-XX` or `sub-XX_ses-YY`."""
        return "_".join(f"{key}-{self.entities[key]}" for key in ("sub", "ses") if key in self.entities)

    @property
    def is_map(self) -> bool:
        """Whether the file is a label map or a mask."""
        return self.suffix in _MAPS or (not self.suffix and "label" in self.entities)

    @property
    def words(self) -> set[str]:
        """The words of the entities that say what the image shows, and the suffix."""
        values = [value for key, value in self.entities.items() if key not in _PLACES]
        return {word.text for value in values for word in split_words(value)} | {self.suffix}


def find(root: Path) -> Found:
    """Return the cases of a BIDS folder, one per session; none if there is no anat folder with scans."""
    found = Found()
    files: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    sessions: dict[str, list[str]] = defaultdict(list)
    is_derivative = _is_derivative(root)
    for subject in list_folder(root, check=False).folders:
        if not subject.name.startswith("sub-"):
            continue
        for case, anat in _anat_folders(subject):
            roles, unknown, other = _roles(anat, case, is_derivative)
            files[case] += roles
            found.skip(reasons.NOT_UNDERSTOOD, (file.relative_to(root).as_posix() for file in unknown))
            found.skip(reasons.OTHER_FORMAT, (file.relative_to(root).as_posix() for file in other))
            if any(role in MODALITIES for role, _ in roles):
                sessions[subject.name].append(case)
            elif not roles and (case != subject.name or case not in sessions):
                found.skip(reasons.NO_ANATOMY, [case])
    if not sessions:
        return Found()
    _add_labels_without_scans(files, sessions, found, root)
    _add_derivatives(files, sessions, found, root)
    found.cases = [case_of_roles(case, files[case]) for cases in sessions.values() for case in cases]
    return found


def _anat_folders(subject: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name of each session with its anat folder, which need not exist."""
    folders = [folder.name for folder in list_folder(subject, check=False).folders]
    sessions = [name for name in folders if name.startswith("ses-")]
    yield from ((f"{subject.name}_{name}", subject / name / "anat") for name in sessions)
    if "anat" in folders or not sessions:
        yield subject.name, subject / "anat"


def _roles(anat: Path, case: str, is_derivative: bool) -> tuple[list[tuple[str, Path]], list[Path], list[Path]]:
    """Return the files of an anat folder with their roles, the images that are not understood, and other formats."""
    roles, unknown = [], []
    listing = list_folder(anat)
    for file, stem in listing.images:
        name = Name.read(stem)
        if name.case and name.case not in (case, case.partition("_")[0]):
            raise CohortError(f"{file} is named after {name.case}, in a folder of {case}.", "Move or rename the file.")
        role = _role(name, is_derivative)
        if isinstance(role, Unclear):
            raise unclear_name(file, role)
        if role is not None:
            roles.append((role, file))
        else:
            unknown.append(file)
    return roles, unknown, listing.others


def _role(name: Name, is_derivative: bool) -> Role:
    if name.is_map:
        return _role_of_map(name, is_derivative)
    modality = None if name.entities.get("part") == "phase" else find_modality(name.suffix)
    if modality != "T1":
        return modality
    values = [name.entities.get(entity, "") for entity in ("acq", "desc", "rec", "ce")]
    described = join_phrases([word.text for word in split_words(" ".join(values))])
    if name.entities.get("ce", "none") != "none" and not known.NO_CONTRAST & set(described):
        return "T1c"
    return modality_of_words([*(word for word in described if not find_modality(word)), name.suffix])


def _role_of_map(name: Name, is_derivative: bool) -> Role:
    words = name.words
    if words & (known.TISSUE | known.REGION) or "atlas" in name.entities:
        return None
    if words & (known.LESION | {"gt", "truth", "groundtruth"}):
        return "label"
    if name.suffix in known.MASK:
        return "brain_mask" if words & known.BRAIN else None
    is_of_else = words & known.BRAIN or "label" in name.entities
    return None if is_of_else or (is_derivative and name.suffix == "dseg") else "label"


def _add_labels_without_scans(
    files: dict[str, list[tuple[str, Path]]], sessions: Mapping[str, list[str]], found: Found, root: Path
) -> None:
    """Add label maps of folders without scans to the only session of their subject, or skip them."""
    with_scans = {case for cases in sessions.values() for case in cases}
    for case in [case for case in files if case not in with_scans]:
        for role, file in files.pop(case):
            if role == "label":
                _add_label(case, file, files, sessions, found, root)


def _add_derivatives(
    files: dict[str, list[tuple[str, Path]]], sessions: Mapping[str, list[str]], found: Found, root: Path
) -> None:
    """Add the label maps in derivatives, which must say that they show a tumour, or be named `seg`."""
    derivatives = root / "derivatives"
    if not derivatives.is_dir():
        return
    for folder, listing in walk(derivatives, _DEPTH, (*folders_above(root), identity(root))):
        pipelines = folder.relative_to(derivatives).parts
        shows_tumour = any({word.text for word in split_words(part)} & known.LESION for part in pipelines)
        for file, stem in listing.images:
            name = Name.read(stem)
            if not name.is_map:
                continue
            role = _role(name, is_derivative=not shows_tumour)
            if role == "label":
                check_readable(file)
                _add_label(name.case, file, files, sessions, found, root)
            else:
                found.skip(reasons.NO_TUMOUR_NAME, [file.relative_to(root).as_posix()])


def _add_label(
    case: str,
    file: Path,
    files: dict[str, list[tuple[str, Path]]],
    sessions: Mapping[str, list[str]],
    found: Found,
    root: Path,
) -> None:
    """Give a label map to its case; without a session in its name, to the only session of its subject."""
    of_subject = sessions.get(case.partition("_")[0], [])
    if case in of_subject:
        files[case].append(("label", file))
    elif "_" not in case and len(of_subject) == 1:
        files[of_subject[0]].append(("label", file))
    else:
        several = "_" not in case and len(of_subject) > 1
        reason = reasons.SEVERAL_SESSIONS if several else reasons.NO_SCAN
        found.skip(reason, [file.relative_to(root).as_posix()])


def _is_derivative(root: Path) -> bool:
    """Return whether a BIDS folder is the output of a pipeline, whose `dseg` are tissues."""
    try:
        description = json.loads(read_text(root / "dataset_description.json"))
        return bool(description["DatasetType"] == "derivative")
    except (OSError, ValueError, KeyError, TypeError):
        return "derivatives" in root.absolute().parts
