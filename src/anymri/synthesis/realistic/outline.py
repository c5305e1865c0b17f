"""Outline of the brain: hemispheres, cerebellum and brainstem as smooth shapes.

Template coordinates are millimetres from the anterior commissure: x to the left, y to the front, z up. All shapes are
symmetric, and take |x|; asymmetry comes from the deformation of each case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymri.synthesis.realistic.shapes import Points, ellipsoid, inside_box, tube, union
from anymri.synthesis.realistic.space import Floats

# Middle of the brain, which is placed in the middle of the volume, and half of its extent, in template millimetres.
MIDDLE = (0.0, -17.0, 4.0)
HALF_EXTENT = (70.0, 90.0, 76.0)

# Lower limit of the frontal, parietal and occipital lobes along y: orbital gyri in front, tentorium behind.
FLOOR_Y = (-110.0, -60.0, -30.0, 0.0, 20.0, 70.0)
FLOOR_Z = (-10.0, -6.0, -8.0, -15.0, -21.0, -14.0)
FLOOR_FALL = 0.16  # the tentorium falls to the sides: millimetres per millimetre

BRAINSTEM = ((0, -24, -4, 13), (0, -25, -18, 13), (0, -24, -30, 14.5), (0, -36, -50, 9.5), (0, -46, -80, 7.5))
CISTERN_BLEND_MM = 12.0  # gaps between the parts of the brain that its mask bridges; half of it at the brainstem


@dataclass(frozen=True)
class Outline:
    """Signed distances (N,) in millimetres, negative inside.

    cerebrum     both hemispheres, fissure not yet cut
    cerebellum   cerebellum
    brainstem    midbrain, pons and medulla
    whole        all of it with cisterns: what skull stripping keeps
    """

    cerebrum: Floats
    cerebellum: Floats
    brainstem: Floats
    whole: Floats

    def select(self, where: NDArray[np.intp]) -> Outline:
        """Return the outline at some of the points, given by their indices."""
        return Outline(*(part[where] for part in (self.cerebrum, self.cerebellum, self.brainstem, self.whole)))


def outline(points: Points) -> Outline:
    """Return the outline at template points, x as |x|."""
    x, y, z = points
    upper = union(
        ellipsoid(points, (0, -17, 10), (57, 84, 61)),
        ellipsoid(points, (21, -46, 16), (42, 52, 49)),
        8,
    )
    upper = union(upper, ellipsoid(points, (14, 18, 10), (38, 48, 45)), 12)
    floor = np.interp(y, FLOOR_Y, FLOOR_Z).astype(np.float32)
    floor -= np.float32(FLOOR_FALL) * x * (y < -25)
    upper = np.maximum(upper, (floor - z) * np.float32(0.95))
    slanted = z + np.float32(0.22) * (y + 10)  # the temporal lobe falls to the front
    temporal = inside_box(
        (x, y, slanted), (8, -76, -60), (80, 45, 26), lambda p: ellipsoid(p, (42, -18, -18), (21, 38, 21))
    )
    cerebrum = union(upper, temporal, 5)

    def lobes(p: Points) -> Floats:
        return union(ellipsoid(p, (24, -64, -36), (30, 31, 24)), ellipsoid(p, (0, -64, -34), (14, 29, 22)), 5)

    cerebellum = inside_box(points, (-1, -112, -76), (70, -18, 8), lobes)
    cerebellum = np.maximum(cerebellum, z - (floor - 3))
    brainstem = inside_box(points, (-1, -72, -110), (34, 8, 14), lambda p: tube(p, BRAINSTEM))
    whole = union(cerebrum, cerebellum, CISTERN_BLEND_MM)
    whole = union(whole, brainstem, CISTERN_BLEND_MM / 2)
    base = inside_box(points, (-1, -40, -40), (40, 20, 6), lambda p: ellipsoid(p, (0, -9, -16), (27, 21, 12)))
    fossa = inside_box(points, (-1, -96, -50), (52, -4, 8), lambda p: ellipsoid(p, (0, -53, -20), (44, 40, 23)))
    whole = union(whole, union(base, fossa), 4)
    return Outline(cerebrum, cerebellum, brainstem, whole)
