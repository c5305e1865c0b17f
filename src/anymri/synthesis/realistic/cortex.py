"""Cortex: folds of the hemispheres, fissures, and the leaves of the cerebellum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.ndimage import map_coordinates

from anymri.synthesis.realistic.shapes import FAR_MM, Points
from anymri.synthesis.realistic.space import Floats

# Sulci are sheets towards the middle of a hemisphere: zeros of a random field on a sphere around it.
HEMISPHERE = (27.0, -18.0, 10.0)
HEMISPHERE_AXES = (42.0, 84.0, 56.0)
SPHERE_MM = 60.0
CELLS = 48
CELL_MM = 3.0
CALLOSUM = (-4.0, 3.0, 35.0, 26.0)  # y and z of the middle and semi-axes of the arch above which the fissure is open


@dataclass(frozen=True)
class Folds:
    """Folding of the cortex of one case.

    sheets      (48, 48, 48) signed distance to the nearest sulcus on the sphere of folding, in millimetres
    depth_mm    mean depth of the sulci, 9 to 15
    width_mm    half width of the sulci at the surface, -0.3 (young: closed) to 1.5 (atrophy)
    fissure_mm  half width of the fissures
    phase       (3,) phases of the variation of the depth over the brain
    """

    sheets: Floats
    depth_mm: float
    width_mm: float
    fissure_mm: float
    phase: tuple[float, float, float]


def draw_folds(rng: Generator, width_mm: float) -> Folds:
    """Return folds of a wavelength of 20 to 27 mm, two sulci per wave."""
    wavelength = rng.uniform(20, 27) / CELL_MM
    frequency = np.fft.fftfreq(CELLS).astype(np.float32) ** 2
    radius = np.sqrt(frequency[:, None, None] + frequency[None, :, None] + frequency[None, None, : CELLS // 2 + 1])
    band = np.exp(-0.5 * ((radius * np.float32(wavelength) - 1) / 0.28) ** 2)
    noise = rng.standard_normal((2, *band.shape), dtype=np.float32)
    wave = np.fft.irfftn((noise[0] + 1j * noise[1]) * band, s=(CELLS,) * 3, axes=(0, 1, 2)).astype(np.float32)
    slope = np.sqrt(sum(np.square(np.roll(wave, -1, axis) - np.roll(wave, 1, axis)) for axis in range(3)))
    slope *= np.float32(0.5 / CELL_MM)
    sheets = wave / np.maximum(slope, 0.6 * slope.mean())
    phase = rng.uniform(0, 2 * np.pi, 3)
    return Folds(
        sheets=sheets.astype(np.float32),
        depth_mm=rng.uniform(9, 15),
        width_mm=width_mm,
        fissure_mm=rng.uniform(0.5, 1.0) + 0.8 * width_mm,
        phase=(float(phase[0]), float(phase[1]), float(phase[2])),
    )


def hemisphere_depth(points: Points, cerebrum: Floats, folds: Folds) -> Floats:
    """Return the depth (N,) under the surface of the hemispheres, negative outside and in the fissure, in millimetres.

    Below the arch of the corpus callosum, the hemispheres are one.
    """
    x, y, z = points
    middle_y, middle_z, semi_y, semi_z = CALLOSUM
    arch = np.sqrt(
        ((y - np.float32(middle_y)) * np.float32(1 / semi_y)) ** 2
        + ((z - np.float32(middle_z)) * np.float32(1 / semi_z)) ** 2
    )
    bridge = (1 - arch) * np.float32(semi_z)
    medial = np.maximum(x - np.float32(folds.fissure_mm), bridge)
    stem = np.float32(21) - np.sqrt(x * x + (y + 20) ** 2 * np.float32(0.5) + (z + 4) ** 2)  # joins the brainstem
    depth: Floats = np.maximum(np.minimum(-cerebrum, medial), stem)
    return depth


def cortical_distance(points: Points, left: Floats, depth: Floats, folds: Folds) -> Floats:
    """Return the distance (N,) from the cerebrospinal fluid around and between the folds, negative in it.

    points  x as |x|
    left    x with its sign, because the two sides have different folds
    """
    x, y, z = points
    a, b, c = folds.phase
    wave = np.sin(x * np.float32(1 / 11) + np.float32(a)) + np.sin(y * np.float32(1 / 14) + np.float32(b))
    wave += np.sin(z * np.float32(1 / 12) + np.float32(c))
    sulcus_depth = np.float32(folds.depth_mm) * (1 + np.float32(0.17) * wave)
    distance = depth.copy()
    outer = np.flatnonzero((depth < 26) & (depth > -3))
    if len(outer):
        sheet = _sheets((x[outer], y[outer], z[outer]), left[outer], folds)
        below = np.maximum(depth[outer] - sulcus_depth[outer], 0)
        sulcus = np.sqrt(sheet * sheet + below * below)
        opening = np.clip(1 - depth[outer] / (sulcus_depth[outer] * 1.2), 0.15, 1)
        sulcus -= np.float32(folds.width_mm) * opening
        distance[outer] = np.minimum(distance[outer], sulcus)
    np.minimum(distance, _lateral_fissure(points, folds), out=distance)
    return distance


def _sheets(points: Points, left: Floats, folds: Folds) -> Floats:
    x, y, z = points
    a, b, c = (np.float32(angle) for angle in folds.phase)
    bent = (  # without this, all sulci would be straight cuts towards the middle
        x + np.float32(2.5) * np.sin(y * np.float32(0.21) + z * np.float32(0.13) + a),
        y + np.float32(3.0) * np.sin(z * np.float32(0.23) + x * np.float32(0.15) + b),
        z + np.float32(2.5) * np.sin(x * np.float32(0.24) + y * np.float32(0.11) + c),
    )
    dx, dy, dz = (
        (line - np.float32(middle)) * np.float32(1 / axis)
        for line, middle, axis in zip(bent, HEMISPHERE, HEMISPHERE_AXES, strict=True)
    )
    level = np.sqrt(dx * dx + dy * dy + dz * dz) + np.float32(1e-3)
    scale = np.float32(SPHERE_MM / CELL_MM) / level
    side = np.where(left > 0, np.float32(0), np.float32(CELLS / 2))  # other cells of the same periodic field
    where = np.stack((dx * scale + side, dy * scale + side, dz * scale))
    # The sphere has one scale, the hemisphere three: distances along its surface differ by their ratio.
    stretch = level * np.float32(np.mean(HEMISPHERE_AXES) / SPHERE_MM)
    distance: Floats = np.abs(map_coordinates(folds.sheets, where, order=1, mode="grid-wrap")) * stretch
    # Near the middle of the hemisphere all sheets would meet.
    distance += np.float32(40) * np.maximum(np.float32(0.55) - level, 0)
    return distance


def _lateral_fissure(points: Points, folds: Folds) -> Floats:
    """Return the distance to the lateral (Sylvian) fissure and the fluid over the insula."""
    near = np.flatnonzero((points[0] > 24) & (points[1] > -60) & (points[1] < 42) & (np.abs(points[2] - 4) < 40))
    distance = np.full(points[0].shape, FAR_MM)
    if not len(near):
        return distance
    x, y, z = (line[near] for line in points)
    a, b, _ = folds.phase
    wave = np.sin(x * np.float32(0.19) + y * np.float32(0.12) + np.float32(a))
    wave += np.sin(y * np.float32(0.23) - z * np.float32(0.11) + np.float32(b))
    rise = z + np.float32(0.65) * (y - 2) + np.float32(0.25) * (x - 45) + np.float32(2.6) * wave - 1
    beyond = np.maximum(np.float32(36) - x, 0) + np.maximum(y - 20 - 2 * wave, 0) + np.maximum(-40 - y - 3 * wave, 0)
    sheet = np.sqrt((np.float32(0.8) * rise) ** 2 + beyond * beyond)
    opened = np.float32(0.6 * folds.fissure_mm) * (1 + np.clip((y + 15) / 30, 0, 1))
    curve = np.float32(37) + np.float32(0.008) * (y - 2) ** 2
    insula = np.sqrt(
        (x - curve) ** 2 + np.maximum(np.abs(rise - 1) - 8, 0) ** 2 + np.maximum(np.abs(y - 1) - 17, 0) ** 2
    )
    distance[near] = np.minimum(sheet - opened, insula - np.float32(0.8 * folds.fissure_mm))
    return distance


def cerebellar_distance(points: Points, depth: Floats) -> Floats:
    """Return the distance (N,) from the fluid between the leaves of the cerebellum, as if it were cortex."""
    x, y, z = points
    angle = np.arctan2(z + 34, -44 - y)
    leaves = np.sin(angle * np.float32(11) + x * np.float32(0.1)) + np.float32(0.5) * np.sin(angle * np.float32(23))
    distance: Floats = np.minimum(depth, depth * np.float32(0.36) + np.float32(1.3) * leaves)
    return distance
