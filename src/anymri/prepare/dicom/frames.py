"""Frames, the single slices of series, and how a series is divided into volumes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import methodcaller
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anymri.prepare.dicom.headers import Header, frame_numbers, frame_text

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Slices nearer than this along their normal are at one position.
SAME_POSITION_MM = 0.01
# Largest difference of direction cosines in one volume: 0.06 degrees.
_SAME_DIRECTION = 1e-3
_MOST_FRAMES = 50_000
# Radial localisers have some tens; comparing every slice with thousands would take hours.
_MOST_DIRECTIONS = 100
# What the volumes of one series differ in, in the order in which it is tried.
_DIFFERENCES = (
    "EchoTime",
    "ImageType",
    "TemporalPositionIdentifier",
    "DiffusionBValue",
    "InversionTime",
    "StackID",
    "AcquisitionNumber",
    "TriggerTime",
    "FlipAngle",
)


class RefusedError(Exception):
    """A series or volume that cannot be used; the text is the reason, as the end of a sentence."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One slice.

    header       its file
    index        number from 0 of the frame in the file
    position     (3,) LPS mm: centre of the first voxel
    orientation  (6,) directions of the rows (growing column) and of the columns (growing row), LPS
    spacing_mm   distance of the columns, distance of the rows
    size         columns, rows
    """

    header: Header
    index: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing_mm: tuple[float, float]
    size: tuple[int, int]

    @property
    def dataset(self) -> Dataset:
        """The header of the file."""
        return self.header.dataset

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector (3,), right-handed with the directions of rows and columns."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return normal / np.linalg.norm(normal)

    @property
    def height_mm(self) -> float:
        """Position along the normal."""
        return float(self.position @ self.normal)

    def text(self, keyword: str) -> str:
        """Return an element of the frame as text; empty if it is missing."""
        return frame_text(self.dataset, self.index, keyword)

    @property
    def seconds(self) -> float | None:
        """Time of acquisition since midnight; None if it is missing."""
        digits = self.text("AcquisitionTime")
        try:
            return int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + float(digits[4:])
        except ValueError:
            return None


def frames_of(header: Header) -> list[Frame]:
    """Return the slices of a file; raise `RefusedError` if its header does not state their position."""
    if not 0 < header.frames <= _MOST_FRAMES:
        raise RefusedError(f"its header states {header.frames} frames")
    return [_frame(header, index) for index in range(header.frames)]


def _frame(header: Header, index: int) -> Frame:
    dataset = header.dataset
    sizes = [frame_numbers(dataset, index, keyword, 1) for keyword in ("Columns", "Rows")]
    position = frame_numbers(dataset, index, "ImagePositionPatient", 3)
    orientation = frame_numbers(dataset, index, "ImageOrientationPatient", 6)
    spacing = frame_numbers(dataset, index, "PixelSpacing", 2)
    if sizes[0] is None or sizes[1] is None:
        raise RefusedError("its header does not state the size of the image")
    if position is None or orientation is None or spacing is None:
        raise RefusedError("its header does not state the position of the slices")
    rows, columns = orientation[:3], orientation[3:]
    lengths = float(np.linalg.norm(rows)), float(np.linalg.norm(columns))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(float(rows @ columns))) > 0.01:
        raise RefusedError("the directions of its rows and columns are not at right angles")
    orientation = np.concatenate([rows / lengths[0], columns / lengths[1]])
    return Frame(
        header,
        index,
        position,
        orientation,
        (float(spacing[1]), float(spacing[0])),
        (int(sizes[0][0]), int(sizes[1][0])),
    )


def volumes_of(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Divide the slices of a series into volumes: by size, spacing and orientation, then wherever positions coincide.

    Where slices are at one position, they are divided by echo, image type, temporal position, diffusion weighting or
    another element that gives volumes of equal size, or else by time. Slices at one position that remain in a volume
    differ in none of these. The order of the volumes is that of their first slices.
    """
    volumes: list[list[Frame]] = []
    for one_size in _divided(frames, _size_of):
        for parallel in _parallel(one_size):
            volumes.extend(_without_coincidence(parallel))
    return volumes


def _size_of(frame: Frame) -> Hashable:
    across, down = frame.spacing_mm
    return frame.size, round(across, 3), round(down, 3)


def _divided(frames: Iterable[Frame], key: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    found: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        found[key(frame)].append(frame)
    return list(found.values())


def _parallel(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Divide frames by orientation; raise `RefusedError` for more orientations than any series has."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            if np.abs(frame.orientation - group[0].orientation).max() < _SAME_DIRECTION:
                group.append(frame)
                break
        else:
            groups.append([frame])
        if len(groups) > _MOST_DIRECTIONS:
            raise RefusedError(f"its slices have more than {_MOST_DIRECTIONS} orientations")
    return groups


def positions_of(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Return the frames in the order of their positions along the normal, those at one position together."""
    normal = frames[0].normal
    heights = [(float(frame.position @ normal), place) for place, frame in enumerate(frames)]
    groups: list[list[Frame]] = []
    before = -float("inf")
    for height, place in sorted(heights):
        if height - before < SAME_POSITION_MM:
            groups[-1].append(frames[place])
        else:
            groups.append([frames[place]])
        before = height
    return groups


def _without_coincidence(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Divide parallel frames until no two of a volume are at one position, as far as an element distinguishes them."""
    positions = positions_of(frames)
    if len(positions) == len(frames):
        return [list(frames)]
    for keyword in _DIFFERENCES:
        groups = _divided(frames, methodcaller("text", keyword))
        if _are_volumes(groups):
            return [volume for group in groups for volume in _without_coincidence(group)]
    return _by_time(positions) or [list(frames)]


def _are_volumes(groups: Sequence[Sequence[Frame]]) -> bool:
    """Return whether each of several groups may be a volume: they have one size, or no position twice."""
    sizes = {len(group) for group in groups}
    if len(groups) < 2 or min(sizes) < 2:
        return False
    return len(sizes) == 1 or all(len(positions_of(group)) == len(group) for group in groups)


def _by_time(positions: Sequence[Sequence[Frame]]) -> list[list[Frame]]:
    """Return the volumes that were acquired one after the other; nothing if their times overlap or are unknown."""
    counts = {len(group) for group in positions}
    if len(counts) > 1 or any(frame.seconds is None for group in positions for frame in group):
        return []
    ordered = [sorted(group, key=lambda frame: frame.seconds or 0.0) for group in positions]
    volumes = [list(volume) for volume in zip(*ordered, strict=True)]
    times = [[frame.seconds or 0.0 for frame in volume] for volume in volumes]
    return volumes if all(max(first) < min(second) for first, second in pairwise(times)) else []
