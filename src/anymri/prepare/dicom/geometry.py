"""Slices in space: their order, gaps between them, and the affine of the volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymri.data.formats.checks import LONGEST_AXIS, MOST_VOXELS, geometry_fault
from anymri.prepare.dicom.frames import Frame, RefusedError, positions_of
from anymri.prepare.dicom.headers import numbers_of

# Gaps may differ by rounding of headers: by one percent of the distance of the slices, at least this.
_GAP_TOLERANCE, _GAP_TOLERANCE_MM = 0.01, 0.05
# A stack is called tilted if its slices shift by more than this share of their distance.
_TILTED = 0.01
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of a volume in geometric order.

    frames  the slices, in the direction of their normal
    affine  (4, 4): column, row and slice to RAS+ mm; with shear if the stack is tilted
    notes   ends of the sentence "series 5 ..." about repairs and geometry
    """

    frames: tuple[Frame, ...]
    affine: NDArray[np.float64]
    notes: tuple[str, ...]


def stack(frames: Sequence[Frame], same_pixels: Callable[[Frame, Frame], bool]) -> Stack:
    """Sort the slices of one volume by their position along the normal and return them with their affine.

    same_pixels  whether two slices at one position have the same pixels

    Raises `RefusedError` if a slice is missing, if gaps differ, or if slices at one position have different pixels.
    """
    ordered, notes = _without_doubles(positions_of(frames), same_pixels)
    points = np.array([frame.position for frame in ordered])
    normal = ordered[0].normal
    gaps = np.diff(points @ normal)
    _check_gaps(ordered, gaps)
    step = (points[-1] - points[0]) / (len(points) - 1)
    along = float(step @ normal)
    tolerance = _tolerance(along)
    straight = points[0] + np.arange(len(points))[:, None] * step
    bend = float(np.linalg.norm(points - straight, axis=1).max())
    if bend > tolerance:
        raise RefusedError(f"its slices are up to {bend:.2f} mm off a straight line")
    shift = float(np.linalg.norm(step - along * normal))
    if shift > _TILTED * along:
        angle = np.degrees(np.arctan2(shift, along))
        notes.append(
            f"is tilted by {angle:.1f} degrees: each slice is shifted by {shift:.2f} mm against the one before"
        )
    affine = _affine(ordered[0], points[0], step)
    _check(ordered, affine)
    return Stack(tuple(ordered), affine, tuple(notes))


def _affine(first: Frame, origin: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
    lps = np.eye(4)
    lps[:3, 0] = first.orientation[:3] * first.spacing_mm[0]
    lps[:3, 1] = first.orientation[3:] * first.spacing_mm[1]
    lps[:3, 2], lps[:3, 3] = step, origin
    return _LPS_TO_RAS @ lps


def _check(frames: Sequence[Frame], affine: NDArray[np.float64]) -> None:
    """Raise `RefusedError` if a volume is larger than any scan, or its spacing or position not plausible."""
    fault = geometry_fault(affine)
    if fault:
        raise RefusedError(f"its geometry cannot be used: {fault}")
    columns, rows = frames[0].size
    shape = (columns, rows, len(frames))
    if min(shape) < 2 or max(shape) > LONGEST_AXIS or columns * rows * len(frames) > MOST_VOXELS:
        raise RefusedError(f"its size is {columns}x{rows}x{len(frames)}")


def _without_doubles(
    positions: Sequence[Sequence[Frame]], same_pixels: Callable[[Frame, Frame], bool]
) -> tuple[list[Frame], list[str]]:
    """Return one slice per position, and a note if others were dropped."""
    doubled = 0
    for group in positions:
        for other in group[1:]:
            if not same_pixels(group[0], other):
                raise RefusedError(
                    f"it has different images at one position ({_numbers([group[0], other])}), and nothing in the "
                    "headers says which belong together"
                )
            doubled += 1
    kept = [group[0] for group in positions]
    if len(kept) < 2:
        raise RefusedError("all of its images are at one position")
    if not doubled:
        return kept, []
    return kept, [f"has {doubled} slice{'s' * (doubled > 1)} twice, with the same pixels: one of each is used"]


def _check_gaps(frames: Sequence[Frame], gaps: NDArray[np.float64]) -> None:
    """Raise `RefusedError` if slices are missing or not equally spaced, with where that is."""
    usual = float(np.median(gaps))
    tolerance = _tolerance(usual)
    wrong = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if not wrong.size:
        return
    missing = np.rint(gaps[wrong] / usual).astype(int) - 1
    whole = np.abs(gaps[wrong] - (missing + 1) * usual) <= tolerance * (missing + 1)
    where = ", ".join(_numbers(frames[place : place + 2]) for place in wrong[:3]) + ", ..." * (wrong.size > 3)
    # With many holes the usual gap is not known, and the slices may be those of two interleaved stacks.
    if whole.all() and missing.min() > 0 and wrong.size <= len(gaps) / 4:
        count = int(missing.sum())
        lacks = "a slice is" if count == 1 else f"{count} slices are"
        raise RefusedError(
            f"{lacks} missing between {where}: the gap there is {gaps[wrong[0]]:.2f} mm, not {usual:.2f}"
        )
    raise RefusedError(
        f"the gaps between its slices differ, from {gaps.min():.2f} to {gaps.max():.2f} mm (between {where})"
    )


def _tolerance(spacing: float) -> float:
    return max(_GAP_TOLERANCE * spacing, _GAP_TOLERANCE_MM)


def _numbers(frames: Sequence[Frame]) -> str:
    """Return the numbers of slices for messages, as the viewer of the user shows them."""
    names = []
    for frame in frames:
        instance = numbers_of(frame.dataset, "InstanceNumber", 1)
        if frame.header.frames > 1:
            names.append(f"frame {frame.index + 1}")
        else:
            names.append(f"image {int(instance[0])}" if instance is not None else frame.header.source.name)
    return " and ".join(names)
