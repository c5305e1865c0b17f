"""Phantoms: invented brains with a glioma, to test, teach and benchmark without a patient's scans.

A phantom is a caricature with one honest trait: which modality is missing matters as it does in patients. The whole
tumour stands out on FLAIR, comes close to the brightness of fluid on T2, and looks like grey matter on T1. Enhancing
tumour (ET) shows on T1c alone: on T1, T2 and FLAIR it looks like the oedema (ED) and necrosis (NCR) around it, and
neither place nor shape tells it, because where a part lies inside the next, and its share of it, are drawn anew for
every case.

Everything follows from one seed. Distances are in units of half the width of the volume, so that a brain fills a
volume of any size; the axes are (x, y, z) towards left, posterior and superior, as in BraTS files.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator, SeedSequence
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter

from anymri.data.image import write_image
from anymri.errors import ConfigurationError, OutputError
from anymri.files import output_folder, write_json
from anymri.modalities import MODALITIES
from anymri.regions import BACKGROUND, ED, ET, NCR

# Changes with every change of what a seed gives, so that a folder never mixes cases of two kinds.
VERSION = 4
SMALLEST = 24
MOST_CASES = 1000  # three digits of the case's name
FILE_SUFFIXES = {"T1": "t1n", "T1c": "t1c", "T2": "t2w", "FLAIR": "t2f"}
RECORD = "phantom.json"

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

OUTSIDE, CSF, GREY, WHITE = range(4)

# Brightness relative to white matter on T1 and T1c, relative to grey matter on T2 and FLAIR.
# ED, NCR: the two ends between which all tumour tissue lies; enhancing: ET and vessels, on T1c alone.
CONTRASTS = {
    "T1": {"CSF": 0.30, "grey": 0.72, "white": 1.00, "ED": 0.74, "NCR": 0.46},
    "T1c": {"CSF": 0.30, "grey": 0.74, "white": 1.00, "ED": 0.74, "NCR": 0.46, "enhancing": 1.55},
    "T2": {"CSF": 1.95, "grey": 1.00, "white": 0.72, "ED": 1.50, "NCR": 1.80},
    "FLAIR": {"CSF": 0.28, "grey": 1.00, "white": 0.86, "ED": 1.75, "NCR": 1.00},
}
# How hard it is for a tumour to enter a tissue, in radii of the tumour: oedema follows the white matter.
RESISTANCE = np.array([np.inf, 0.60, 0.25, 0.0])  # OUTSIDE, CSF, GREY, WHITE

TISSUE_JITTER = 0.04  # standard deviation of a tissue's relative brightness between scanners
BIAS = 0.08  # standard deviation of the logarithm of the coil's sensitivity
NOISE = (0.02, 0.05)  # standard deviation of the noise, relative to white (T1) or grey (T2) matter
BLUR_VOXELS = 0.6  # partial volume
SCANNER_SCALE = (200.0, 2000.0)  # the brightness 1.0 in stored units


@dataclass(frozen=True)
class Phantom:
    """One invented case.

    images  int16 (X, Y, Z) for each of `MODALITIES`; 0 outside the brain and only there
    labels  uint8 (X, Y, Z), the classes 0, NCR, ED and ET, which are also the values of BraTS 2023
    """

    images: dict[str, NDArray[np.int16]]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class Anatomy:
    """A healthy brain.

    tissue       uint8 (X, Y, Z): OUTSIDE, CSF, GREY or WHITE
    ventricles   where the CSF is that of the ventricles, which a tumour does not enter
    depth        distance from the brain's surface, about 0.8 in the middle, negative outside
    """

    tissue: NDArray[np.uint8]
    ventricles: Mask
    depth: Floats


def phantom(seed: int | Sequence[int], size: int = 96) -> Phantom:
    """An invented case of `size`^3 voxels, a function of its arguments alone.

    seed  a non-negative number, or several: case i of the cohort with seed s is that of (s, i)
    """
    if size < SMALLEST:
        raise ConfigurationError(f"A phantom of {size} voxels has no room for a brain.", f"Use {SMALLEST} or more.")
    rng = Generator(PCG64(SeedSequence(seed)))
    anatomy = _anatomy(rng, size)
    labels = _tumour(rng, anatomy)
    fluid = _fluid(rng, anatomy, labels)
    images = {modality: _scan(rng, modality, anatomy, labels, fluid) for modality in MODALITIES}
    return Phantom(images, labels)


def write_cohort(folder: Path, count: int, seed: int = 0, size: int = 96) -> list[Path]:
    """Writes `count` cases in the layout of BraTS 2023 and returns their folders, `PHANTOM-<seed><case>-000`.

    Voxels of 1 mm, LPS. A longer cohort begins with the shorter one. A case appears whole or not at all; one that is
    there already, made by the same request, is kept. Raises `OutputError` if something else bears its name.
    """
    if not 1 <= count <= MOST_CASES:
        raise ConfigurationError(f"A cohort of {count} phantoms cannot be named.", f"Use 1 to {MOST_CASES} cases.")
    if seed < 0:
        raise ConfigurationError(f"The seed {seed} is negative.", "Use 0 or more.")
    output_folder(folder)
    return [_write_case(folder, seed, index, size) for index in range(count)]


def _write_case(folder: Path, seed: int, index: int, size: int) -> Path:
    case = folder / f"PHANTOM-{seed:02d}{index:03d}-000"
    record = {"phantom_version": VERSION, "seed": seed, "case": index, "size": size}
    if case.exists():
        _check_same(case, record)
        return case
    with tempfile.TemporaryDirectory(dir=folder, prefix=".anymri-") as scratch:
        unfinished = Path(scratch) / case.name
        _write_files(unfinished, phantom((seed, index), size), record)
        unfinished.rename(case)
    return case


def _write_files(case: Path, invented: Phantom, record: dict[str, int]) -> None:
    case.mkdir()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = len(invented.labels) - 1  # as in BraTS files, where y is 239 mm in the first of 240 voxels
    for modality, image in invented.images.items():
        write_image(_file(case, FILE_SUFFIXES[modality]), image, affine)
    write_image(_file(case, "seg"), invented.labels, affine)
    write_json(case / RECORD, record)


def _check_same(case: Path, record: dict[str, int]) -> None:
    files = [_file(case, suffix) for suffix in (*FILE_SUFFIXES.values(), "seg")]
    try:
        same = json.loads((case / RECORD).read_text(encoding="utf-8")) == record
    except (OSError, ValueError):
        same = False
    if not (same and all(file.is_file() for file in files)):
        raise OutputError(
            f"{case} is there already, but is not the whole phantom that was asked for ({record}).",
            "Choose another folder, or delete this case.",
        )


def _file(case: Path, suffix: str) -> Path:
    return case / f"{case.name}-{suffix}.nii.gz"


def _field(rng: Generator, size: int, cells: float) -> Floats:
    """A smooth random field (size, size, size): at each voxel of mean 0 and variance 1, about `cells` bumps an axis.

    White noise on a coarse grid, spread by Gaussians axis by axis.
    """
    places = np.arange(size) * (cells / size)
    knots = np.arange(-2, int(np.ceil(cells)) + 2)
    spread = np.exp(-0.5 * ((places[:, None] - knots) / 0.7) ** 2)
    spread /= np.linalg.norm(spread, axis=1, keepdims=True)
    field = rng.standard_normal((len(knots),) * 3)
    for _ in range(3):  # each turn spreads the first axis and moves it to the end
        field = np.einsum("ia,abc->bci", spread, field)
    return field.astype(np.float32)


def _distance_to_zero(field: Floats) -> Floats:
    """Distance to the sheet where a smooth field is zero, to first order."""
    slope = np.linalg.norm(np.gradient(field, 2 / len(field)), axis=0)
    distance: Floats = np.abs(field) / np.maximum(slope, 1.0)
    return distance


def _axes(size: int) -> tuple[Floats, Floats, Floats]:
    """Coordinates of the voxel centres in -1..1 as (size, 1, 1), (1, size, 1) and (1, 1, size)."""
    line = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    return line[:, None, None], line[None, :, None], line[None, None, :]


def _anatomy(rng: Generator, size: int) -> Anatomy:
    """An ellipsoid, flatter below, with a folded cortex, a fissure, ventricles and deep grey nuclei.

    A sulcus is the sheet where a random field is zero, near the surface; grey matter follows surface and sheets alike.
    """
    x, y, z = _axes(size)
    width, length, height = rng.uniform((0.72, 0.88, 0.72), (0.80, 0.95, 0.80))
    radius = np.sqrt((x / width) ** 2 + (y / length) ** 2 + (z / np.where(z > 0, height, 0.75 * height)) ** 2)
    depth = ((1 - radius + 0.025 * _field(rng, size, 5)) * 0.8).astype(np.float32)

    fissure = np.abs(x + 0.02 * _field(rng, size, 3)) + np.maximum(0, depth - 0.30)
    sulci = _distance_to_zero(_field(rng, size, 11)) + np.maximum(0, depth - 0.22)
    cortex = np.minimum(depth, np.minimum(fissure, sulci))
    tissue = np.select([depth <= 0, cortex < 0.016, cortex < 0.080], [OUTSIDE, CSF, GREY], WHITE)

    wobble = 0.25 * _field(rng, size, 6)
    side = np.abs(x)
    nuclei = _ellipsoid(side - 0.25, y + 0.02, z + 0.05, (0.10, 0.20, 0.13)) + wobble < 1
    tissue[nuclei] = GREY
    swelling = rng.uniform(0.9, 1.4)
    horns = _ellipsoid(side - 0.10 - 0.35 * y**2, y - 0.03, z - 0.08, (0.065 * swelling, 0.38, 0.10 * swelling))
    third = _ellipsoid(x, y - 0.05, z + 0.08, (0.025 * swelling, 0.14, 0.10))
    ventricles = (np.minimum(horns, third) + wobble < 1) & (depth > 0)
    tissue[ventricles] = CSF
    return Anatomy(tissue.astype(np.uint8), ventricles, depth)


def _ellipsoid(x: Floats, y: Floats, z: Floats, semi_axes: Iterable[float]) -> Floats:
    """0 in the middle of the ellipsoid, 1 on its surface."""
    a, b, c = semi_axes
    level: Floats = (x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2
    return level


def _tumour(rng: Generator, anatomy: Anatomy) -> NDArray[np.uint8]:
    """Labels of one glioma, or of two in a fifth of the cases.

    Each part takes its share of the part around it, the voxels nearest to a centre of its own first: the tumour 3.5 to
    11 % of the brain, the core 25 to 65 % of the tumour, the necrosis 25 to 70 % of the core, and the centres lie
    apart, so that no guess without T1c finds the enhancing rim. One voxel of oedema at least stays between the core and
    healthy brain.
    """
    size = len(anatomy.tissue)
    brain = anatomy.tissue != OUTSIDE
    volume = rng.uniform(0.035, 0.11) * brain.sum()
    radius = (volume * 3 / (4 * np.pi)) ** (1 / 3) * 2 / size
    centres = _centres(rng, anatomy, 1 if rng.random() < 0.8 else 2)

    resistance = np.where(anatomy.ventricles, np.inf, RESISTANCE[anatomy.tissue])
    reach = _reach(rng, size, centres, radius) + resistance
    tumour = _nearest(reach, np.isfinite(reach), volume)

    core_volume = rng.uniform(0.25, 0.65) * tumour.sum()
    core_centres = centres + rng.normal(0, 0.25 * radius, centres.shape)
    inner = binary_erosion(tumour | ~brain) & tumour
    core = _nearest(_reach(rng, size, core_centres, 0.6 * radius), inner, core_volume)

    necrotic_share = rng.uniform(0.25, 0.70)
    necrosis_centres = core_centres + rng.normal(0, 0.25 * radius, centres.shape)
    necrosis = _nearest(_reach(rng, size, necrosis_centres, 0.4 * radius), core, necrotic_share * core.sum())
    return np.select([necrosis, core, tumour], [NCR, ET, ED], BACKGROUND).astype(np.uint8)


def _centres(rng: Generator, anatomy: Anatomy, count: int) -> NDArray[np.float64]:
    """`count` places (count, 3) in the white matter, neither at the surface nor in the middle."""
    places = np.argwhere((anatomy.tissue == WHITE) & (anatomy.depth > 0.15) & (anatomy.depth < 0.5))
    return (rng.choice(places, count, replace=False) + 0.5) * 2 / len(anatomy.tissue) - 1


def _reach(rng: Generator, size: int, centres: NDArray[np.float64], radius: float) -> Floats:
    """Distance to the nearest centre in units of `radius`, with stretched axes and an irregular front.

    Of two centres the second belongs to a smaller lesion.
    """
    x, y, z = _axes(size)
    distances = []
    for (cx, cy, cz), share in zip(centres, (1.0, 0.6), strict=False):
        semi_axes = radius * share * rng.uniform(0.8, 1.25, 3)
        distances.append(np.sqrt(_ellipsoid(x - cx, y - cy, z - cz, semi_axes)))
    front = 0.26 * _field(rng, size, 2 / radius) + 0.14 * _field(rng, size, 4 / radius)
    reach: Floats = np.minimum.reduce(distances) + front
    return reach


def _nearest(reach: Floats, allowed: Mask, volume: float) -> Mask:
    """The `volume` allowed voxels with the smallest reach."""
    candidates = np.sort(reach[allowed])
    count = min(round(volume), len(candidates))
    return allowed & (reach <= candidates[count - 1]) if count else np.zeros_like(allowed)


def _fluid(rng: Generator, anatomy: Anatomy, labels: NDArray[np.uint8]) -> Floats:
    """How fluid tissue looks: in the tumour from oedema (0) to necrosis (1), elsewhere from healthy (0) to oedema (1).

    Necrosis is more or less fluid, and the other parts have lumps that look as fluid as it does. Healthy white matter
    has a few hyperintense spots, the mild distractors of old age.
    """
    size = len(labels)
    lumps = _field(rng, size, 12)
    necrotic, enhancing = rng.uniform(0.25, 0.7), rng.uniform(0.15, 0.45)
    tumour = np.array([0, necrotic, 0.25, enhancing], dtype=np.float32)[labels] + 0.25 * lumps
    spots = 0.4 * ((lumps > 2.1) & (anatomy.tissue == WHITE))
    return np.where(labels > 0, np.clip(tumour, -0.4, 1.2), spots).astype(np.float32)


def _scan(
    rng: Generator, modality: str, anatomy: Anatomy, labels: NDArray[np.uint8], fluid: Floats
) -> NDArray[np.int16]:
    """One scan: tissue brightness, partial volume, coil sensitivity, Rician noise, scale of the scanner."""
    size = len(labels)
    bright = {tissue: value * rng.normal(1, TISSUE_JITTER) for tissue, value in CONTRASTS[modality].items()}
    # The space outside counts as fluid until the end, so that partial volume darkens the rim as the sulci do.
    healthy = np.array([bright["CSF"], bright["CSF"], bright["grey"], bright["white"]], dtype=np.float32)
    signal = healthy[anatomy.tissue]
    signal += fluid * (np.float32(bright["ED"]) - signal)
    tumour = labels > 0
    signal[tumour] = bright["ED"] + fluid[tumour] * (bright["NCR"] - bright["ED"])
    if modality == "T1c":
        uptake = bright["enhancing"] * (1 + 0.08 * _field(rng, size, 12))
        signal[labels == ET] = uptake[labels == ET]
        # Oedema takes up a trace of contrast and necrosis none, so that here it is dark, fluid or not.
        signal[labels == NCR] = bright["NCR"]
        vessels = (anatomy.tissue == CSF) & ~tumour & (_field(rng, size, 16) > 1.5)
        signal[vessels] = 0.85 * bright["enhancing"]

    signal = gaussian_filter(signal, BLUR_VOXELS, truncate=3) * np.exp(BIAS * _field(rng, size, 1.5))
    real, imaginary = rng.uniform(*NOISE) * rng.standard_normal((2, size, size, size), dtype=np.float32)
    magnitude = np.hypot(signal + real, imaginary) * np.exp(rng.uniform(*np.log(SCANNER_SCALE)))
    stored: NDArray[np.int16] = np.clip(np.rint(magnitude), 1, np.iinfo(np.int16).max).astype(np.int16)
    stored[anatomy.tissue == OUTSIDE] = 0
    return stored
