"""Vessels, choroid plexus and dura: what takes up contrast agent without being tumour, and flow voids on T2."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from anymri.synthesis.realistic.cores import Texture
from anymri.synthesis.realistic.shapes import Knot, Points, Triple, cover, inside_box, tube
from anymri.synthesis.realistic.space import Floats
from anymri.synthesis.realistic.tissues import Tissues

# Template millimetres of one side: |x|, y to the front, z up, radius.
STRAIGHT_SINUS: tuple[Knot, ...] = ((0, -38, 10, 1.3), (0, -50, 8, 1.5), (0, -92, -8, 2.0))
TRANSVERSE_SINUS: tuple[Knot, ...] = ((0, -98, -9, 3.2), (34, -90, -15, 2.6), (56, -62, -22, 2.6), (50, -42, -36, 2.4))
INTERNAL_CEREBRAL_VEIN: tuple[Knot, ...] = ((2, -4, 15, 0.8), (2, -30, 13, 1.0), (0, -38, 10, 1.4))
MIDDLE_CEREBRAL: tuple[Knot, ...] = ((8, 2, -17, 1.6), (24, 4, -14, 1.4), (38, 5, -6, 1.1), (40, -14, 6, 0.8))
ANTERIOR_CEREBRAL: tuple[Knot, ...] = ((5, 6, -16, 1.1), (1, 34, -4, 1.0), (1, 40, 14, 0.9), (1, 20, 34, 0.8))
BASILAR: tuple[Knot, ...] = ((0, -9, -18, 1.5), (0, -8, -34, 1.5), (4, -20, -56, 1.3))
POSTERIOR_CEREBRAL: tuple[Knot, ...] = ((1, -9, -18, 1.1), (17, -24, -11, 1.0), (14, -50, -4, 0.8))
CHOROID: tuple[Knot, ...] = ((12, -20, 18, 1.2), (22, -37, 15, 2.6), (27, -45, 7, 2.8), (34, -32, -7, 1.4))

SINUS_RADIUS = (0.6, 1.9)  # radii of the sinuses relative to the lists above
ARTERY_RADIUS = (0.6, 1.3)


@dataclass(frozen=True)
class Vessels:
    """Shares (N,) of 0 to 1.

    veins     sinuses, deep and cortical veins: bright on T1c
    arteries  bright on T1c, dark on T2 (flow void)
    choroid   plexus in the ventricles: bright on T1c
    dura      thin layer at the surface and the falx: may be bright on T1c
    """

    veins: Floats
    arteries: Floats
    choroid: Floats
    dura: Floats


def draw_vessels(
    rng: Generator, points: Points, healthy: Tissues, texture: Texture, softness_mm: float, easy: bool
) -> Vessels:
    """Return the vessels at template points; in a few brains (15 %, or 60 % if `easy`) only cortical veins.

    points  x to the left, y to the front, z up, each (N,), in millimetres
    """
    x, y, z = np.abs(points[0]), points[1], points[2]
    side: Points = (x, y, z)
    sinus, artery = rng.uniform(*SINUS_RADIUS), rng.uniform(*ARTERY_RADIUS)
    shown = rng.random() > (0.6 if easy else 0.15)
    fluid = healthy.csf
    cortical = np.clip(texture.fine - np.float32(rng.uniform(0.8, 1.8)), 0, 1) * fluid * (1 - healthy.ventricle)
    veins, arteries = cortical, np.zeros_like(cortical)
    if shown:
        upper = np.sqrt(x * x * np.float32(0.8) + (healthy.surface + np.float32(1)) ** 2)
        upper += np.maximum(-z - 2, 0) + np.maximum(y - 45, 0) * np.float32(0.3)
        tubes = [upper - np.float32(2.6 * sinus)]
        for knots in (STRAIGHT_SINUS, TRANSVERSE_SINUS, INTERNAL_CEREBRAL_VEIN):
            tubes.append(_tube(side, knots, sinus))
        veins = np.maximum(veins, cover(np.minimum.reduce(tubes), softness_mm))
        branches = (MIDDLE_CEREBRAL, ANTERIOR_CEREBRAL, BASILAR, POSTERIOR_CEREBRAL)
        arteries = cover(np.minimum.reduce([_tube(side, knots, artery) for knots in branches]), softness_mm)
    plexus = cover(_tube(side, CHOROID, rng.uniform(0.4, 1.0)) + np.float32(0.7) * texture.fine, softness_mm)
    plexus *= healthy.ventricle * np.float32(rng.uniform(0.5, 1))
    return Vessels(veins, arteries, plexus, _dura(rng, x, healthy, texture, softness_mm))


def _dura(rng: Generator, x: Floats, healthy: Tissues, texture: Texture, softness_mm: float) -> Floats:
    thickness = rng.uniform(0.3, 1.4)
    outer = np.abs(healthy.surface - np.float32(rng.uniform(-0.5, 1.5))) - np.float32(thickness)
    falx = np.where(healthy.csf > 0.2, x - np.float32(0.5 * thickness), np.float32(9))
    patches = np.clip(texture.coarse + np.float32(0.7), 0, 1)
    layer: Floats = cover(np.minimum(outer, falx), softness_mm) * patches
    return layer


def _tube(points: Points, knots: tuple[Knot, ...], factor: float) -> Floats:
    wide = tuple((x, y, z, radius * factor) for x, y, z, radius in knots)
    margin = 3 + 2 * max(knot[3] for knot in wide)
    x, y, z = (min(knot[i] for knot in knots) - margin for i in range(3))
    low: Triple = (x, y, z)
    a, b, c = (max(knot[i] for knot in knots) + margin for i in range(3))
    high: Triple = (a, b, c)
    return inside_box(points, low, high, lambda p: tube(p, wide))
