"""Lesions of a region, connected components, and on which side of the brain they are.

All functions take masks in any orientation with their affine, (4, 4) from voxel indices to RAS+ millimetres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.preprocessing import background_value
from anymri.inference.diameters import Diameters, axial_axis, axial_diameters, is_measurable, slice_distance_mm

Mask = NDArray[np.bool_]
Affine = NDArray[np.float64]
Box = tuple[slice, slice, slice]

# Components up to this volume are counted, not listed: the threshold of the lesion-wise metrics of BraTS 2023.
SMALLEST_LESION_ML = 0.05
# A region is on one side if at least this share of its volume is.
ONE_SIDE = 0.9

# Positions along each axis at which the middle of the head is looked for, at least.
_SAMPLES = 120


@dataclass(frozen=True)
class Lesion:
    """One connected component of a region: voxels that touch by a face, an edge or a corner.

    volume_ml   volume in millilitres
    centre_mm   mean position of its voxels, RAS+ millimetres
    side        `left`, `right` or `midline`, see `side_of`; None without a middle plane
    diameters   largest axial diameters
    measurable  whether it is measurable by RANO, see `anymri.inference.diameters`
    """

    volume_ml: float
    centre_mm: tuple[float, float, float]
    side: str | None
    diameters: Diameters
    measurable: bool

    def as_json(self) -> dict[str, Any]:
        """Return the lesion as plain values."""
        return {
            "volume_ml": round(self.volume_ml, 4),
            "centre_ras_mm": [round(mm, 1) for mm in self.centre_mm],
            "side": self.side,
            "longest_mm": round(self.diameters.longest_mm, 1),
            "perpendicular_mm": round(self.diameters.perpendicular_mm, 1),
            "product_mm2": round(self.diameters.product_mm2, 1),
            "longest_ends_ras_mm": _rounded(self.diameters.longest_ends_mm),
            "perpendicular_ends_ras_mm": _rounded(self.diameters.perpendicular_ends_mm),
            "axial_slice": self.diameters.slice_index,
            "measurable": self.measurable,
        }


def find_lesions(
    mask: Mask,
    affine: Affine,
    crossed: Mask | None = None,
    middle_mm: float | None = None,
    first_slice: int = 0,
) -> tuple[list[Lesion], list[float]]:
    """Return the lesions of a region, largest first, and the volumes in mL of components that are too small.

    mask         (X, Y, Z) voxels of the region
    crossed      (X, Y, Z) voxels that lines across a lesion may cross, beside those of the lesion
    middle_mm    position of the plane between left and right, see `middle_of`
    first_slice  number of the first axial slice of the mask, where the mask is a box of a volume
    """
    voxel_ml, distance_mm = float(abs(np.linalg.det(affine[:3, :3]))) / 1000, slice_distance_mm(affine)
    axis = axial_axis(affine)
    lesions, small = [], []
    for box, part in components(mask):
        volume_ml = float(part.sum()) * voxel_ml
        # Rounded, because headers give 0.99999994 mm and a lesion exactly at the threshold is small.
        if round(volume_ml, 6) <= SMALLEST_LESION_ML:
            small.append(volume_ml)
            continue
        at = shifted(affine, box)
        found = axial_diameters(part, at, None if crossed is None else crossed[box])
        assert found is not None  # the component is not empty
        diameters = replace(found, slice_index=found.slice_index + box[axis].start + first_slice)
        x, y, z = positions(part, at).mean(axis=0).tolist()
        side = None if middle_mm is None else side_of(part, at, middle_mm)
        measurable = is_measurable(diameters, part.shape[axis], distance_mm)
        lesions.append(Lesion(volume_ml, (x, y, z), side, diameters, measurable))
    return sorted(lesions, key=lambda each: -each.volume_ml), small


def middle_of(scan: NDArray[np.float32], affine: Affine) -> float | None:
    """Return the position of the plane between left and right, RAS+ x in millimetres: the middle of the head.

    It is approximate: the plane is that of the scanner, and the head may be turned in it. None for an empty scan.

    scan  (X, Y, Z) intensities, or a brain mask
    """
    background = background_value(scan)
    steps = [max(1, length // _SAMPLES) for length in scan.shape]  # enough for a plane that is approximate
    sample = scan[tuple(slice(None, None, step) for step in steps)]
    head = sample > sample.mean() if background is None else sample != background
    xs = positions(head, affine * [*steps, 1])[:, 0]
    if not xs.size:
        return None
    # Single bright voxels outside the head do not move the plane.
    low, high = np.percentile(xs, (0.5, 99.5))
    return float(low + high) / 2


def side_of(mask: Mask, affine: Affine, middle_mm: float) -> str | None:
    """Return the side of a region, None if it is empty: `left` or `right` of the patient, `midline` or `both`.

    At least `ONE_SIDE` of the volume is on one side; else a connected part crosses the middle plane (`midline`), or
    each part is on one side (`both`).
    """
    if not mask.any():
        return None
    side = _one_side(mask, affine, middle_mm)
    if side is not None:
        return side
    parts = [_one_side(part, shifted(affine, box), middle_mm) for box, part in components(mask)]
    return "midline" if None in parts else "both"


def _one_side(mask: Mask, affine: Affine, middle_mm: float) -> str | None:
    """Return the side of at least `ONE_SIDE` of the voxels, None if there is none."""
    xs = positions(mask, affine)[:, 0]
    left, right = int((xs < middle_mm).sum()), int((xs > middle_mm).sum())
    for name, count in (("left", left), ("right", right)):
        if count >= ONE_SIDE * (left + right) > 0:
            return name
    return None


def components(mask: Mask) -> Iterator[tuple[Box, Mask]]:
    """Yield the box of each connected component (26 neighbours) of a mask, and the component in its box."""
    from scipy.ndimage import find_objects, label

    if not mask.any():
        return
    whole = box_of(mask)
    numbers, _ = label(mask[whole], np.ones((3, 3, 3)))
    for number, inner in enumerate(find_objects(numbers), start=1):
        x, y, z = (slice(i.start + w.start, i.stop + w.start) for i, w in zip(inner, whole, strict=True))
        yield (x, y, z), numbers[inner] == number


def without_small(classes: NDArray[np.uint8], voxel_ml: float, smallest_ml: float) -> NDArray[np.uint8]:
    """Return a label map (X, Y, Z) without the tumours, connected components of WT, below `smallest_ml` millilitres.

    The largest tumour always stays.
    """
    tumours = sorted(components(classes > 0), key=lambda found: -np.count_nonzero(found[1]))
    kept = classes.copy()
    for box, part in tumours[1:]:
        if np.count_nonzero(part) * voxel_ml < smallest_ml:
            kept[box][part] = 0
    return kept


def box_of(mask: Mask) -> Box:
    """Return the box around a mask, the first voxel for an empty mask."""
    if not mask.any():
        return slice(0, 1), slice(0, 1), slice(0, 1)
    sides = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        sides.append(slice(int(used[0]), int(used[-1]) + 1))
    return sides[0], sides[1], sides[2]


def shifted(affine: Affine, box: Box) -> Affine:
    """Return the affine of a box of a volume."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ np.array([side.start for side in box])
    return moved


def _rounded(points: tuple[tuple[float, ...], ...]) -> list[list[float]]:
    return [[round(mm, 2) for mm in point] for point in points]


def positions(mask: Mask, affine: Affine) -> NDArray[np.float64]:
    """Return the world coordinates of the voxels of a mask, (N, 3) mm."""
    found: NDArray[np.float64] = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    return found
