"""A prepared case as if the patient lay differently in the scanner: rotated by some degrees, moved by half a voxel.

The network gets the same scans on another grid. How far a volume changes by that alone is a part of the uncertainty of
any difference between two volumes, because a patient never lies twice in the same way.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import Image
from anymri.data.preprocessing import background_value
from anymri.prepare.grid import Grid
from anymri.prepare.preparation import Preparation
from anymri.prepare.resampling import resample
from anymri.prepare.rigid import rotated
from anymri.prepare.steps import STUDY, Step

# Rotations about x, y and z; heads of one patient lie about so differently in two examinations.
ANGLES_DEGREES = (4.0, -3.0, 5.0)
SHIFT_VOXELS = 0.5
# Share of each side by which the grid grows, so that the corners of a rotated brain stay in it.
_GROWTH = 0.12


def repositioned(preparation: Preparation) -> Preparation:
    """Return a prepared case on a grid that is rotated and shifted.

    Its results are on the grids of its scans, as without it. Scans are interpolated linearly. What is outside the brain
    has the constant value that surrounds it, or 0.
    """
    study = preparation.study
    old = preparation.grids["prepared"]
    centre = old.corners_mm.mean(axis=0)
    shift = old.affine[:3, :3] @ np.full(3, SHIFT_VOXELS)
    new, transform = _grown(old), rotated(ANGLES_DEGREES, centre, centre + shift)
    brain = None
    if study.brain is not None:
        brain = resample(study.brain, old.affine, new, transform) >= 0.5
    images = {m: _moved(array, old, new, transform, brain) for m, array in study.images.items()}
    reference = Image(next(iter(images.values())), new.affine, study.reference.path)
    sentence = "The scans were interpolated as if the patient lay differently, to segment them again."
    step = Step(STUDY, "repositioning", sentence, {"angles_degrees": ANGLES_DEGREES, "shift_voxels": SHIFT_VOXELS})
    return replace(
        preparation,
        study=replace(study, images=images, affine=new.affine, brain=brain, reference=reference),
        transforms={modality: each @ transform for modality, each in preparation.transforms.items()},
        steps=(*preparation.steps, step),
    )


def _grown(grid: Grid) -> Grid:
    """Return a grid with a margin on all sides."""
    margins = [int(np.ceil(_GROWTH * side)) for side in grid.shape]
    affine = grid.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ margins
    x, y, z = (side + 2 * margin for side, margin in zip(grid.shape, margins, strict=True))
    return Grid((x, y, z), affine)


def _moved(
    array: NDArray[np.float32],
    old: Grid,
    new: Grid,
    transform: NDArray[np.float64],
    brain: NDArray[np.bool_] | None,
) -> NDArray[np.float32]:
    """Return a scan on the new grid.

    brain  mask on the new grid; without one, the voxels that differ from a constant background
    """
    constant = background_value(array)
    around = 0.0 if constant is None else constant
    values = resample(array, old.affine, new, transform, outside=around)
    if brain is None and constant is not None:
        brain = resample(array != constant, old.affine, new, transform) >= 0.5
    if brain is not None:
        values[~brain] = around
    return values
