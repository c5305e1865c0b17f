"""Pools of fluid around the brain: widened cisterns and fissures, and small cysts of the arachnoid.

On T2 they are as bright as a tumour, so that a network has to learn that fluid outside the tissue is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator

from anymri.synthesis.realistic.shapes import FAR_MM, Points, Triple, ellipsoid, inside_box
from anymri.synthesis.realistic.space import Floats, log_uniform

# Template millimetres: x to the left, y to the front, z up.
SITES: tuple[Triple, ...] = (
    *((side * 42, 6, -2) for side in (-1, 1)),  # lateral fissure
    *((side * 36, 14, -26) for side in (-1, 1)),  # in front of the temporal lobe
    *((side * 14, -38, -4) for side in (-1, 1)),  # around the midbrain
    *((side * 24, -36, -34) for side in (-1, 1)),  # angle of cerebellum and pons
    (0, 46, 12),  # between the frontal lobes
    (0, -44, 4),  # behind the midbrain
    (0, -22, -34),  # in front of the pons
    (0, -76, -40),  # behind the cerebellum
    (0, -10, 58),  # between the hemispheres
    *((side * 34, 20, 52) for side in (-1, 1)),  # over the frontal lobe
    *((side * 40, -40, 50) for side in (-1, 1)),  # over the parietal lobe
)
MOST = 6
RADIUS_MM = (3.0, 10.0)  # log-uniform
SCATTER_MM = 6.0  # standard deviation around a site
MARGIN_MM = 3.0  # beyond it, the distance does not matter


@dataclass(frozen=True)
class Pool:
    """Ellipsoid of fluid in template millimetres."""

    centre: Triple
    semi_axes: Triple


def draw_pools(rng: Generator) -> tuple[Pool, ...]:
    """Return 0 to 6 pools."""
    pools = []
    for site in rng.permutation(len(SITES))[: rng.integers(MOST + 1)]:
        x, y, z = rng.normal(SITES[site], SCATTER_MM).tolist()
        a, b, c = (log_uniform(rng, *RADIUS_MM) * np.exp(rng.normal(0, 0.3, 3))).tolist()
        pools.append(Pool((x, y, z), (a, b, c)))
    return tuple(pools)


def pool_distance(points: Points, pools: tuple[Pool, ...]) -> Floats:
    """Return the signed distance (N,) to the nearest pool, negative inside; points with their sides, x to the left."""
    distance = np.full(points[0].shape, FAR_MM)
    for pool in pools:
        (x, y, z), (a, b, c) = pool.centre, (axis + MARGIN_MM for axis in pool.semi_axes)
        shape = partial(ellipsoid, centre=pool.centre, semi_axes=pool.semi_axes)
        near = inside_box(points, (x - a, y - b, z - c), (x + a, y + b, z + c), shape)
        np.minimum(distance, near, out=distance)
    return distance
