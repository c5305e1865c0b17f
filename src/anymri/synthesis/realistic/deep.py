"""Deep structures of the brain: ventricles, cisterns and grey nuclei."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anymri.synthesis.realistic.shapes import Knot, Points, Triple, ellipsoid, inside_box, tube, union
from anymri.synthesis.realistic.space import Floats

# Template millimetres of one side: |x|, y to the front, z up, radius.
LATERAL_VENTRICLE: tuple[Knot, ...] = (
    (14, 33, 0, 2.5),
    (9, 21, 8, 4.2),
    (8, 4, 16, 4.4),
    (12, -16, 20, 4.2),
    (22, -36, 17, 5.4),
    (26, -47, 10, 5.6),
    (24, -66, 5, 2.6),
)
NARROW, LOW = 1.25, 0.78  # width and height of the lateral ventricles relative to their radius, inverse
TEMPORAL_HORN: tuple[Knot, ...] = ((27, -44, 8, 4.0), (36, -28, -9, 2.0), (33, -10, -18, 1.4))
CAUDATE: tuple[Knot, ...] = ((14, 21, 2, 5.5), (15, 6, 15, 4.5), (20, -14, 22, 2.8))
HIPPOCAMPUS: tuple[Knot, ...] = ((24, -4, -19, 6), (28, -18, -17, 4.5), (30, -34, -5, 3.5))

# Grey matter as a share of the tissue of each nucleus.
CAUDATE_SHARE, PUTAMEN_SHARE, THALAMUS_SHARE, PALLIDUM_SHARE = 0.95, 0.9, 0.6, 0.35


@dataclass(frozen=True)
class Deep:
    """Signed distances (N,) in millimetres, and shares (N,).

    ventricles  lateral, third and fourth ventricle
    cisterns    suprasellar and quadrigeminal cistern
    nuclei      deep grey nuclei, together
    grey_share  share of grey matter in them, 0 to 1
    iron        globus pallidus: dark on T2
    """

    ventricles: Floats
    cisterns: Floats
    nuclei: Floats
    grey_share: Floats
    iron: Floats


def deep_structures(points: Points, swelling: float, cisterns: float, fourth: float) -> Deep:
    """Return the deep structures at template points, x as |x|.

    swelling, cisterns, fourth  radii of the ventricles, the cisterns and the fourth ventricle, see `Build`
    """

    def lateral(p: Points) -> Floats:
        # Higher than wide.
        narrow = (p[0] * np.float32(NARROW), p[1], p[2] * np.float32(LOW))
        knots = [(x * NARROW, y, z * LOW, r) for x, y, z, r in _swollen(LATERAL_VENTRICLE, swelling)]
        body = tube(narrow, knots)
        horn = tube(p, _swollen(TEMPORAL_HORN, min(swelling, 1.4)))
        septum = np.float32(1.2) - p[0]  # between both sides
        inside: Floats = np.maximum(union(body, horn), septum)
        return inside

    ventricles = inside_box(points, (-1, -84, -28), (48, 46, 36), lateral)
    third = inside_box(
        points, (-1, -36, -18), (12, 10, 16), lambda p: ellipsoid(p, (0, -13, -1), (2.2 * swelling, 13, 10))
    )
    low = inside_box(
        points, (-1, -62, -52), (20, -26, -10), lambda p: ellipsoid(p, (0, -43, -32), _scaled((6, 4.5, 9), fourth))
    )
    ventricles = np.minimum(np.minimum(ventricles, third), low)
    suprasellar = inside_box(
        points, (-1, -18, -36), (32, 26, 0), lambda p: ellipsoid(p, (0, 3, -18), _scaled((13, 9, 6.5), cisterns))
    )
    quadrigeminal = inside_box(
        points, (-1, -60, -20), (28, -26, 16), lambda p: ellipsoid(p, (0, -42, -2), _scaled((9, 3.5, 6.5), cisterns))
    )
    caudate = inside_box(points, (4, -24, -8), (28, 32, 30), lambda p: tube(p, CAUDATE))
    putamen = inside_box(points, (16, -20, -16), (38, 24, 16), lambda p: ellipsoid(p, (27, 2, 1), (5.5, 16, 10)))
    thalamus = inside_box(points, (-1, -40, -8), (28, 2, 22), lambda p: ellipsoid(p, (12, -18, 7), (9.5, 14, 9)))
    pallidum = inside_box(points, (10, -18, -12), (28, 10, 10), lambda p: ellipsoid(p, (20, -3, 0), (3.8, 8, 6)))
    hippocampus = inside_box(points, (12, -44, -30), (42, 10, 6), lambda p: tube(p, HIPPOCAMPUS))
    basal = np.minimum(caudate, np.minimum(putamen, hippocampus))
    nuclei = np.minimum(basal, np.minimum(thalamus, pallidum))
    share = np.where(pallidum < 0, np.float32(PALLIDUM_SHARE), np.float32(PUTAMEN_SHARE))
    share = np.where(thalamus < 0, np.float32(THALAMUS_SHARE), share)
    return Deep(ventricles, union(suprasellar, quadrigeminal), nuclei, share, pallidum)


def _scaled(semi_axes: Triple, factor: float) -> Triple:
    a, b, c = semi_axes
    return a * factor, b * factor, c * factor


def _swollen(knots: tuple[Knot, ...], factor: float) -> tuple[Knot, ...]:
    return tuple((x + 2.0 * (factor - 1), y, z + 1.0 * (factor - 1), radius * factor) for x, y, z, radius in knots)
