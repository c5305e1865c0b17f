"""A case: the files of one patient at one time point, and what they hold once read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import Image, read_image, read_scan, to_lps
from anymri.errors import CohortError, GeometryError, ImageError
from anymri.modalities import MODALITIES, REFERENCE_ORDER, Subset
from anymri.regions import LabelScheme

# Two files share one grid if no corner voxels of their volumes are farther apart: header rounding stays far below.
GRID_TOLERANCE_MM = 0.01

# Names of one patient's time points: BraTS-GLI-00012-001, sub-12_ses-01.
_TIME_POINTS = re.compile(r"(BraTS-[a-z]+-\d{5})-\d{3}|(sub-[a-z0-9]+)_ses-[a-z0-9]+", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """The files of one case.

    name        names the results too, so it cannot hold a slash
    scans       modality -> file, in the order of `MODALITIES`; only what exists
    label       label map
    brain_mask  where the brain is, for scans whose background is not zero
    patient     shared by the time points of one patient; told from the name if None
    """

    name: str
    scans: Mapping[str, Path]
    label: Path | None = None
    brain_mask: Path | None = None
    patient: str | None = None

    def __post_init__(self) -> None:
        if not self.name.strip(".") or "/" in self.name or "\\" in self.name:
            raise CohortError(f"{self.name!r} cannot name a case.", "Use letters, digits, dots, dashes, underscores.")
        if not self.scans:
            raise CohortError(f"Case {self.name} has no scan.", f"Give at least one of {', '.join(MODALITIES)}.")
        object.__setattr__(self, "scans", {m: self.scans[m] for m in Subset.of(self.scans)})
        object.__setattr__(self, "patient", self.patient or _patient_of(self.name))

    @property
    def subset(self) -> Subset:
        """The modalities that exist."""
        return Subset.of(self.scans)

    def files(self) -> dict[str, Path]:
        """Every file of the case: modality, `label` or `brain_mask` -> path."""
        others = {"label": self.label, "brain_mask": self.brain_mask}
        return dict(self.scans) | {what: path for what, path in others.items() if path is not None}


@dataclass(frozen=True, eq=False)
class Study:
    """A case in memory: all arrays (x, y, z) in LPS on one grid.

    images     modality -> float32, values as in the file
    affine     (4, 4): LPS voxel indices to RAS+ millimetres
    classes    the label map as classes of `anymri.regions`, None if not asked for or not there
    brain      True inside the brain mask, None without one
    reference  the scan whose geometry a segmentation is written in
    """

    case: Case
    images: dict[str, NDArray[np.float32]]
    affine: NDArray[np.float64]
    classes: NDArray[np.uint8] | None
    brain: NDArray[np.bool_] | None
    reference: Image


def read_study(case: Case, scheme: LabelScheme | None = None) -> Study:
    """Reads the scans and the brain mask of a case, and its label map if `scheme` tells what the values mean.

    Raises `ImageError` for a file that cannot be used, `GeometryError` if the files lie on different grids,
    `LabelError` for label values outside the scheme.
    """
    scans = {modality: read_scan(path) for modality, path in case.scans.items()}
    reference = next(scans[modality] for modality in REFERENCE_ORDER if modality in scans)
    images = {modality: turned_to_grid(scan, reference, case.name) for modality, scan in scans.items()}
    _, affine = to_lps(reference.array, reference.affine)
    classes = brain = None
    if case.label is not None and scheme is not None:
        labels = turned_to_grid(read_image(case.label), reference, case.name)
        classes = scheme.to_classes(labels, source=str(case.label))
    if case.brain_mask is not None:
        # Scale factors make the ones of some masks 0.99999997.
        brain = turned_to_grid(read_image(case.brain_mask), reference, case.name) > 0.5
        if not brain.any():
            raise ImageError(f"The brain mask {case.brain_mask} is empty.", "Give one of the brain, or leave it out.")
    return Study(case, images, affine, classes, brain, reference)


def turned_to_grid(image: Image, reference: Image, case: str) -> NDArray[np.float32]:
    """The array of `image`, a file of `case`, in LPS; raises `GeometryError` if its grid is not that of `reference`."""
    array, affine = to_lps(image.array, image.affine)
    grid, grid_affine = to_lps(reference.array, reference.affine)
    distance_mm = _corner_distance_mm(affine, grid_affine, array.shape)
    if array.shape == grid.shape and distance_mm <= GRID_TOLERANCE_MM:
        return np.ascontiguousarray(array)
    one, other = _described(image), _described(reference)
    what = f"Case {case}: {image.path.name} is {one}; {reference.path.name} is {other}"
    if array.shape == grid.shape:
        what += f"; corners of the volumes lie up to {distance_mm:.2f} mm apart"
    raise GeometryError(
        f"{what}.",
        "The files lie on different grids: align them to one grid with a registration tool first, or give only files "
        "that share a grid.",
    )


def _corner_distance_mm(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Largest distance between the same corner voxel under two affines."""
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
