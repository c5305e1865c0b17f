"""Contrast of a scan of the head: properties of its intensities that differ between sequences.

Three properties distinguish the sequences. Fluid, which fills the ventricles, is the brightest of the deep brain on T2
and the darkest on T1 and FLAIR. Grey matter, which lies next to fluid, is brighter than white matter on FLAIR and
darker on T1. After contrast agent, vessels and enhancing tumour are far brighter than white matter on T1. Proton
density has neither bright nor dark fluid. The thresholds were set on phantoms and on a few tens of scans, so that the
probabilities have an upper limit, and T1 and T1c are never distinguished with certainty: blood and fat are bright
without agent too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.data.image import Image, to_lps

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Voxels at which the head and its depth are measured, and at which grey matter is still separate from white.
_COARSE_MM, _FINE_MM = 3.0, 1.4
# Share of voxels with exactly the value of a corner from which that value is a constant background.
_CONSTANT_SHARE = 0.2
# A volume has air around the head.
_LARGEST_SHARE = 0.95
# The brain is within this distance of the top of the head.
_BRAIN_HEIGHT_MM = 110
# Depth in the middle of a brain without or with a skull.
_MIDDLE_MM = (34.0, 90.0)
# The middle of the brain, and the brain without its surface and the skull, as shares of the largest depth.
_DEEP, _INNER = 0.5, 0.3
# Fluid is darker than this share of the tissue around, and blurring has this width.
_DARK, _BIAS_MM = 0.62, 18.0
# Distance from fluid of grey matter and of white matter.
_GREY_MM, _WHITE_MM = (2.8, 5.6), (7.0, 11.2)
_FEWEST_VOXELS = 200
_MOST_SLICES = 30


@dataclass(frozen=True)
class Contrast:
    """Properties of the intensities of a head; all are ratios, so that scale and bias of the scanner do not matter.

    dark           5th percentile of the deep brain over its median: fluid on T1 and FLAIR
    bright         95th percentile over the median: fluid on T2
    grey_to_white  brightness of tissue next to dark fluid over tissue away from it; NaN without dark fluid
    vessels        99.9th percentile of the inner brain over its surroundings: contrast agent
    """

    dark: float
    bright: float
    grey_to_white: float
    vessels: float

    @property
    def is_clear(self) -> bool:
        """Whether fluid is bright and not dark, as on T2, or dark beside brighter grey matter, as on FLAIR."""
        is_t2 = self.bright >= 1.95 and self.dark >= 0.62 and not self.grey_to_white > 1.0
        return is_t2 or (self.dark <= 0.58 and self.grey_to_white >= 1.0)

    @property
    def logits(self) -> dict[str, float]:
        """Log-odds of T1 (with or without agent), T2, FLAIR and other, and of agent if it is T1."""
        brightness = _clipped(math.log(self.bright / 1.6) / 0.12)
        grey = 0.0 if math.isnan(self.grey_to_white) else _clipped((self.grey_to_white - 0.985) / 0.012)
        no_dark_fluid = _clipped((self.dark - 0.6) / 0.06 - 0.5 * grey)
        no_fluid = min((self.dark - 0.72) / 0.03, math.log(1.5 / self.bright) / 0.05)
        return {
            "T1": -brightness - grey,
            "T2": brightness + no_dark_fluid,
            "FLAIR": grey - no_dark_fluid,
            "other": _clipped(no_fluid) + 1.0,
            "agent": _clipped((self.vessels - 1.65) / 0.08),
        }


def _clipped(value: float) -> float:
    return min(max(value, -4.0), 4.0)


def measure_contrast(image: Image) -> Contrast | None:
    """Return the contrast of a scan; None if no head of the usual size is found in it."""
    array, affine = to_lps(image.array, image.affine)
    values, occupied = _above_background(array)
    fine, fine_mm = _pooled(values, np.linalg.norm(affine[:3, :3], axis=0), _FINE_MM)
    coarse, coarse_mm = _pooled(fine, fine_mm, _COARSE_MM)
    if occupied is not None:
        parts, parts_mm = _pooled(occupied, np.linalg.norm(affine[:3, :3], axis=0), _FINE_MM)
        head = _pooled(parts, parts_mm, _COARSE_MM)[0] > 0.9
    else:
        head = coarse > 0.6 * _threshold(coarse)
    if head.mean() > _LARGEST_SHARE:
        return None
    depth = _depth(head, coarse_mm)
    middle = float(depth.max())
    deep = coarse[depth >= _DEEP * middle]
    if not _MIDDLE_MM[0] <= middle <= _MIDDLE_MM[1] or deep.size < _FEWEST_VOXELS:
        return None
    dark, median, bright = (float(value) for value in np.percentile(deep, [5, 50, 95]))
    if not 0 < median < bright:
        return None
    relative = fine / _resized(_surroundings(coarse, depth, median, coarse_mm), fine.shape)
    inner = _resized(depth, fine.shape) >= _INNER * middle
    vessels = float(np.percentile(relative[inner], 99.9))
    return Contrast(dark / median, bright / median, _grey_to_white(relative, inner, fine_mm), vessels)


def _above_background(array: NDArray[np.float32]) -> tuple[Floats, Mask | None]:
    """Return the values above a constant background and where they are, or the values themselves and None."""
    base = array.flat[0]
    occupied = array != base
    if occupied.mean() < 1 - _CONSTANT_SHARE and (array < base).mean() < 0.05:
        return array - base, occupied
    return array, None


def _pooled(array: NDArray[Any], spacing_mm: Floats, target_mm: float) -> tuple[Floats, Floats]:
    """Return the means of blocks whose edges are near `target_mm`, and their spacing."""
    step = [max(1, round(target_mm / float(mm))) for mm in spacing_mm]
    pooled = array
    for axis, size in enumerate(step):
        if size > 1:
            count = pooled.shape[axis] // size
            blocks = np.moveaxis(pooled, axis, 0)[: count * size].reshape(
                count, size, *np.delete(pooled.shape, axis).tolist()
            )
            pooled = np.moveaxis(blocks.mean(axis=1, dtype=np.float32), 0, axis)
    return pooled.astype(np.float32, copy=False), np.asarray(spacing_mm * step)


def _threshold(coarse: Floats) -> float:
    """Return the threshold between air and head after Otsu; infinite if all values are the same."""
    if coarse.size == 0 or coarse.min() == coarse.max():
        return math.inf
    counts, edges = np.histogram(np.minimum(coarse, np.percentile(coarse, 99)), 128)
    centres = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts), np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (total[-1] * below / below[-1] - total) ** 2 / (below * (below[-1] - below))
    return float(centres[np.nanargmax(between)])


def _depth(head: Mask, spacing_mm: Floats) -> Floats:
    """Return the distance from the surface of the largest region, mm; 0 outside and far below its top."""
    from scipy import ndimage

    regions, count = ndimage.label(ndimage.binary_opening(head))
    if not count:
        return np.zeros(head.shape, np.float32)
    largest = regions == 1 + np.bincount(regions.ravel())[1:].argmax()
    filled = np.stack([ndimage.binary_fill_holes(slice_) for slice_ in np.moveaxis(largest, 2, 0)], axis=2)
    top = int(np.flatnonzero(filled.any(axis=(0, 1)))[-1])
    filled[..., : max(0, top - int(_BRAIN_HEIGHT_MM / spacing_mm[2]))] = False
    # The head goes on below, where the volume ends.
    padded = np.pad(filled, ((1, 1), (1, 1), (0, 1)))
    depth: Floats = ndimage.distance_transform_edt(padded, sampling=spacing_mm)[1:-1, 1:-1, :-1].astype(np.float32)
    return depth


def _surroundings(coarse: Floats, depth: Floats, median: float, spacing_mm: Floats) -> Floats:
    """Return the local brightness of tissue that is neither dark nor bright, which follows the bias of the coil."""
    from scipy.ndimage import gaussian_filter

    tissue = (coarse > 0.6 * median) & (coarse < 1.5 * median) & (depth > 0)
    sigma = _BIAS_MM / spacing_mm
    weight = gaussian_filter(tissue.astype(np.float32), sigma, truncate=2)
    total = gaussian_filter(np.where(tissue, coarse, 0).astype(np.float32), sigma, truncate=2)
    return np.where(weight > 0.02, total / np.maximum(weight, 0.02), np.float32(median))


def _resized(coarse: Floats, shape: tuple[int, ...]) -> Floats:
    """Return a coarse volume on a finer grid by nearest neighbours."""
    places = [
        np.minimum(np.arange(length) * size // length, size - 1)
        for length, size in zip(shape, coarse.shape, strict=True)
    ]
    return coarse[np.ix_(*places)]


def _grey_to_white(relative: Floats, inner: Mask, spacing_mm: Floats) -> float:
    """Return the brightness of tissue near dark fluid over that of tissue away from it; NaN with too little of both.

    Distances are measured in planes across the thickest axis, because partial volume hides the cortex along it.
    """
    from scipy.ndimage import distance_transform_edt

    across = int(np.argmax(spacing_mm)) if spacing_mm.max() > 1.3 * spacing_mm.min() else 2
    planes, inside = np.moveaxis(relative, across, 0), np.moveaxis(inner, across, 0)
    in_plane_mm = np.delete(spacing_mm, across)
    step = max(1, len(planes) // _MOST_SLICES)
    found: dict[tuple[float, float], list[Floats]] = {_GREY_MM: [], _WHITE_MM: []}
    for plane, where in zip(planes[::step], inside[::step], strict=True):
        fluid = plane < _DARK
        if where.any() and fluid.any():
            distance = distance_transform_edt(~fluid, sampling=in_plane_mm)
            for (near, far), values in found.items():
                values.append(plane[where & (distance >= near) & (distance < far)])
    grey, white = (np.concatenate(values) if values else np.empty(0) for values in found.values())
    if min(grey.size, white.size) < _FEWEST_VOXELS:
        return math.nan
    return float(np.median(grey) / np.median(white))
