"""Finding the cases of a cohort on disk.

`find_cases` understands, tried in this order:

    CSV manifest       a .csv file with the columns case, any modality, and perhaps label, mask, patient
    nnU-Net raw        imagesTr or imagesTs (CASE_0000.nii.gz, ...), labelsTr or labelsTs, dataset.json
    BIDS               sub-XX/[ses-YY/]anat/sub-XX[_ses-YY]_T1w.nii.gz, ...; label maps there or in derivatives
    one folder a case  BraTS 2018 to 2024 and the like: file names hold t1n, t1ce, flair, seg, ... between other words

Hidden files and folders are skipped.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from anymri.data.case import Case
from anymri.data.image import image_stem
from anymri.errors import CohortError, ImageError, ModalityError
from anymri.modalities import MODALITIES, find_modality, parse_modality

# Folders between the cohort and a case: training/HGG/site/case.
_DEPTH = 4

# Words in file names that are no modality. `segm` stands in case 355 of BraTS 2020, `OTMultiClass` in BraTS 2013.
_LABEL_WORDS = frozenset({"seg", "segm", "label", "truth", "gt", "otmulticlass"})
_MASK_WORDS = frozenset({"mask", "brainmask"})
_TUMOUR_WORDS = frozenset({"tumor", "tumour", "lesion"})

_UNDERSTOOD = (
    "Give a CSV manifest (columns case, t1, t1c, t2, flair, label), an nnU-Net raw folder, a BIDS folder, or one "
    "folder a case with files like name_t1ce.nii.gz."
)


def find_cases(path: Path) -> list[Case]:
    """The cases in a folder or CSV manifest, sorted by name; names are unique.

    Raises `CohortError` if there is none, or if it stays open which file is which.
    """
    if not path.exists():
        raise CohortError(f"{path} does not exist.", "Check the name of the folder or manifest.")
    try:
        cases = sorted(_cases(path), key=lambda case: case.name)
    except OSError as error:
        raise CohortError(f"{error.filename or path} cannot be read: {error.strerror}.", "Check its rights.") from error
    if not cases:
        raise CohortError(f"No case was found in {path}.", _UNDERSTOOD)
    for first, second in pairwise(cases):
        if first.name == second.name:
            raise CohortError(
                f"Two cases are named {first.name}: {_place(first)} and {_place(second)}.",
                "Rename one, or list the cases in a CSV manifest under names of their own.",
            )
    return cases


def case_from_files(
    scans: Mapping[str, Path], label: Path | None = None, brain_mask: Path | None = None, name: str = "case"
) -> Case:
    """A case from single files. `scans` maps any alias of a modality to its file."""
    by_modality: dict[str, Path] = {}
    for word, path in scans.items():
        modality = parse_modality(word)
        if modality in by_modality:
            raise ModalityError(
                f"{modality} is given twice: {by_modality[modality]} and {path}.", "Give one file a modality."
            )
        by_modality[modality] = path
    case = Case(name, by_modality, label, brain_mask)
    for what, path in case.files().items():
        if not path.is_file():
            raise ImageError(f"{path} ({what}) does not exist.", "Check the name, or leave the file out.")
    return case


def _cases(path: Path) -> Iterable[Case]:
    if path.is_file():
        return _manifest_cases(path)
    if any(_visible(path / folder) for folder in ("imagesTr", "imagesTs")):
        return _nnunet_cases(path)
    return _bids_cases(path) or _folder_cases(path, _DEPTH)


def _folder_cases(folder: Path, depth: int) -> Iterator[Case]:
    """Cases in `folder` and up to `depth` folders below it; what lies below a case belongs to it."""
    roles = [(_role(stem), file) for file, stem in _images(folder)]
    if _has_scan(roles):
        yield _case(folder.resolve().name, _one_file_a_role(roles))
    elif depth:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and _visible(child):
                yield from _folder_cases(child, depth - 1)


def _role(stem: str) -> str | None:
    """What a file is by its name: a modality, `label`, `brain_mask` or None. The last word that tells decides, because
    the words before belong to the case; `t1_ce` counts as `t1ce`."""
    words = re.findall(r"[a-z0-9]+", stem.lower())
    for before, word in reversed(list(zip(["", *words], words, strict=False))):
        if role := _word_role(before, word):
            return role
    return None


def _word_role(before: str, word: str) -> str | None:
    if word in _LABEL_WORDS or (word == "mask" and before in _TUMOUR_WORDS):
        return "label"
    if word in _MASK_WORDS:
        return "brain_mask"
    return (find_modality(before + word) if find_modality(before) else None) or find_modality(word)


def _bids_cases(root: Path) -> list[Case]:
    labels = [f for f in sorted(root.glob("derivatives/**/sub-*seg.nii*")) if _bids_role(f) == "label"]
    cases = []
    for anat in sorted([*root.glob("sub-*/anat"), *root.glob("sub-*/ses-*/anat")]):
        name = "_".join(anat.relative_to(root).parts[:-1])
        roles = [(_bids_role(file), file) for file, _ in _images(anat)]
        roles += [("label", file) for file in labels if _bids_name(file) == name]
        if _has_scan(roles):
            cases.append(_case(name, _one_file_a_role(roles)))
    return cases


def _bids_name(file: Path) -> str:
    """`sub-XX` or `sub-XX_ses-YY` of a BIDS file."""
    return "_".join(entity for entity in file.name.split("_")[:-1] if entity.startswith(("sub-", "ses-")))


def _bids_suffix(file: Path) -> str:
    """The word after the last entity: T1w, FLAIR, dseg, ..."""
    return (image_stem(file) or "").rpartition("_")[2]


def _bids_role(file: Path) -> str | None:
    suffix = _bids_suffix(file)
    if suffix in ("dseg", "seg"):
        return "label"
    modality = find_modality(suffix)
    return "T1c" if modality == "T1" and "_ce-" in file.name else modality


def _nnunet_cases(root: Path) -> list[Case]:
    channels = _nnunet_channels(root / "dataset.json")
    cases = []
    for part in ("Tr", "Ts"):
        files: dict[str, dict[str, Path]] = defaultdict(dict)
        for file, stem in _images(root / f"images{part}"):
            name, _, channel = stem.rpartition("_")
            if name and channel.isdecimal() and len(channel) == 4:
                files[name][_nnunet_modality(channels, file, int(channel))] = file
        for label, name in _images(root / f"labels{part}"):
            if name in files:
                files[name]["label"] = label
        cases += [_case(name, roles) for name, roles in files.items()]
    return cases


def _nnunet_modality(channels: Mapping[int, str], file: Path, channel: int) -> str:
    if channel not in channels:
        raise CohortError(
            f"{file} is channel {channel}, which dataset.json does not name.", "Add the channel to channel_names."
        )
    return channels[channel]


def _nnunet_channels(path: Path) -> dict[int, str]:
    """Channel number -> modality."""
    example = 'Write it with "channel_names": {"0": "T1", "1": "T1c", ...}, the number in the file name first.'
    if not path.is_file():
        raise CohortError(f"{path} is missing, so nothing tells which modality a channel holds.", example)
    try:
        names: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["channel_names"]
        channels = {int(number): find_modality(str(name)) for number, name in names.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CohortError(f"{path} has no channel_names that can be read.", example) from error
    modalities = {number: modality for number, modality in channels.items() if modality}
    if len(modalities) < len(channels) or len(set(modalities.values())) < len(modalities):
        raise CohortError(f"channel_names in {path} are not different modalities: {names}.", example)
    return modalities


def _manifest_cases(path: Path) -> list[Case]:
    """Cases of a CSV file with one row a case; paths are relative to it, an empty cell is an absent file."""
    cases: dict[str, Case] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream)
            columns = _manifest_columns(path, next(rows, []))
            for cells in rows:
                if not any(cells):
                    continue
                place = f"{path}, line {rows.line_num}"
                case = _manifest_case(path.parent, place, columns, cells)
                if case.name in cases:
                    raise CohortError(f"{place}: case {case.name} stands twice.", "Give every row a name of its own.")
                cases[case.name] = case
    except (UnicodeDecodeError, csv.Error) as error:
        raise CohortError(f"{path} is no CSV file: {error}.", _UNDERSTOOD) from error
    return list(cases.values())


def _manifest_columns(path: Path, header: list[str]) -> list[str]:
    """What each column holds: `case`, `patient`, a modality, `label` or `brain_mask`."""
    columns = []
    known = {"case": "case", "patient": "patient", "label": "label", "mask": "brain_mask"}
    for cell in header:
        word = cell.strip().lower()
        column = known.get(word) or find_modality(word)
        if column is None:
            raise CohortError(
                f"{path}, line 1: unknown column {cell!r}.",
                f"Use commas between case, patient, label, mask, {', '.join(MODALITIES)}.",
            )
        columns.append(column)
    if len(set(columns)) < len(columns) or "case" not in columns:
        raise CohortError(
            f"{path}, line 1: the columns are {', '.join(header)}.",
            "Give one column named case, and each other column once.",
        )
    return columns


def _manifest_case(folder: Path, place: str, columns: list[str], cells: list[str]) -> Case:
    if len(cells) != len(columns):
        raise CohortError(f"{place}: {len(cells)} cells under {len(columns)} columns.", "Quote cells that hold commas.")
    row = {column: cell.strip() for column, cell in zip(columns, cells, strict=True) if cell.strip()}
    name, patient = row.pop("case", ""), row.pop("patient", None)
    files = {what: folder / file for what, file in row.items()}
    for what, file in files.items():
        if not file.is_file():
            raise CohortError(f"{place}: {file} ({what}) does not exist.", "Paths are relative to the manifest.")
    try:
        return _case(name, files, patient)
    except CohortError as error:
        raise CohortError(f"{place}: {error.what}", error.fix) from error


def _case(name: str, files: Mapping[str, Path], patient: str | None = None) -> Case:
    """A case from modality, `label` or `brain_mask` -> file."""
    scans = {modality: files[modality] for modality in MODALITIES if modality in files}
    return Case(name, scans, files.get("label"), files.get("brain_mask"), patient)


def _has_scan(roles: Iterable[tuple[str | None, Path]]) -> bool:
    return any(role in MODALITIES for role, _ in roles)


def _one_file_a_role(roles: Iterable[tuple[str | None, Path]]) -> dict[str, Path]:
    """Role -> file; files without a role are left out."""
    by_role: dict[str, Path] = {}
    for role, file in roles:
        if role in by_role:
            raise CohortError(
                f"{by_role[role]} and {file} both look like the {role.replace('_', ' ')} of one case.",
                "Keep one of them there, or list the files of each case in a CSV manifest.",
            )
        if role is not None:
            by_role[role] = file
    return by_role


def _images(folder: Path) -> list[tuple[Path, str]]:
    """The image files of `folder`, if it exists, sorted, each with its name without suffix."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [(f, stem) for f in files if (stem := image_stem(f)) is not None and f.is_file() and _visible(f)]


def _visible(path: Path) -> bool:
    return path.exists() and not path.name.startswith(".")


def _place(case: Case) -> Path:
    return next(iter(case.scans.values())).parent
