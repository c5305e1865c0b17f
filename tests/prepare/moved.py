"""Scans that are moved by a known rigid transform, with other contrast, coil sensitivity, noise and slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from anymri.data.image import Image
from anymri.prepare.grid import Grid, study_grid
from anymri.prepare.resampling import resample
from anymri.prepare.rigid import rotated


def lps_affine(shape, spacing=(1.0, 1.0, 1.0)):
    """Return the affine of an LPS volume whose middle is the world's origin."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def as_image(array, spacing=(1.0, 1.0, 1.0), name="scan"):
    """Return an array as a scan in LPS around the world's origin."""
    return Image(np.asarray(array, dtype=np.float32), lps_affine(array.shape, spacing), Path(f"{name}.nii.gz"))


def moved(image, angles_degrees, shift_mm, spacing=(1.0, 1.0, 1.0)):
    """Return a stripped scan of the moved head on an LPS grid, and the truth: world before to world after."""
    grid = study_grid(image)
    middle = grid.corners_mm.mean(axis=0)
    truth = rotated(angles_degrees, middle, middle + shift_mm)
    shape = tuple(int(np.ceil(1.15 * side / step)) for side, step in zip(grid.shape, spacing, strict=True))
    affine = lps_affine(shape, spacing)
    affine[:3, 3] += middle
    target = Grid(shape, affine)
    array = resample(image.array, image.affine, target, np.linalg.inv(truth))
    brain = resample(image.array != 0, image.affine, target, np.linalg.inv(truth)) > 0.5
    return Image(array * brain, affine, image.path), truth


def worn(image, rng, bias=0.15, noise=0.03):
    """Return a stripped scan with a smooth coil sensitivity and noise; both are relative to the mean brightness."""
    knots = ndimage.zoom(rng.standard_normal((4, 4, 4)), 3, order=3, mode="nearest")
    steps = np.diag([*((np.array(image.shape) / knots.shape).tolist()), 1.0])
    field = np.exp(resample(bias * knots / knots.std(), steps, Grid(image.shape, np.eye(4)), outside=0.0))
    brain = image.array != 0
    level = image.array[brain].mean()
    array = image.array * field + noise * level * rng.standard_normal(image.shape, dtype=np.float32)
    return Image((np.where(brain, np.maximum(array, 1e-3 * level), 0)).astype(np.float32), image.affine, image.path)


def cropped(image):
    """Return a stripped scan without the slices around the brain."""
    box = ndimage.find_objects((image.array != 0).astype(np.uint8))[0]
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return Image(image.array[box], affine, image.path)


def other_contrast(image):
    """Return a stripped scan in which dark tissue is bright and the other way round, as from T1 to T2."""
    brain = image.array != 0
    high = np.percentile(image.array[brain], 99.5)
    bright = np.clip(image.array / high, 0, 1)
    return Image(np.where(brain, 1.2 - bright + 0.3 * bright**2, 0).astype(np.float32), image.affine, image.path)


def error_mm(transform, truth, image):
    """Return the largest distance between the places to which two transforms send the edge of a stripped brain."""
    brain = image.array != 0
    edge = np.argwhere(brain & ~ndimage.binary_erosion(brain))[::20] @ image.affine[:3, :3].T + image.affine[:3, 3]
    difference = transform - truth
    return float(np.linalg.norm(edge @ difference[:3, :3].T + difference[:3, 3], axis=1).max())
