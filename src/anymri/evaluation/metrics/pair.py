"""Two masks of one region, and the distances between their surfaces, computed once for all metrics."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from anymri.evaluation.metrics.axes import Axes
from anymri.evaluation.metrics.overlap import Mask
from anymri.evaluation.metrics.surface import Gap, sobel_surface, surfel_surface, voxel_surface

Box = tuple[slice, ...]


class Pair:
    """Pair of masks on one grid, cropped to the box around both; distances of their surfaces are computed once.

    prediction, truth  (X, Y, Z) bool
    axes               axes of the voxels, (3, 3) mm
    voxels             number of voxels of the whole image; by default that of the masks
    """

    def __init__(self, prediction: Mask, truth: Mask, axes: Axes, voxels: int | None = None) -> None:
        box = box_around(prediction | truth, margin=1)
        self.prediction, self.truth = prediction[box], truth[box]
        self.axes = axes
        self.voxels = voxels or prediction.size

    @cached_property
    def empty(self) -> tuple[bool, bool]:
        """Whether the prediction is empty, and whether the truth is."""
        return not self.prediction.any(), not self.truth.any()

    @cached_property
    def voxel_gap(self) -> Gap:
        """Distances between surfaces of voxels; needs two masks that are not empty."""
        return Gap.between(*(voxel_surface(mask, self.axes) for mask in (self.prediction, self.truth)))

    @cached_property
    def surfel_gap(self) -> Gap:
        """Distances between surfaces of surfels; needs two masks that are not empty."""
        return Gap.between(*(surfel_surface(mask, self.axes) for mask in (self.prediction, self.truth)))

    @cached_property
    def sobel_gap(self) -> Gap | None:
        """Distances between Sobel surfaces; None if a mask has none, because it is empty or fills its image."""
        surfaces = [sobel_surface(mask) for mask in (self.prediction, self.truth)]
        return Gap.between(*surfaces) if all(len(surface.points) for surface in surfaces) else None


def box_around(mask: Mask, margin: int) -> Box:
    """Return the box around a mask and `margin` voxels more per side, within the image; one voxel if it is empty."""
    box = []
    for axis, side in enumerate(mask.shape):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(occupied):
            return (slice(0, 1),) * mask.ndim
        first, last = int(occupied[0]), int(occupied[-1])
        box.append(slice(max(first - margin, 0), min(last + 1 + margin, side)))
        # The other axes are searched inside these bounds only.
        mask = mask[(slice(None),) * axis + (slice(first, last + 1),)]
    return tuple(box)
