"""Largest axial diameters of a lesion, as radiologists measure them by the RANO criteria.

The rule is that of Macdonald et al. (1990) and of RANO (Wen et al., Journal of Clinical Oncology 28, 2010): the longest
diameter of the lesion in one axial slice, and the longest one perpendicular to it in the same slice; their product
stands for the size of the lesion. A lesion is measurable if both are at least 10 mm and it is visible on two slices or
more; with slices thicker than 5 mm, both are at least twice the distance of the slices.

The outline of a mask in a slice is where the mask, interpolated linearly between the centres of voxels, is one half: it
runs half-way between a voxel inside and its neighbour outside, so that a row of n voxels is n voxels long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
# Both ends of a line, RAS+ millimetres.
Ends = tuple[tuple[float, ...], tuple[float, ...]]

MEASURABLE_MM, THICK_SLICE_MM = 10.0, 5.0

_ROUNDING = 1e-6
_HALF = 0.5 - _ROUNDING
_LINES_AT_ONCE = 256
# Points of the outline in one slice; every pair is a line. Only masks of brain size and with many holes have more.
_MOST_POINTS = 2000
# Places on a line that are examined first, as shares of its length.
_PROBES = (1 / 2, 1 / 4, 3 / 4, 1 / 8, 3 / 8, 5 / 8, 7 / 8)
# Voxels between two samples: of a line that may leave the mask, of the places of chords, and along a chord.
_LINE_STEP, _PLACE_STEP, _CHORD_STEP = 0.5, 0.25, 0.05


@dataclass(frozen=True)
class Diameters:
    """The longest diameter of a lesion in an axial slice, and the longest one perpendicular to it.

    slice_index            number of the slice along the stored axis nearest to the patient's feet-to-head axis, from 0
    longest_ends_mm        both ends of the longest diameter, RAS+ millimetres
    perpendicular_ends_mm  both ends of the perpendicular one, which crosses the longest
    """

    longest_mm: float
    perpendicular_mm: float
    slice_index: int
    longest_ends_mm: Ends
    perpendicular_ends_mm: Ends

    @property
    def product_mm2(self) -> float:
        """Product of both diameters."""
        return self.longest_mm * self.perpendicular_mm


def axial_axis(affine: NDArray[np.float64]) -> int:
    """Return the axis of an array that is nearest to the feet-to-head axis: 0, 1 or 2.

    affine  (4, 4): voxel indices to RAS+ millimetres
    """
    from nibabel.orientations import io_orientation

    return int(np.flatnonzero(io_orientation(affine)[:, 0] == 2)[0])


def slice_distance_mm(affine: NDArray[np.float64]) -> float:
    """Return the distance between neighbouring axial slices, also of sheared grids."""
    first, second = _in_plane(affine)
    return float(abs(np.linalg.det(affine[:3, :3])) / np.linalg.norm(np.cross(first, second)))


def axial_diameters(mask: Mask, affine: NDArray[np.float64], inside: Mask | None = None) -> Diameters | None:
    """Return the largest axial diameters of a lesion, None for an empty mask.

    mask    (X, Y, Z) voxels of one lesion, in any orientation
    affine  (4, 4): voxel indices to RAS+ millimetres; voxels may be anisotropic, oblique or sheared
    inside  (X, Y, Z) voxels that the lines may cross, by default those of the mask: the necrotic core of a ring

    Both ends of the longest diameter are on the outline of the mask, and the whole line is inside. The perpendicular
    one is exactly perpendicular and crosses the longest one. Of several slices, that with the longest diameter counts.
    """
    if not mask.any():
        return None
    from scipy.ndimage import find_objects

    (box,) = find_objects(mask.astype(np.uint8))
    axis, corner = axial_axis(affine), np.array([side.start for side in box], np.float64)
    crossed = mask[box] if inside is None else mask[box] | inside[box]
    steps = np.stack(_in_plane(affine), axis=1)
    slices = [
        _Slice(lesion, allowed, steps)
        for lesion, allowed in zip(np.moveaxis(mask[box], axis, 0), np.moveaxis(crossed, axis, 0), strict=True)
    ]
    bounds = [each.farthest() for each in slices]
    best: tuple[float, int, Points] | None = None
    for number in np.argsort(bounds)[::-1].tolist():
        if best is not None and bounds[number] <= best[0]:
            break
        found = slices[number].longest(0.0 if best is None else best[0])
        if found is not None:
            best = (found[0], number, found[1])
    assert best is not None  # the ends of a row of voxels are a diameter
    length, number, ends = best
    width, across = slices[number].perpendicular(ends)

    def in_mm(points: Points) -> Ends:
        voxels = np.insert(points, axis, number, axis=1) + corner
        start, end = (voxels @ affine[:3, :3].T + affine[:3, 3]).tolist()
        return tuple(start), tuple(end)

    return Diameters(length, width, number + int(corner[axis]), in_mm(ends), in_mm(across))


def is_measurable(diameters: Diameters, slices: int, distance_mm: float) -> bool:
    """Return whether a lesion is measurable by RANO.

    slices       number of axial slices that the lesion is visible on
    distance_mm  distance between neighbouring slices
    """
    least = MEASURABLE_MM if distance_mm <= THICK_SLICE_MM else 2 * distance_mm
    return slices >= 2 and diameters.longest_mm >= least and diameters.perpendicular_mm >= least


def _in_plane(affine: NDArray[np.float64]) -> tuple[Points, Points]:
    """Return the steps of both in-plane axes of axial slices in world coordinates, (3,) mm each."""
    axis = axial_axis(affine)
    first, second = (affine[:3, other] for other in range(3) if other != axis)
    return first, second


class _Slice:
    """One axial slice of a lesion: its mask, what lines may cross, and the metric of its voxels."""

    def __init__(self, mask: Mask, crossed: Mask, steps: Points) -> None:
        """Store a slice: masks (A, B) and the steps of its two axes, (3, 2) mm."""
        self.mask, self.crossed = mask, crossed
        # Distances and angles of voxel indices times this matrix are those in the patient.
        self.to_mm = np.linalg.cholesky(steps.T @ steps)
        self.to_voxels = np.linalg.inv(self.to_mm)
        self.smallest_mm = float(np.linalg.norm(steps, axis=0).min())
        self.outline = _outline(mask)

    def farthest(self) -> float:
        """Return the distance of the two points of the outline that are farthest apart, 0 for an empty slice."""
        from scipy.spatial.distance import pdist

        return float(pdist(self.outline @ self.to_mm).max()) if len(self.outline) else 0.0

    def longest(self, more_than: float) -> tuple[float, Points] | None:
        """Return the length in mm and the ends (2, 2) of the longest line inside; None if none exceeds `more_than`."""
        lengths, ends = self._candidates(more_than)
        for start in range(0, lengths.size, _LINES_AT_ONCE):
            part = slice(start, start + _LINES_AT_ONCE)
            allowed = np.flatnonzero(self._are_inside(ends[part], lengths[start]))
            if allowed.size:
                return float(lengths[part][allowed[0]]), ends[part][allowed[0]]
        return None

    def _candidates(self, more_than: float) -> tuple[Points, Points]:
        """Return lengths (N,) and ends (N, 2, 2) of lines between points of the outline, the longest ones first.

        Lines that leave what they may cross at a few places are not among them: of a ring, these are nearly all.
        """
        from scipy.spatial.distance import pdist

        lengths = pdist(self.outline @ self.to_mm)
        first, second = np.triu_indices(len(self.outline), 1)
        kept = np.flatnonzero(lengths > more_than)
        # True at the lower corner of every four voxels of which one may be crossed.
        padded = np.pad(self.crossed, 1)
        near = padded[:-1, :-1] | padded[1:, :-1] | padded[:-1, 1:] | padded[1:, 1:]
        for share in _PROBES:
            points = (1 - share) * self.outline[first[kept]] + share * self.outline[second[kept]]
            row, column = np.floor(points + 1 + _ROUNDING).astype(np.intp).T
            kept = kept[near[row, column]]
        order = kept[np.argsort(-lengths[kept], kind="stable")]
        return lengths[order], np.stack([self.outline[first[order]], self.outline[second[order]]], axis=1)

    def _are_inside(self, ends: Points, longest_mm: float) -> Mask:
        """Return which lines, ends (N, 2, 2), are inside at all of their samples: (N,) bool."""
        samples = int(np.ceil(longest_mm / (_LINE_STEP * self.smallest_mm))) + 1
        shares = np.linspace(0, 1, samples)[:, None, None]
        points = (1 - shares) * ends[:, 0] + shares * ends[:, 1]
        allowed: Mask = np.all(_values(self.crossed, points) >= _HALF, axis=0)
        return allowed

    def perpendicular(self, ends: Points) -> tuple[float, Points]:
        """Return the length in mm and the ends (2, 2) of the longest chord at right angles to a line (2, 2)."""
        start, end = ends @ self.to_mm
        length = float(np.linalg.norm(end - start))
        along = (end - start) / length
        across = np.array([-along[1], along[0]])
        reach = float(np.abs((self.outline @ self.to_mm - start) @ across).max()) + self.smallest_mm
        count = int(np.ceil(reach / (_CHORD_STEP * self.smallest_mm)))
        offsets = np.arange(-count, count + 1) * (_CHORD_STEP * self.smallest_mm)
        places = np.linspace(0, length, int(np.ceil(length / (_PLACE_STEP * self.smallest_mm))) + 1)
        points = (start + places[:, None, None] * along + offsets[:, None] * across) @ self.to_voxels
        inside, lesion = (_values(mask, points) >= _HALF for mask in (self.crossed, self.mask))
        # From the line outwards, until the chord leaves what it may cross; it ends where the lesion does.
        upper = np.logical_and.accumulate(inside[:, count:], axis=1) & lesion[:, count:]
        lower = np.logical_and.accumulate(inside[:, count::-1], axis=1) & lesion[:, count::-1]
        up, down = (_last(each) for each in (upper, lower))
        best = int(np.argmax(up + down))
        chord = points[best, [count - down[best], count + up[best]]]
        return float(offsets[count + up[best]] - offsets[count - down[best]]), chord


def _last(runs: Mask) -> NDArray[np.intp]:
    """Return the index of the last true value of each row, 0 for a row without any."""
    found: NDArray[np.intp] = np.where(runs.any(axis=1), runs.shape[1] - 1 - np.argmax(runs[:, ::-1], axis=1), 0)
    return found


def _values(mask: Mask, points: Points) -> Points:
    """Return a mask (A, B) interpolated linearly at points (..., 2) in voxels; 0 outside."""
    from scipy.ndimage import map_coordinates

    padded = np.pad(mask, 1).astype(np.float32)
    values: Points = map_coordinates(padded, np.moveaxis(points, -1, 0) + 1, order=1, output=np.float64)
    return values


def _outline(mask: Mask) -> Points:
    """Return the points half-way between a voxel inside a mask (A, B) and its neighbour outside, (N, 2) voxels.

    Of more than `_MOST_POINTS`, every second counts, or every third, and so on.
    """
    padded = np.pad(mask, 1)
    points = []
    for axis in range(2):
        changes = np.argwhere(np.diff(padded, axis=axis)).astype(np.float64) - 1
        changes[:, axis] += 0.5
        points.append(changes)
    found = np.concatenate(points)
    return found[:: -(-len(found) // _MOST_POINTS) or 1]
