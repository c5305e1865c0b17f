"""Deformation: where each voxel of a volume lies in the template, head position, individual shape and mass effect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from anymri.synthesis.realistic.outline import HALF_EXTENT, MIDDLE
from anymri.synthesis.realistic.space import Floats, Space, smooth_field

ROTATION_DEGREES = (8.0, 5.0, 5.0)  # largest nod, tilt and turn of the head
COARSE_BUMP_MM, COARSE_WARP_MM = 42.0, (1.0, 3.5)
FINE_BUMP_MM, FINE_WARP_MM = 17.0, (0.3, 1.6)
SEARCH_MM = 4.0  # grid on which a position is looked up


@dataclass(frozen=True, eq=False)
class Deformation:
    """Position of the voxels of a volume in the template.

    linear    (3, 3) template millimetres per millimetre of the volume
    template  (3, X, Y, Z) template position of each voxel, in millimetres
    """

    linear: Floats
    template: Floats


def draw_deformation(rng: Generator, space: Space) -> Deformation:
    """Return a head position, size and individual shape.

    Scale 0.88 to 1.04 with 4 % standard deviation per axis, rotation within `ROTATION_DEGREES`, shear of 3 % standard
    deviation, shift within 5 mm, a smooth warp of 1 to 3.5 mm and a finer one of 0.3 to 1.6 mm. Half of the brains are
    mirrored.
    """
    size = rng.uniform(0.88, 1.04) * np.clip(rng.normal(1, 0.04, 3), 0.92, 1.07)
    shear = np.eye(3) + np.triu(rng.normal(0, 0.03, (3, 3)), 1)
    linear = (np.diag(1 / size) @ _rotation(rng) @ shear).astype(np.float32)
    if rng.random() < 0.5:
        linear[0] *= -1
    shift = rng.uniform(-5, 5, 3).astype(np.float32)
    coarse, fine = np.float32(rng.uniform(*COARSE_WARP_MM)), np.float32(rng.uniform(*FINE_WARP_MM))
    x, y, z = (line - offset for line, offset in zip(space.lines(), shift, strict=True))
    template = np.empty((3, *space.shape), dtype=np.float32)
    for axis in range(3):
        position = linear[axis, 0] * x + linear[axis, 1] * y
        np.add(position, linear[axis, 2] * z, out=template[axis])
        template[axis] += np.float32(MIDDLE[axis])
        template[axis] += coarse * smooth_field(rng, space, COARSE_BUMP_MM)
        template[axis] += fine * smooth_field(rng, space, FINE_BUMP_MM)
    return Deformation(linear, template)


def _rotation(rng: Generator) -> Floats:
    matrix = np.eye(3)
    for axis, largest in enumerate(ROTATION_DEGREES):
        angle = np.radians(rng.uniform(-largest, largest))
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix.astype(np.float32)


def locate(deformation: Deformation, space: Space, target: Floats) -> Floats:
    """Return the position (3,) in the volume, in millimetres, of a template position (3,), within about 1 mm."""
    step = max(1, round(SEARCH_MM / space.spacing))
    some = deformation.template[:, ::step, ::step, ::step]
    gap = np.square(some - target[:, None, None, None]).sum(0)
    i, j, k = np.unravel_index(int(gap.argmin()), gap.shape)
    x, y, z = space.lines()
    nearest = np.array([x[i * step, 0, 0], y[0, j * step, 0], z[0, 0, k * step]])
    remaining = np.linalg.solve(deformation.linear, target - some[:, i, j, k])
    return np.asarray(nearest + remaining, dtype=np.float32)


def push(deformation: Deformation, space: Space, centre: Floats, radius_mm: float, shift_mm: float) -> None:
    """Move the tissue around a growing tumour outwards, in place: mass effect.

    The shift is `shift_mm` at `radius_mm` from the centre, falls to both sides, and vanishes at the skull, which does
    not give way.
    """
    reach = 3 * radius_mm
    lines = space.lines()
    near = [np.flatnonzero(np.abs(line.ravel() - middle) < reach) for line, middle in zip(lines, centre, strict=True)]
    if not all(map(len, near)):
        return  # the tumour is outside of a small grid
    box = tuple(slice(int(inside[0]), int(inside[-1]) + 1) for inside in near)
    offsets = [
        line.ravel()[part].reshape([-1 if axis == i else 1 for i in range(3)]) - centre[axis]
        for axis, (line, part) in enumerate(zip(lines, box, strict=True))
    ]
    distance = np.sqrt(offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2) * np.float32(1 / radius_mm)
    # Tissue inside the radius came from the middle: it is stretched, never folded while the shift is below the radius.
    profile = np.float32(shift_mm / radius_mm) * np.exp(np.float32(0.5) * (1 - distance * distance))
    part = deformation.template[(slice(None), *box)]
    level = sum(((part[axis] - np.float32(MIDDLE[axis])) * np.float32(1 / HALF_EXTENT[axis])) ** 2 for axis in range(3))
    profile *= np.clip((1 - level) * np.float32(2), 0, 1)
    for axis in range(3):
        motion = sum(deformation.linear[axis, i] * offsets[i] for i in range(3))
        part[axis] -= profile * motion
