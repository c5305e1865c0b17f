"""Rigid registration of one scan to another of the same patient, with checks that decide whether it is used."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.image import Image
from anymri.extras import need
from anymri.prepare.brain import find_brain
from anymri.prepare.grid import Grid
from anymri.prepare.resampling import resample
from anymri.prepare.rigid import Aligner, Scan, Transform, pyramid, rotated

# Rotations of the starts about each axis, in degrees; the search reaches about as far again.
_START_ANGLES = (-16.0, 0.0, 16.0)
_MOST_STARTS = 4
# Displacements at the brain's edge below which the headers are as good as the registration.
_NOISE_MM = 0.75
# With a smaller relative gain of mutual information, the headers are kept up to the second displacement.
_NOISE_GAIN, _SMALL_MM = 0.02, 2.0
# Limits of acceptance.
_SMALLEST_OVERLAP = 0.85
_LARGEST_RESIDUAL_MM = 1.0
_SMALLEST_PEAK = 0.1
# Displacement of the transforms to which the result is compared.
_NEARBY_MM = 6.0
_SMALLEST_SHARE = 0.3  # of the fixed brain in the other scan
# Mutual information with a mirrored scan over that without: above 1.16 if one is mirrored, below 0.86 if not.
_MIRRORED = 1.05
_LEAST_VALUE = 1e-6  # of mutual information, to divide by
_RADIUS_MM = 70.0


@dataclass(frozen=True, eq=False)
class Registration:
    """A rigid transform between two scans, with the checks that it passed or not.

    transform       (4, 4): world of the fixed scan to world of the moving scan, RAS+ millimetres
    overlap         Dice of the two brain masks after the registration, where both scans have voxels
    overlap_before  the same by the headers alone
    residual_mm     estimated error at the brain's edge: distance of two estimates from different starts and voxels
    edge_mm         95th percentile of the distance between the edges of the two brain masks; brain masks of different
                    sequences differ by 2 to 4 mm where the scans are aligned
    shift_mm        displacement of the centre of the fixed brain
    angle_degrees   angle of the rotation
    accepted        whether the checks are passed
    reason          what decides, one sentence
    """

    transform: NDArray[np.float64]
    overlap: float
    overlap_before: float
    residual_mm: float
    edge_mm: float
    shift_mm: float
    angle_degrees: float
    accepted: bool
    reason: str


def register(
    moving: Image,
    fixed: Image,
    moving_brain: NDArray[np.bool_] | None = None,
    fixed_brain: NDArray[np.bool_] | None = None,
) -> Registration:
    """Return the rigid transform that brings `moving` onto `fixed`, two scans of one patient with any contrasts.

    The brain masks are on the grids of the scans, in the orientation of their files; by default `find_brain` finds
    them. Several starts are refined by mutual information at 8, 4 and 2 mm. If the result is as near to the headers as
    registrations of aligned scans are, the transform is the identity. The same input gives the same result.
    Raises `MissingExtraError` without SimpleITK.
    """
    need("prepare", "SimpleITK", purpose="Registration")
    still = pyramid(fixed, find_brain(fixed).mask if fixed_brain is None else fixed_brain)
    other = pyramid(moving, find_brain(moving).mask if moving_brain is None else moving_brain)
    edge = _edge_points(still[1])
    coarse, middle, finest = (Aligner(still, other, level) for level in range(3))
    found = _search(coarse, middle, still[1].centre_mm, other[1].centre_mm)
    first, second = (finest.refine(start, seed) for seed, start in enumerate(found, start=1))
    residual = displacement_mm(first, second, edge)
    peak = max(finest.value(first), _LEAST_VALUE)
    gain = 1 - finest.value(np.eye(4)) / peak
    moved = displacement_mm(first, np.eye(4), edge)
    kept = moved < _NOISE_MM or (moved < _SMALL_MM and gain < _NOISE_GAIN)
    transform = np.eye(4) if kept else first
    overlap, edge_mm, share = _overlap(still[2], other[2], transform)
    before, _, _ = _overlap(still[2], other[2], np.eye(4))
    centre = still[2].centre_mm
    sharpness = 1 - max(finest.value(near) for near in _nearby(first, centre)) / peak
    problem = _mirror_problem(middle, still, other, found[0]) or _problem(share, overlap, residual, sharpness)
    shift = float(np.linalg.norm(transform[:3, :3] @ centre + transform[:3, 3] - centre))
    angle = float(np.degrees(np.arccos(np.clip((np.trace(transform[:3, :3]) - 1) / 2, -1, 1))))
    reason = problem or _success(kept, shift, angle)
    return Registration(transform, overlap, before, residual, edge_mm, shift, angle, problem is None, reason)


def displacement_mm(first: Transform, second: Transform, points: NDArray[np.float64]) -> float:
    """Return the 95th percentile of the distance between the images of points (N, 3) under two transforms."""
    apart = points @ (first - second)[:3, :3].T + (first - second)[:3, 3]
    return float(np.percentile(np.linalg.norm(apart, axis=1), 95))


def _search(
    coarse: Aligner, middle: Aligner, fixed_mm: NDArray[np.float64], moving_mm: NDArray[np.float64]
) -> tuple[Transform, Transform]:
    """Return the two best results at 4 mm: of different starts, at the same place if the search is sure.

    fixed_mm, moving_mm  centres of the brains
    """
    turned = [rotated(angles, fixed_mm, moving_mm) for angles in itertools.product(_START_ANGLES, repeat=3)]
    best = sorted(turned, key=coarse.value, reverse=True)[: _MOST_STARTS - 2]
    starts = [np.eye(4), rotated((0, 0, 0), fixed_mm, moving_mm), *best]
    refined = [middle.refine(coarse.refine(start)) for start in starts]
    values = [middle.value(transform) for transform in refined]
    order = np.argsort(values)[::-1].tolist()
    return refined[order[0]], refined[order[1]]


def _mirror_problem(middle: Aligner, fixed: Sequence[Scan], moving: Sequence[Scan], transform: Transform) -> str | None:
    """Return a sentence if the moving scan agrees better with the fixed one when left and right are exchanged in it.

    transform  the best one at 4 mm
    """
    here, there = fixed[1], moving[1]
    turned = [replace(scan, array=scan.array[::-1], brain=scan.brain[::-1]) for scan in moving]
    aligner = Aligner(fixed, turned, 1)
    middle_mm = there.grid.affine[:3] @ [*((np.array(there.grid.shape) - 1) / 2), 1]
    # The moving scan, mirrored at the middle of the fixed brain: both reflections together are rigid.
    start = _reflection(there.grid, middle_mm) @ transform @ _reflection(here.grid, here.centre_mm)
    if aligner.value(aligner.refine(start)) < _MIRRORED * middle.value(transform):
        return None
    return (
        "The scans agree better if left and right are exchanged in one of them: its header or its voxels are mirrored."
    )


def _reflection(grid: Grid, point_mm: NDArray[np.float64]) -> Transform:
    """Return the reflection (4, 4) at the plane through a point across the first axis of a grid."""
    axis = grid.affine[:3, 0] / np.linalg.norm(grid.affine[:3, 0])
    reflection = np.eye(4)
    reflection[:3, :3] -= 2 * np.outer(axis, axis)
    reflection[:3, 3] = 2 * axis * float(axis @ point_mm)
    return reflection


def _nearby(transform: Transform, centre: NDArray[np.float64]) -> list[Transform]:
    """Return the transform after shifts and rotations of the fixed brain by `_NEARBY_MM` at its edge."""
    angle = float(np.degrees(_NEARBY_MM / _RADIUS_MM))
    moves = []
    for axis, sign in itertools.product(np.eye(3), (-1, 1)):
        moves.append(transform @ rotated((0, 0, 0), centre, centre + sign * _NEARBY_MM * axis))
        moves.append(transform @ rotated(tuple(sign * angle * axis), centre, centre))
    return moves


def _edge_points(scan: Scan) -> NDArray[np.float64]:
    """Return the world coordinates (N, 3) of the voxels at the brain's edge."""
    brain = scan.brain > 0.5
    points = np.argwhere(brain & ~ndimage.binary_erosion(brain))
    world: NDArray[np.float64] = points @ scan.grid.affine[:3, :3].T + scan.grid.affine[:3, 3]
    return world


def _overlap(fixed: Scan, moving: Scan, transform: Transform) -> tuple[float, float, float]:
    """Return the Dice of two brains, the 95th percentile of the distance of their edges in mm, and the common share.

    Dice and distance count where both scans have voxels, which is the common share of the fixed brain.
    """
    covered = resample(np.ones(moving.brain.shape), moving.grid.affine, fixed.grid, transform) > 0.5
    one = (fixed.brain > 0.5) & covered
    other = resample(moving.brain, moving.grid.affine, fixed.grid, transform) > 0.5
    share = float(np.count_nonzero(one) / np.count_nonzero(fixed.brain > 0.5))
    if not one.any() or not other.any():
        return 0.0, float("inf"), share
    dice = 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))
    edges = [mask & ~ndimage.binary_erosion(mask, border_value=1) & covered for mask in (one, other)]
    to_edge = [ndimage.distance_transform_edt(~edge, sampling=fixed.grid.spacing_mm) for edge in edges]
    distances = np.concatenate([to_edge[1][edges[0]], to_edge[0][edges[1]]])
    return float(dice), float(np.percentile(distances, 95)) if distances.size else float("inf"), share


def _problem(share: float, overlap: float, residual_mm: float, sharpness: float) -> str | None:
    """Return why a registration is not accepted, or None."""
    if share < _SMALLEST_SHARE:
        return f"Only {100 * share:.0f} % of the brain in one scan is in the other, too little to align them."
    if overlap < _SMALLEST_OVERLAP:
        return (
            f"The brains overlap by {overlap:.2f} after registration, less than {_SMALLEST_OVERLAP}: the scans may be "
            "of two patients, or a brain mask is wrong."
        )
    if residual_mm > _LARGEST_RESIDUAL_MM:
        return (
            f"Two estimates of the position differ by {residual_mm:.1f} mm at the brain's edge: the scans may be of "
            "two patients, or show too little that both contrasts have."
        )
    if sharpness < _SMALLEST_PEAK:
        return (
            f"The scans agree nearly as well when one is moved by {_NEARBY_MM:.0f} mm: they may be of two patients, or "
            "show too little that both contrasts have."
        )
    return None


def _success(kept: bool, shift_mm: float, angle_degrees: float) -> str:
    if kept:
        return "The scans are aligned by their headers."
    return f"The scan is moved by {shift_mm:.1f} mm and {angle_degrees:.1f} degrees."
