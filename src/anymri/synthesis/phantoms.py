"""Phantoms: synthetic brains with a glioma, to test, teach and benchmark without scans of patients.

A phantom is simplified, but missing modalities matter as they do in patients. The whole tumour is bright on FLAIR, has
about the brightness of fluid on T2, and looks like grey matter on T1. Enhancing tumour (ET) is visible on T1c alone: on
T1, T2 and FLAIR it looks like the oedema (ED) and necrosis (NCR) around it, and neither position nor shape reveals it,
because the position of each region inside the next, and its share of it, are drawn for each case.

A phantom is a function of its seed. Distances are in units of half the width of the volume, so that a brain fills a
volume of any size; the axes x, y, z point to left, posterior and superior, as in BraTS files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray

from anymri.data.image import write_image
from anymri.errors import ConfigurationError, OutputError
from anymri.files import locked, read_text, temporary_path, write_json
from anymri.modalities import MODALITIES
from anymri.synthesis.anatomy import draw_anatomy
from anymri.synthesis.appearance import draw_fluidity, draw_scan
from anymri.synthesis.tumours import draw_tumour

# Increased with every change of the phantoms of a seed, so that a folder never mixes two versions.
VERSION = 4
SMALLEST = 24
MOST_CASES = 1000  # three digits of the case's name
FILE_SUFFIXES = {"T1": "t1n", "T1c": "t1c", "T2": "t2w", "FLAIR": "t2f"}
RECORD = "phantom.json"


@dataclass(frozen=True)
class Phantom:
    """Images and label map of a synthetic case.

    images  modality -> (X, Y, Z) int16, for all of `MODALITIES`; 0 outside the brain and only there
    labels  (X, Y, Z) uint8, the classes 0, NCR, ED and ET, which are also the values of BraTS 2023
    """

    images: dict[str, NDArray[np.int16]]
    labels: NDArray[np.uint8]


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


def write_cohort(folder: Path, count: int, seed: int = 0, size: int = 96) -> list[Path]:
    """Write `count` cases in the layout of BraTS 2023 and return their folders, `PHANTOM-<seed><case>-000`.

    Voxels are 1 mm, in LPS orientation. A longer cohort begins with the shorter one. A case is written whole or not at
    all, and not again if it exists. Raises `OutputError` if something else has its name.

    size  voxels along each axis
    """
    if not 1 <= count <= MOST_CASES:
        raise ConfigurationError(f"A cohort of {count} phantoms cannot be written.", f"Use 1 to {MOST_CASES} cases.")
    if seed < 0:
        raise ConfigurationError(f"The seed {seed} is negative.", "Use 0 or more.")
    with locked(folder):
        return [_write_case(folder, seed, index, size) for index in range(count)]


def _write_case(folder: Path, seed: int, index: int, size: int) -> Path:
    case = folder / f"PHANTOM-{seed:02d}{index:03d}-000"
    record = {"phantom_version": VERSION, "seed": seed, "case": index, "size": size}
    if case.exists():
        _check_same(case, record)
        return case
    unfinished = temporary_path(folder)
    try:
        _write_files(unfinished / case.name, phantom((seed, index), size), record)
        (unfinished / case.name).rename(case)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return case


def _write_files(case: Path, content: Phantom, record: dict[str, int]) -> None:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = len(content.labels) - 1  # as in BraTS files, where y is 239 mm in the first of 240 voxels
    for modality, image in content.images.items():
        write_image(_file(case, FILE_SUFFIXES[modality]), image, affine)
    write_image(_file(case, "seg"), content.labels, affine)
    write_json(case / RECORD, record)


def _check_same(case: Path, record: dict[str, int]) -> None:
    files = [_file(case, suffix) for suffix in (*FILE_SUFFIXES.values(), "seg")]
    try:
        same = json.loads(read_text(case / RECORD)) == record
    except (OSError, ValueError):
        same = False
    if not (same and all(file.is_file() for file in files)):
        raise OutputError(
            f"{case} exists, but is not a complete phantom of this request ({record}).",
            "Choose another folder, or delete this case.",
        )


def _file(case: Path, suffix: str) -> Path:
    return case / f"{case.name}-{suffix}.nii.gz"
