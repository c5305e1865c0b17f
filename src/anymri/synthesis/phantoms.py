"""Phantoms: synthetic brains with a glioma, to test, teach and benchmark without scans of patients.

There are two styles: realistic phantoms come from `anymri.synthesis.realistic`, plain phantoms from this package. A
plain phantom is simplified, but missing modalities matter as they do in patients. The whole tumour is bright on FLAIR,
has about the brightness of fluid on T2, and looks like grey matter on T1. Enhancing tumour (ET) is visible on T1c
alone: on T1, T2 and FLAIR it looks like the oedema (ED) and necrosis (NCR) around it, and neither position nor shape
reveals it, because the position of each region inside the next, and its share of it, are drawn for each case.

A plain phantom is a function of its seed. Distances are in units of half the width of the volume, so that a brain
fills a volume of any size; the axes x, y, z point to left, posterior and superior, as in BraTS files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from anymri.data.image import write_image
from anymri.errors import ConfigurationError, OutputError, did_you_mean
from anymri.files import locked, read_text, temporary_path, write_json
from anymri.modalities import MODALITIES
from anymri.progress import Progress, silent
from anymri.synthesis.anatomy import draw_anatomy
from anymri.synthesis.appearance import draw_fluidity, draw_scan
from anymri.synthesis.realistic.generator import VERSION as REALISTIC_VERSION
from anymri.synthesis.realistic.generator import generate
from anymri.synthesis.tumours import draw_tumour

# Increased with every change of the phantoms of a seed, so that a folder never mixes two versions.
VERSION = 4
SMALLEST = 24
MOST_CASES = 1000  # three digits of the case's name
FILE_SUFFIXES = {"T1": "t1n", "T1c": "t1c", "T2": "t2w", "FLAIR": "t2f"}
RECORD = "phantom.json"
Style = Literal["plain", "realistic"]


@dataclass(frozen=True)
class Phantom:
    """Images and label map of a synthetic case.

    images   modality -> (X, Y, Z) int16, for all of `MODALITIES` (or some of them, if realistic); 0 outside the brain
             and only there
    labels   (X, Y, Z) uint8, the classes 0, NCR, ED and ET, which are also the values of BraTS 2023
    spacing  side of a voxel in millimetres
    """

    images: dict[str, NDArray[np.int16]]
    labels: NDArray[np.uint8]
    spacing: float = 1.0


def phantom(seed: int | Sequence[int], size: int = 96) -> Phantom:
    """Return a synthetic case of `size`^3 voxels, a function of its arguments alone.

    seed  a non-negative number, or several: case i of the cohort with seed s has the seed (s, i)
    """
    if size < SMALLEST:
        raise ConfigurationError(f"A phantom of {size} voxels is too small for a brain.", f"Use {SMALLEST} or more.")
    rng = Generator(PCG64(SeedSequence(seed)))
    anatomy = draw_anatomy(rng, size)
    labels = draw_tumour(rng, anatomy)
    fluid = draw_fluidity(rng, anatomy, labels)
    images = {modality: draw_scan(rng, modality, anatomy, labels, fluid) for modality in MODALITIES}
    return Phantom(images, labels)


def write_cohort(
    folder: Path,
    count: int,
    seed: int = 0,
    size: int = 96,
    style: Style = "plain",
    spacing: float = 1.0,
    missing: bool = False,
    easy: bool = False,
    progress: Progress = silent,
) -> list[Path]:
    """Write `count` cases in the layout of BraTS 2023 and return their folders, `PHANTOM-<seed><case>-000`.

    Voxels are in LPS orientation. A longer cohort begins with the shorter one. A case is written whole or not at all,
    and not again if it exists. Raises `OutputError` if something else has its name, and `ConfigurationError` for a
    request out of range.

    style     "plain": simple cubes for tests; "realistic": 160x192x160 mm, see `anymri.synthesis.realistic.generator`
    size      plain: voxels of 1 mm along each axis
    spacing   realistic: side of a voxel in millimetres, 1 to 4
    missing   realistic: leave out the scans that the case does not have
    easy      realistic: large, clearly visible tumours and few mimics
    progress  called with the name of a case, and how many of how many cases are done before it
    """
    if not 1 <= count <= MOST_CASES:
        raise ConfigurationError(f"A cohort of {count} phantoms cannot be written.", f"Use 1 to {MOST_CASES} cases.")
    if seed < 0:
        raise ConfigurationError(f"The seed {seed} is negative.", "Use 0 or more.")
    if style not in get_args(Style):
        hint = did_you_mean(style, get_args(Style))
        raise ConfigurationError(f"The style {style!r} does not exist.", f"{hint}Known: {', '.join(get_args(Style))}.")

    def write(index: int) -> Path:
        case = folder / f"PHANTOM-{seed:02d}{index:03d}-000"
        progress(case.name, index, count)
        if style == "plain":
            record: dict[str, Any] = {"phantom_version": VERSION, "seed": seed, "case": index, "size": size}
            return _write_case(case, lambda: phantom((seed, index), size), record)
        options = {"spacing": float(spacing), "missing": missing, "easy": easy}
        record = {"realistic_version": REALISTIC_VERSION, "seed": seed, "case": index, **options}
        return _write_case(case, lambda: realistic_phantom(seed, index, spacing, missing, easy), record)

    with locked(folder):
        cases = [write(index) for index in range(count)]
    progress("", count, count)
    return cases


def realistic_phantom(
    seed: int, index: int, spacing: float = 1.0, missing: bool = False, easy: bool = False
) -> Phantom:
    """Return a realistic case as scans are stored; see `write_cohort` for `missing` and `easy`."""
    case = generate(seed, index, spacing, easy=easy)
    names = case.available if missing else MODALITIES
    top = np.iinfo(np.int16).max
    images = {name: (np.clip(np.rint(case.images[name]), 1, top) * case.brain).astype(np.int16) for name in names}
    return Phantom(images, case.labels, spacing)


def _write_case(case: Path, make: Callable[[], Phantom], record: dict[str, Any]) -> Path:
    if case.exists():
        _check_same(case, record)
        return case
    unfinished = temporary_path(case.parent)
    try:
        _write_files(unfinished / case.name, make(), record)
        (unfinished / case.name).rename(case)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return case


def _write_files(case: Path, content: Phantom, record: dict[str, Any]) -> None:
    spacing = content.spacing
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    affine[1, 3] = (content.labels.shape[1] - 1) * spacing  # as in BraTS files: y is 239 mm in the first of 240 voxels
    for modality, image in content.images.items():
        write_image(_file(case, FILE_SUFFIXES[modality]), image, affine)
    write_image(_file(case, "seg"), content.labels, affine)
    if len(content.images) < len(MODALITIES):
        record = record | {"scans": list(content.images)}
    write_json(case / RECORD, record)


def _check_same(case: Path, record: dict[str, Any]) -> None:
    try:
        found = json.loads(read_text(case / RECORD))
        scans = found.pop("scans", MODALITIES)  # listed where some modalities are missing
        files = [_file(case, suffix) for suffix in (*(FILE_SUFFIXES[name] for name in scans), "seg")]
        same = found == record and all(file.is_file() for file in files)
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        same = False
    if not same:
        raise OutputError(
            f"{case} exists, but is not a complete phantom of this request ({record}).",
            "Choose another folder, or delete this case.",
        )


def _file(case: Path, suffix: str) -> Path:
    return case / f"{case.name}-{suffix}.nii.gz"
