"""Resampling of scans and label maps onto another grid, with an optional rigid or affine transform between them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.extras import need
from anymri.prepare.grid import Grid

Order = Literal["nearest", "linear", "cubic"]
IDENTITY = np.eye(4)
# A target that is coarser than the source by more than this factor is sampled from a smoothed source.
_COARSER = 1.5
# Standard deviation of a Gaussian whose full width at half maximum is one voxel.
_SIGMA_PER_VOXEL = 1 / np.sqrt(8 * np.log(2))
# Labels are interpolated where they are, with so many source voxels around.
_MARGIN = 3


def resample(
    array: NDArray[Any],
    affine: NDArray[np.float64],
    grid: Grid,
    transform: NDArray[np.float64] = IDENTITY,
    order: Order = "linear",
    outside: float = 0.0,
) -> NDArray[np.float32]:
    """Return a volume on another grid, (X, Y, Z) float32.

    array      (x, y, z) in any orientation
    affine     (4, 4): its voxel indices to RAS+ millimetres; axes may be oblique or sheared
    grid       the target
    transform  (4, 4): world of `grid` to world of `array`, RAS+ millimetres
    order      interpolation; "cubic" may exceed the range of the values
    outside    value of voxels whose centre is outside the voxels of `array`

    Where the target is coarser than the source by a factor above 1.5, the source is smoothed first, except for
    "nearest". The outer half of the outermost slices has the value of the slice, so that thick slices count in full.
    Raises `MissingExtraError` without SimpleITK.
    """
    mapping = _voxels_to_voxels(affine, grid, transform)
    source = np.asarray(array, dtype=np.float32)
    if order != "nearest":
        source = _smoothed(source, mapping)
    return _sampled(source, mapping, grid.shape, order, outside)


def resample_labels(
    classes: NDArray[np.uint8],
    affine: NDArray[np.float64],
    grid: Grid,
    transform: NDArray[np.float64] = IDENTITY,
) -> NDArray[np.uint8]:
    """Return a label map on another grid, (X, Y, Z) uint8; 0 outside the voxels of `classes`.

    Each class, 0 included, is interpolated linearly as a mask, and a voxel takes the class with the largest weight:
    no class appears between two others, as it would if the values were interpolated. Arguments are those of `resample`.
    Only the box around the labels is computed, one class at a time.
    """
    result = np.zeros(grid.shape, dtype=np.uint8)
    if not classes.any():
        return result
    found = ndimage.find_objects((classes > 0).view(np.uint8), max_label=1)[0]
    mapping = _voxels_to_voxels(affine, grid, transform)
    margin = _MARGIN + int(np.ceil(np.abs(mapping[:3, :3]).max()))
    source_box = [slice(max(side.start - margin, 0), side.stop + margin) for side in found]
    target_box = _target_box(source_box, mapping, classes.shape, grid.shape)
    part = classes[tuple(source_box)]
    mapping = _moved(mapping, source_box, target_box)
    shape = tuple(side.stop - side.start for side in target_box)
    if min(shape) == 0:
        return result
    best, labels = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.uint8)
    # Of equal weights the larger class wins, so that tumours are not systematically smaller.
    for value in np.unique(np.append(part, 0)):
        mask = _smoothed((part == value).astype(np.float32), mapping)
        # Outside the box, and so outside the scan, there is background alone.
        weight = _sampled(mask, mapping, shape, "linear", outside=float(value == 0))
        wins = weight >= best
        labels[wins], best[wins] = value, weight[wins]
    result[tuple(target_box)] = labels
    return result


def _voxels_to_voxels(affine: NDArray[np.float64], grid: Grid, transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix (4, 4) from voxel indices of the grid to those of the source."""
    mapping = np.linalg.solve(affine, transform @ grid.affine)
    rounded: NDArray[np.float64] = np.round(mapping, 7)  # so that the same voxels are exactly the same
    return rounded


def _smoothed(source: NDArray[np.float32], mapping: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the source without what is smaller than the voxels of the target."""
    steps = np.linalg.norm(mapping[:3, :3], axis=1)  # of target voxels along the axes of the source, in its voxels
    sigmas = [float(_SIGMA_PER_VOXEL * np.sqrt(step**2 - 1)) if step > _COARSER else 0.0 for step in steps]
    if not any(sigmas):
        return source
    smoothed: NDArray[np.float32] = ndimage.gaussian_filter(source, sigmas, mode="nearest", truncate=3)
    return smoothed


def _sampled(
    source: NDArray[np.float32], mapping: NDArray[np.float64], shape: tuple[int, ...], order: Order, outside: float
) -> NDArray[np.float32]:
    """Return the source at the positions to which `mapping` sends the voxel indices of an array of the given shape.

    SimpleITK works on voxel indices here, so that sheared and mirrored affines need no care. Its interpolators accept
    positions up to half a voxel beyond the outermost voxels.
    """
    need("prepare", "SimpleITK", purpose="Resampling scans")
    import SimpleITK

    if np.array_equal(mapping, np.rint(mapping)):
        order = "nearest"  # voxels on voxels keep their values exactly
    interpolator = {
        "nearest": SimpleITK.sitkNearestNeighbor,
        "linear": SimpleITK.sitkLinear,
        "cubic": SimpleITK.sitkBSpline,
    }[order]
    moves = SimpleITK.AffineTransform(3)
    moves.SetMatrix(mapping[:3, :3].ravel().tolist())
    moves.SetTranslation(mapping[:3, 3].tolist())
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetSize(list(shape))
    resampler.SetTransform(moves)
    resampler.SetInterpolator(interpolator)
    resampler.SetDefaultPixelValue(outside)
    resampler.SetOutputPixelType(SimpleITK.sitkFloat32)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(source.T))
    sampled: NDArray[np.float32] = SimpleITK.GetArrayFromImage(resampler.Execute(image))
    return np.ascontiguousarray(sampled.T)


def _target_box(
    source_box: list[slice], mapping: NDArray[np.float64], shape: tuple[int, ...], target: tuple[int, ...]
) -> list[slice]:
    """Return the box of the target that a box of the source can reach."""
    ends = [(side.start - 1, min(side.stop, length)) for side, length in zip(source_box, shape, strict=True)]
    corners = np.array([[*(ends[axis][end] for axis, end in enumerate(corner)), 1] for corner in np.ndindex(2, 2, 2)])
    reached = corners @ np.linalg.inv(mapping).T[:, :3]
    low = np.clip(np.floor(reached.min(axis=0)), 0, target).astype(int).tolist()
    high = np.clip(np.ceil(reached.max(axis=0)) + 1, 0, target).astype(int).tolist()
    return [slice(start, stop) for start, stop in zip(low, high, strict=True)]


def _moved(mapping: NDArray[np.float64], source_box: list[slice], target_box: list[slice]) -> NDArray[np.float64]:
    """Return the mapping between the voxel indices inside the two boxes."""
    moved = mapping.copy()
    moved[:3, 3] += mapping[:3, :3] @ [side.start for side in target_box] - [side.start for side in source_box]
    return moved
