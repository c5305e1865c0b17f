"""A rough brain mask by thresholds and distances, for installations without a brain extraction network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from anymri.data.image import Image
from anymri.prepare.grid import Grid, study_grid
from anymri.prepare.resampling import resample, resample_labels

_SPACING_MM = 2.0
# The brain is in the upper part of the head; necks are longer in some scans than in others.
_HEIGHT_MM = 165.0
# Share of the range of brightness above which voxels belong to the head.
_HEAD = 0.1
# Tissue of the brain relative to the middle of the head; skull and air are darker, fat is brighter.
_TISSUE = (0.6, 1.8)
# Scalp and skull together have more than this.
_SCALP_MM = 7.0
# Muscles, eyes and the scalp touch the brain in bridges thinner than twice this.
_BRIDGE_MM = 7.0
_SULCI_MM = 8.0
_DEEP_MM = 30.0


def rough_brain(image: Image) -> NDArray[np.bool_]:
    """Return the largest compact tissue inside the skull, (x, y, z) bool on the grid of the scan.

    It is empty if nothing in the scan is like a head.
    """
    grid = study_grid(image, _SPACING_MM)
    brain = _inside_skull(resample(image.array, image.affine, grid))
    classes = resample_labels(brain.astype(np.uint8), grid.affine, Grid.of(image))
    found: NDArray[np.bool_] = classes > 0
    return found


def _inside_skull(scan: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the mask on the isotropic LPS grid."""
    empty = np.zeros(scan.shape, dtype=bool)
    low, high = np.percentile(scan, (1, 99))
    head = largest(scan > low + _HEAD * (high - low))
    depth = _distance(_filled(head))
    if depth.max() < _DEEP_MM:
        return empty
    top = int(np.flatnonzero(depth.any(axis=(0, 1)))[-1])
    head &= np.arange(scan.shape[2]) > top - _HEIGHT_MM / _SPACING_MM
    level = np.median(scan[(depth > _DEEP_MM) & head])
    relative = (scan - low) / max(float(level - low), 1e-6)
    tissue = head & (depth > _SCALP_MM) & (relative > _TISSUE[0]) & (relative < _TISSUE[1])
    core = largest(_distance(tissue) > _BRIDGE_MM)
    if not core.any():
        return empty
    grown = tissue & (_distance(~core) <= _BRIDGE_MM + _SPACING_MM)
    closed = _distance(_distance(~grown) <= _SULCI_MM) > _SULCI_MM
    return _filled(closed | grown)


def largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected component of a mask; all of it if it is empty."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    component: NDArray[np.bool_] = labels == 1 + int(np.bincount(labels.ravel())[1:].argmax())
    return component


def _distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the distance of each voxel of the mask to the nearest one outside, in mm; the faces count as inside."""
    padded = np.pad(mask, 1, mode="edge")
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(padded, sampling=_SPACING_MM)
    return distance[1:-1, 1:-1, 1:-1]


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(mask)
    return filled
