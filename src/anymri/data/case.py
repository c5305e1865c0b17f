"""A case, the files of one patient at one time point, and a study, its scans as arrays."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import Image, data_file_of, read_image, read_scan, to_axes_of, to_lps
from anymri.errors import CohortError, GeometryError, ImageError
from anymri.modalities import MODALITIES, REFERENCE_ORDER, Subset
from anymri.regions import WHOLE_NUMBER_TOLERANCE, LabelScheme
from anymri.text import shown

# Two files share one grid if no corner voxels of their volumes are farther apart; rounding of headers is far smaller.
GRID_TOLERANCE_MM = 0.01

# Longest name of a case in UTF-8. A file name may have 255 bytes; those of a case get suffixes.
NAME_BYTES = 150

# Names of one patient's time points: BraTS-GLI-00012-001, sub-12_ses-01.
_TIME_POINTS = re.compile(r"(BraTS-[a-z]+-\d{5})-\d{3}|(sub-[a-z0-9]+)_ses-[a-z0-9]+", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """Files of one patient at one time point.

    name        name of the case and of its results, see `check_name`
    scans       modality -> file, in the order of `MODALITIES`, for the modalities that exist
    label       label map
    brain_mask  mask of the brain, for scans whose background is not constant
    patient     name shared by the time points of one patient; derived from `name` if empty
    """

    name: str
    scans: Mapping[str, Path]
    label: Path | None = None
    brain_mask: Path | None = None
    patient: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.scans:
            raise CohortError(f"Case {self.name} has no scan.", f"Give at least one of {', '.join(MODALITIES)}.")
        object.__setattr__(self, "scans", {m: self.scans[m] for m in Subset.of(self.scans)})
        object.__setattr__(self, "patient", self.patient or _patient_of(self.name))

    @property
    def subset(self) -> Subset:
        """The modalities that exist."""
        return Subset.of(self.scans)

    def files(self) -> dict[str, Path]:
        """Return role -> path of every file: a modality, `label`, `brain_mask`, or `T1 voxels` for a data file."""
        others = {"label": self.label, "brain_mask": self.brain_mask}
        files = dict(self.scans) | {role: path for role, path in others.items() if path is not None}
        voxels = {f"{role} voxels": data_file_of(path) for role, path in files.items()}
        return files | {role: path for role, path in voxels.items() if path is not None}


def check_name(name: str) -> None:
    """Raise `CohortError` unless `name` can be used for files and folders of a case, in tables and on terminals."""
    unprintable = [sign for sign in name if not sign.isprintable()]
    reason = None
    if not name:
        reason = "it is empty"
    elif unprintable:
        reason = f"it contains the character U+{ord(unprintable[0]):04X}, which cannot be printed"
    elif "/" in name or "\\" in name:
        reason = "it contains a slash"
    elif name != name.strip(" ."):
        reason = "it begins or ends with a dot or a space"
    elif len(name.encode()) > NAME_BYTES:
        reason = f"it has {len(name.encode())} bytes, more than {NAME_BYTES}"
    if reason is not None:
        raise CohortError(
            f"{shown(name, 40)} cannot be the name of a case: {reason}.",
            "Rename it: use letters, digits, dots, dashes, underscores.",
        )


def check_distinct(names: Iterable[str]) -> None:
    """Raise `CohortError` if two different names of cases are the same on some file systems."""
    found: dict[str, str] = {}
    for name in names:
        first = found.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if first != name:
            raise CohortError(
                f"The names of the cases {first} and {name} differ only in capitals or in the encoding of accents.",
                "Rename one, because many file systems do not distinguish them and would mix their results.",
            )


@dataclass(frozen=True, eq=False)
class Study:
    """A case in memory: its scans and maps as arrays (X, Y, Z) in LPS on one grid.

    case       the files
    images     modality -> float32, values as in the file, for the modalities that exist
    affine     (4, 4) float64: LPS voxel indices to RAS+ millimetres
    classes    label map, uint8 classes of `anymri.regions`; None if not requested or absent
    brain      brain mask, bool; None without one
    reference  scan in whose geometry a segmentation is written
    """

    case: Case
    images: dict[str, NDArray[np.float32]]
    affine: NDArray[np.float64]
    classes: NDArray[np.uint8] | None
    brain: NDArray[np.bool_] | None
    reference: Image


def read_study(case: Case, scheme: LabelScheme | None = None) -> Study:
    """Read the scans and the brain mask of a case, and its label map if `scheme` gives the meaning of its values.

    Raises `ImageError` for a file that cannot be used, `GeometryError` if the files are on different grids,
    `LabelError` for label values outside the scheme.
    """
    scans = {modality: read_scan(path) for modality, path in case.scans.items()}
    reference = next(scans[modality] for modality in REFERENCE_ORDER if modality in scans)
    images = {modality: reorient_to_grid(scan, reference, case.name) for modality, scan in scans.items()}
    _, affine = to_lps(reference.array, reference.affine)
    classes = brain = None
    if case.label is not None and scheme is not None:
        labels = reorient_to_grid(read_image(case.label), reference, case.name)
        classes = scheme.to_classes(labels, source=str(case.label))
    if case.brain_mask is not None:
        mask = reorient_to_grid(read_image(case.brain_mask), reference, case.name)
        brain = as_brain_mask(mask, case.brain_mask)
    return Study(case, images, affine, classes, brain, reference)


def as_brain_mask(mask: NDArray[np.float32], file: Path) -> NDArray[np.bool_]:
    """Return a brain mask as bool; raise `ImageError` if it is empty or has several values other than 0."""
    brain: NDArray[np.bool_] = mask != 0
    if not brain.any():
        raise ImageError(f"The brain mask {file} is empty.", "Give a mask of the brain, or omit it.")
    low, high = mask[brain].min(), mask[brain].max()
    # With scale factors the ones of some masks are 0.99999997.
    if high - low > WHOLE_NUMBER_TOLERANCE:
        raise ImageError(
            f"The brain mask {file} has several values other than 0, from {low:g} to {high:g}.",
            "Give a mask with one value inside the brain; a label map of the tumour is not a brain mask.",
        )
    return brain


def reorient_to_grid(image: Image, reference: Image, case: str) -> NDArray[np.float32]:
    """Return the array of `image` with the axes of the reference in LPS, (X, Y, Z) float32.

    case  name of the case, for the error

    Raises `GeometryError` if the grid of `image` is not the reference's.
    """
    grid, grid_affine = to_lps(reference.array, reference.affine)
    array, affine = to_axes_of(image.array, image.affine, grid_affine)
    distance_mm = _corner_distance_mm(affine, grid_affine, array.shape)
    if array.shape == grid.shape and distance_mm <= GRID_TOLERANCE_MM:
        return np.ascontiguousarray(array)
    one, other = _described(image), _described(reference)
    what = f"Case {case}: {image.path.name} is {one}; {reference.path.name} is {other}"
    if array.shape == grid.shape:
        what += f"; corners of the volumes are up to {distance_mm:.2f} mm apart"
    raise GeometryError(
        f"{what}.",
        "The files are on different grids: `anymri segment` registers such scans. Elsewhere, give files on one grid.",
    )


def _corner_distance_mm(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Return the largest distance between the same corner voxel of a volume under two affines."""
    last = np.array(shape) - 1
    corners = np.array([[*(np.array(corner) * last), 1] for corner in np.ndindex(2, 2, 2)])
    apart = corners @ (first - second).T[:, :3]
    return float(np.linalg.norm(apart, axis=1).max())


def _described(image: Image) -> str:
    spacing = "x".join(f"{s:.2f}" for s in image.spacing_mm)
    _, affine = to_lps(image.array, image.affine)
    origin = ", ".join(f"{o:.1f}" for o in affine[:3, 3])
    size = "x".join(map(str, image.shape))
    return f"{size} at {spacing} mm, {image.orientation}, right-anterior-inferior voxel at ({origin}) mm"


def _patient_of(name: str) -> str:
    match = _TIME_POINTS.fullmatch(name)
    return match[1] or match[2] if match else name
