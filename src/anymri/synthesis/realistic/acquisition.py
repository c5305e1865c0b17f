"""Acquisition: what scanners, patients and software do to a scan.

Blur, thick slices, misregistration, ghosts and motion are linear along each axis, so that one matrix per axis applies
all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from anymri.synthesis.realistic.space import Floats, Space, log_uniform, smooth_field

BLUR_MM = (0.2, 1.5)  # standard deviation
THICK_SLICES, SLICE_MM = 0.4, (3.0, 6.0)
MISREGISTRATION, SHIFT_MM = 0.08, (0.8, 3.0)
GHOST, GHOST_STRENGTH = 0.06, (0.03, 0.12)
MOTION, MOTION_MM = 0.05, (2.0, 5.0)
BIAS_BUMP_MM = 70.0
BIAS = (0.0, 0.22)  # standard deviation of the logarithm of the coil's sensitivity
RAMP = 0.2  # standard deviation of its change from bottom to top of the volume
SURFACE, SURFACE_DEPTH_MM = (-0.15, 0.4), 25.0  # change at the surface of the brain
NOISE = (0.004, 0.045)  # standard deviation relative to the range of the scan; log-uniform
SHARED_NOISE = (0.0, 1.0)  # of the noise of neighbouring slices, relative to their own
POOR, POOR_NOISE = 0.08, (0.045, 0.09)  # share and noise of scans of poor quality
GAMMA = 0.18  # standard deviation of the logarithm of the exponent
SCANNER_SCALE = (200.0, 2000.0)  # stored value of the brightest tissue; log-uniform


@dataclass(frozen=True)
class Acquisition:
    """Distortions of one scan.

    matrices      one per axis, (X, X), (Y, Y) and (Z, Z): blur, slices, shift, ghosts, motion
    bias          standard deviation of the logarithm of the coil's sensitivity
    ramp          change of that logarithm from bottom to top
    surface       change of that logarithm at the surface
    noise         standard deviation relative to the range
    shared_noise  part of the noise that neighbouring slices share, from interpolation
    gamma         exponent
    scale         stored value of the brightest tissue
    """

    matrices: tuple[Floats, Floats, Floats]
    bias: float
    ramp: float
    surface: float
    noise: float
    shared_noise: float
    gamma: float
    scale: float


def draw_acquisition(rng: Generator, space: Space) -> Acquisition:
    """Return the distortions of one scan."""
    blur = log_uniform(rng, *BLUR_MM)
    thick_axis = int(rng.choice(3, p=(0.15, 0.15, 0.7))) if rng.random() < THICK_SLICES else None
    slice_mm = rng.uniform(*SLICE_MM)
    shifts = rng.choice((-1, 1), 3) * rng.uniform(*SHIFT_MM) * rng.dirichlet(np.ones(3)) ** 0.5
    shifts = shifts * (rng.random() < MISREGISTRATION)
    ghost = rng.uniform(*GHOST_STRENGTH) * (rng.random() < GHOST)
    motion = rng.uniform(*MOTION_MM) * (rng.random() < MOTION)
    phase_axis = int(rng.integers(2))  # ghosts and motion appear along the phase-encoding axis, x or y
    matrices = []
    for axis, voxels in enumerate(space.shape):
        matrix = _blur(voxels, blur / space.spacing, shifts[axis] / space.spacing)
        if axis == thick_axis:
            matrix = _slices(voxels, slice_mm / space.spacing, rng.random()) @ matrix
        if axis == phase_axis:
            if motion:
                matrix = _moved(matrix, motion / space.spacing, rng)
            if ghost:
                distance = round(voxels / float(rng.choice((2, 3, 4))))
                matrix = (1 - ghost) * matrix + ghost * np.roll(matrix, distance, axis=0)
        matrices.append(matrix.astype(np.float32))
    return Acquisition(
        matrices=(matrices[0], matrices[1], matrices[2]),
        bias=rng.uniform(*BIAS),
        ramp=rng.normal(0, RAMP),
        surface=rng.uniform(*SURFACE),
        shared_noise=rng.uniform(*SHARED_NOISE),
        noise=log_uniform(rng, *(POOR_NOISE if rng.random() < POOR else NOISE)),
        gamma=float(np.exp(rng.normal(0, GAMMA))),
        scale=log_uniform(rng, *SCANNER_SCALE),
    )


def acquire(
    rng: Generator,
    acquisition: Acquisition,
    clean: Floats,
    kept: NDArray[np.intp],
    depth_mm: Floats,
    space: Space,
) -> Floats:
    """Return the stored values (K,) of a clean scan (X, Y, Z) at the voxels that the brain mask keeps, all above 0.

    kept      (K,) flat indices of these voxels
    depth_mm  (K,) their depth under the surface of the brain
    """
    for matrix in acquisition.matrices[::-1]:  # each pass filters the last axis and moves it to the front
        clean = np.moveaxis(clean, -1, 0)
        clean = (matrix @ clean.reshape(len(clean), -1)).reshape(clean.shape)
    value = clean.ravel()[kept]
    sensitivity = np.float32(acquisition.bias) * smooth_field(rng, space, BIAS_BUMP_MM).ravel()[kept]
    height = (kept % space.shape[2]).astype(np.float32) * np.float32(1 / space.shape[2])
    sensitivity += np.float32(acquisition.ramp) * (height - np.float32(0.5))
    sensitivity += np.float32(acquisition.surface) * np.clip(1 - depth_mm * np.float32(1 / SURFACE_DEPTH_MM), 0, 1)
    value *= np.exp(sensitivity)
    if len(value):
        value *= 1 / max(np.float32(np.percentile(value[::7], 99)), np.float32(1e-3))
    noise = rng.standard_normal((2, len(value)), dtype=np.float32)
    shared = np.float32(acquisition.shared_noise)
    noise[:, 1:] += shared * noise[:, :-1]  # neighbours along z follow each other
    noise *= np.float32(acquisition.noise) / np.sqrt(1 + shared * shared)
    value = np.hypot(value + noise[0], noise[1])  # magnitude image: Rician noise
    np.power(value, np.float32(acquisition.gamma), out=value)
    stored: Floats = np.maximum(value * np.float32(acquisition.scale), 1)
    return stored


def _blur(voxels: int, deviation: float, shift: float) -> Floats:
    """Return a Gaussian filter with its standard deviation and shift in voxels."""
    offset = np.arange(voxels)[:, None] - np.arange(voxels)[None, :] - shift
    # At least half a voxel, or else a shift by a fraction of a voxel would lose signal.
    width = max(deviation, 0.35 if abs(shift) > 0 else 0.15)
    matrix = np.exp(-0.5 * (offset / width) ** 2)
    matrix[np.arange(voxels), np.clip(np.round(np.arange(voxels) - shift), 0, voxels - 1).astype(int)] += 1e-6
    matrix /= matrix.sum(1, keepdims=True)
    return np.asarray(matrix, dtype=np.float32)


def _slices(voxels: int, thickness: float, start: float) -> Floats:
    """Return averaging over slices of `thickness` voxels, interpolated back linearly."""
    if thickness <= 1:
        return np.eye(voxels, dtype=np.float32)
    middles = np.arange(-start * thickness, voxels + thickness, thickness)
    line = np.arange(voxels)
    average = np.clip(0.5 * thickness + 0.5 - np.abs(line[None, :] - middles[:, None]), 0, 1)
    sums = average.sum(1)
    middles, average = middles[sums > 0], average[sums > 0] / sums[sums > 0, None]
    weights = np.clip(1 - np.abs(line[:, None] - middles[None, :]) / thickness, 0, 1)
    weights /= weights.sum(1, keepdims=True)
    return np.asarray(weights @ average, dtype=np.float32)


def _moved(matrix: Floats, distance: float, rng: Generator) -> Floats:
    """Return the average of a few positions of the head, within `distance` voxels."""
    weights = rng.dirichlet((6, 1, 1))
    moves = (0, *np.round(rng.uniform(-distance, distance, 2)).astype(int))
    moved: Floats = sum(weight * np.roll(matrix, move, axis=0) for weight, move in zip(weights, moves, strict=True))
    return moved
