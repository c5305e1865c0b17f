"""Tissues of a healthy brain: shares of fluid, grey and white matter at any points of the template."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from anymri.synthesis.realistic.cortex import (
    Folds,
    cerebellar_distance,
    cortical_distance,
    draw_folds,
    hemisphere_depth,
)
from anymri.synthesis.realistic.deep import deep_structures
from anymri.synthesis.realistic.outline import Outline
from anymri.synthesis.realistic.pools import Pool, draw_pools, pool_distance
from anymri.synthesis.realistic.shapes import Points, cover
from anymri.synthesis.realistic.space import Floats, log_uniform

BRAINSTEM_GREY = 0.3  # the brainstem looks like white matter with some grey
CEREBELLAR_CORTEX_MM = 4.6


@dataclass(frozen=True)
class Build:
    """What makes one healthy brain differ from another, beside its deformation.

    folds        folds of the cortex
    swelling     radius of the ventricles relative to the template, 0.5 (young) to 2 (atrophy)
    cortex_mm    thickness of the cortex, 2.6 to 3.8
    fading_mm    width of the transition from cortex to white matter beyond that of a voxel, 0.5 to 3
    cisterns     radius of the cisterns relative to the template, 0.7 to 1.6
    fourth       radius of the fourth ventricle relative to the template, 0.7 to 1.5
    pools        pools of fluid around the brain
    """

    folds: Folds
    swelling: float
    cortex_mm: float
    fading_mm: float
    cisterns: float
    fourth: float
    pools: tuple[Pool, ...]


@dataclass(frozen=True)
class Tissues:
    """Tissues at N points: shares (N,) of 0 to 1 and signed distances (N,) in millimetres, negative inside.

    csf, grey, white   shares, which add up to 1
    ventricle          share of the ventricles, part of `csf`
    iron               share of the globus pallidus, which is dark on T2
    to_ventricle       distance to the ventricles
    surface            distance to the outline of the whole brain
    cortex             depth under the surface of the hemispheres, positive inside
    """

    csf: Floats
    grey: Floats
    white: Floats
    ventricle: Floats
    iron: Floats
    to_ventricle: Floats
    surface: Floats
    cortex: Floats


def draw_build(rng: Generator) -> Build:
    """Return a young, an adult or an old brain: wider sulci come with larger ventricles."""
    atrophy = rng.beta(1.2, 2.4)  # 0 to 1
    width = -0.3 + 1.5 * atrophy * rng.uniform(0.7, 1.2)
    swelling = (0.65 + 0.75 * atrophy) * log_uniform(rng, 0.8, 1.35)
    return Build(
        folds=draw_folds(rng, width),
        swelling=swelling,
        cortex_mm=rng.uniform(2.6, 3.8),
        fading_mm=rng.uniform(0.5, 3.0),
        cisterns=log_uniform(rng, 0.7, 1.6),
        fourth=log_uniform(rng, 0.7, 1.5),
        pools=draw_pools(rng),
    )


def tissues(points: Points, shape: Outline, build: Build, softness_mm: float) -> Tissues:
    """Return the tissues at template points.

    points       x to the left, y to the front, z up, each (N,), in millimetres
    shape        outline of the brain at these points
    softness_mm  width of the transition between two tissues: the side of a voxel, 1 to 2
    """
    left = points[0]
    pools = pool_distance(points, build.pools)
    points = (np.abs(left), points[1], points[2])
    depth = hemisphere_depth(points, shape.cerebrum, build.folds)
    folded = cortical_distance(points, left, depth, build.folds)
    # Grey where the cortex is thinner than the distance from the fluid; no cortex on the cut face of the stem.
    grey = cover(folded - np.float32(build.cortex_mm), softness_mm + build.fading_mm)
    csf = cover(folded, softness_mm)

    behind = np.flatnonzero((points[1] < -14) & (points[2] < 6) & (shape.cerebellum < 2))
    if len(behind):
        part: Points = (points[0][behind], points[1][behind], points[2][behind])
        inner = -shape.cerebellum[behind]
        leaves = cerebellar_distance(part, inner)
        csf[behind] = np.minimum(csf[behind], cover(inner, softness_mm) + np.float32(0.6) * cover(leaves, softness_mm))
        grey[behind] = np.minimum(
            grey[behind], cover(leaves - np.float32(CEREBELLAR_CORTEX_MM), softness_mm + build.fading_mm)
        )
    stem = cover(shape.brainstem, softness_mm)
    np.minimum(csf, 1 - stem, out=csf)
    grey += stem * (np.float32(BRAINSTEM_GREY) - grey)

    deep = deep_structures(points, build.swelling, build.cisterns, build.fourth)
    nuclei = cover(deep.nuclei, softness_mm)
    grey += nuclei * (deep.grey_share - grey)
    csf *= 1 - nuclei
    ventricle = cover(deep.ventricles, softness_mm)
    fluid = np.maximum(ventricle, cover(np.minimum(deep.cisterns, pools), softness_mm))
    np.maximum(csf, fluid, out=csf)
    grey *= 1 - csf
    return Tissues(
        csf=csf,
        grey=grey,
        white=1 - csf - grey,
        ventricle=ventricle,
        iron=cover(deep.iron, softness_mm) * (1 - csf),
        to_ventricle=deep.ventricles,
        surface=shape.whole,
        cortex=depth,
    )
