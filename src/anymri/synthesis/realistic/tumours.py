"""Growth of tumours: from the plan of a lesion to labels and soft shares of oedema, core, necrosis and blood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from anymri.regions import ED
from anymri.synthesis.realistic.cores import Texture, draw_core, ellipsoid_axes, ellipsoid_level, value_of_smallest
from anymri.synthesis.realistic.lesions import Plan
from anymri.synthesis.realistic.shapes import Points
from anymri.synthesis.realistic.space import Floats, Mask
from anymri.synthesis.realistic.tissues import Tissues

# Resistance of tissues against the tumour, in radii of the tumour: oedema follows the white matter.
GREY_RESISTANCE, FLUID_RESISTANCE, VENTRICLE_RESISTANCE = (0.05, 0.5), (0.2, 0.8), 2.5
OTHER_SIDE_RESISTANCE, BUTTERFLY = 0.8, 0.15  # of the other hemisphere, and how often it does not resist
EDGE_MM = (1.5, 9.0)  # width of the fading edge of the oedema
EDGE_SHARE = (0.15, 0.5)  # share of oedema at which the label ends: experts include most of the fading edge
FEWEST_VOXELS = 8


@dataclass(frozen=True)
class Tumour:
    """Tumour at N voxels.

    labels     uint8 classes 0, NCR, ED, ET
    oedema     share of the whole tumour, 0 to 1, with soft edges
    core       share of the core
    necrosis   share of NCR in the core
    blood      share of blood in the core (haemorrhagic kind)
    """

    labels: NDArray[np.uint8]
    oedema: Floats
    core: Floats
    necrosis: Floats
    blood: Floats


def grow(
    rng: Generator,
    plans: Sequence[tuple[Plan, Floats]],
    position: Points,
    points: Points,
    healthy: Tissues,
    kept: Mask,
    texture: Texture,
    spacing: float,
) -> Tumour:
    """Return the tumour of a case.

    plans     lesions with their centres (3,) in millimetres of the volume
    position  of the voxels, millimetres of the volume, each (N,)
    points    of the voxels, millimetres of the template, each (N,)
    kept      voxels inside the brain mask: no tumour outside
    spacing   side of a voxel in millimetres
    """
    labels = np.zeros(len(kept), np.uint8)
    oedema, core, necrosis, blood = (np.zeros(len(kept), np.float32) for _ in range(4))
    resistance = healthy.grey * np.float32(rng.uniform(*GREY_RESISTANCE))
    resistance += healthy.csf * np.float32(rng.uniform(*FLUID_RESISTANCE))
    resistance += healthy.ventricle * np.float32(VENTRICLE_RESISTANCE)
    for plan, centre in plans:
        radius = plan.radius_mm
        near = kept.copy()
        for line, middle in zip(position, centre, strict=True):
            near &= np.abs(line - middle) < 2.4 * radius + 3
        where = np.flatnonzero(near)
        if len(where) < FEWEST_VOXELS:
            continue
        offset = np.stack([line[where] - middle for line, middle in zip(position, centre, strict=True)])
        local = Texture(texture.coarse[where], texture.middle[where], texture.fine[where])
        resists = resistance[where]
        if rng.random() > BUTTERFLY:
            other = points[0][where] * np.sign(plan.template[0]) < 0
            resists += np.float32(OTHER_SIDE_RESISTANCE) * other
        reach = _reach(rng, plan, offset, local, resists)
        edge = value_of_smallest(reach, plan.volume_ml * 1000 / spacing**3)
        softness = max(spacing, rng.uniform(*EDGE_MM)) / radius
        share = np.clip((edge - reach) * np.float32(1 / softness) + np.float32(rng.uniform(*EDGE_SHARE)), 0, 1)
        oedema[where] = np.maximum(oedema[where], share)
        whole = reach <= edge
        labels[where] = np.where(whole & (labels[where] == 0), np.uint8(ED), labels[where])
        if plan.core_share == 0 or whole.sum() < FEWEST_VOXELS:
            continue
        part = draw_core(rng, plan, offset, whole, reach / edge, resists, local, spacing)
        labels[where] = np.where(part.labels > 0, part.labels, labels[where])
        stronger = part.core > core[where]
        for volume, new in ((necrosis, part.necrosis), (blood, part.blood), (core, part.core)):
            volume[where] = np.where(stronger, new, volume[where])
    return Tumour(labels, oedema, core, necrosis, blood)


def _reach(rng: Generator, plan: Plan, offset: Floats, local: Texture, resists: Floats) -> Floats:
    """Return how hard each voxel is to reach: distance in radii, an irregular front, and resistance."""
    radius = plan.radius_mm
    large = radius > 12  # bumps are smaller than the tumour
    reach = ellipsoid_level(ellipsoid_axes(rng, 0.22), offset) * np.float32(1 / radius) + resists
    reach += np.float32(rng.uniform(0.1, 0.35)) * (local.coarse if large else local.middle)
    reach += np.float32(rng.uniform(0, 0.2) * large) * local.middle
    reach += np.float32(rng.uniform(0, 0.12)) * local.fine
    return reach
