"""Tumours of phantoms: gliomas with oedema, enhancing rim and necrosis."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from anymri.regions import BACKGROUND, ED, ET, NCR
from anymri.synthesis.anatomy import OUTSIDE, WHITE, Anatomy
from anymri.synthesis.fields import Floats, Mask, axes, ellipsoid, field

# Resistance of a tissue to the tumour, in radii of the tumour: oedema follows the white matter.
RESISTANCE = np.array([np.inf, 0.60, 0.25, 0.0])  # OUTSIDE, CSF, GREY, WHITE


def draw_tumour(rng: Generator, anatomy: Anatomy) -> NDArray[np.uint8]:
    """Return the labels of one glioma, or of two in a fifth of the cases.

    Each region is a share of the region around it, the voxels nearest to its centres: the tumour 3.5 to 11 % of the
    brain, the core 25 to 65 % of the tumour, the necrosis 25 to 70 % of the core. The centres of the regions differ, so
    that the enhancing rim cannot be guessed without T1c. At least one voxel of oedema separates the core from healthy
    brain.
    """
    size = len(anatomy.tissue)
    brain = anatomy.tissue != OUTSIDE
    volume = rng.uniform(0.035, 0.11) * brain.sum()
    radius = (volume * 3 / (4 * np.pi)) ** (1 / 3) * 2 / size
    centres = _centres(rng, anatomy, 1 if rng.random() < 0.8 else 2)

    resistance = np.where(anatomy.ventricles, np.inf, RESISTANCE[anatomy.tissue])
    reach = _reach(rng, size, centres, radius) + resistance
    tumour = _nearest(reach, np.isfinite(reach), volume)

    core_volume = rng.uniform(0.25, 0.65) * tumour.sum()
    core_centres = centres + rng.normal(0, 0.25 * radius, centres.shape)
    inner = binary_erosion(tumour | ~brain) & tumour
    core = _nearest(_reach(rng, size, core_centres, 0.6 * radius), inner, core_volume)

    necrotic_share = rng.uniform(0.25, 0.70)
    necrosis_centres = core_centres + rng.normal(0, 0.25 * radius, centres.shape)
    necrosis = _nearest(_reach(rng, size, necrosis_centres, 0.4 * radius), core, necrotic_share * core.sum())
    return np.select([necrosis, core, tumour], [NCR, ET, ED], BACKGROUND).astype(np.uint8)


def _centres(rng: Generator, anatomy: Anatomy, count: int) -> NDArray[np.float64]:
    """Return `count` positions (count, 3) in the white matter, neither at the surface nor in the middle."""
    voxels = np.argwhere((anatomy.tissue == WHITE) & (anatomy.depth > 0.15) & (anatomy.depth < 0.5))
    return (rng.choice(voxels, count, replace=False) + 0.5) * 2 / len(anatomy.tissue) - 1


def _reach(rng: Generator, size: int, centres: NDArray[np.float64], radius: float) -> Floats:
    """Return the distance to the nearest centre in units of `radius`, with stretched axes and an irregular front.

    centres  (1 or 2, 3); the second belongs to a smaller lesion
    """
    x, y, z = axes(size)
    distances = []
    for (cx, cy, cz), share in zip(centres, (1.0, 0.6), strict=False):
        semi_axes = radius * share * rng.uniform(0.8, 1.25, 3)
        distances.append(np.sqrt(ellipsoid(x - cx, y - cy, z - cz, semi_axes)))
    front = 0.26 * field(rng, size, 2 / radius) + 0.14 * field(rng, size, 4 / radius)
    reach: Floats = np.minimum.reduce(distances) + front
    return reach


def _nearest(reach: Floats, allowed: Mask, volume: float) -> Mask:
    """Return the mask of the `volume` allowed voxels with the smallest reach."""
    candidates = np.sort(reach[allowed])
    count = min(round(volume), len(candidates))
    return allowed & (reach <= candidates[count - 1]) if count else np.zeros_like(allowed)
