"""Plans of lesions: kinds of gliomas, sizes, positions and mass effect, before any voxel is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from anymri.synthesis.realistic.outline import outline
from anymri.synthesis.realistic.space import Floats, log_uniform
from anymri.synthesis.realistic.tissues import Build, tissues

# Share of the cases with tumour that are of each kind.
KINDS = {
    "ring": 0.44,  # enhancing rim around necrosis, with gaps in 40 %
    "solid": 0.12,  # the whole core enhances
    "patchy": 0.12,  # enhancing and non-enhancing parts mixed
    "non_enhancing": 0.14,  # low grade: the core does not enhance, or in small nodules (half)
    "cystic": 0.08,  # smooth fluid-filled core with a thin rim
    "haemorrhagic": 0.06,  # ring with blood in the core
    "oedema_only": 0.04,  # no core
}
# Share of the cases with 0, 1, 2 and 3 lesions.
COUNTS = (0.06, 0.68, 0.17, 0.09)
VOLUME_ML = (2.0, 130.0)  # whole tumour of the first lesion, log-uniform
EASY_VOLUME_ML = (8.0, 130.0)
SATELLITE_SHARE = (0.03, 0.5)  # volume of the others relative to the first, log-uniform
MASS_EFFECT = 0.7  # share of the lesions that push the tissue around them
DEEPER_THAN_MM = 6.0  # centres under the surface of the brain
CANDIDATES = 600


@dataclass(frozen=True)
class Plan:
    """One lesion before it grows.

    kind           one of `KINDS`; all lesions of a case have the same
    template       (3,) centre in template millimetres
    volume_ml      volume of the whole tumour
    core_share     volume of the core relative to the whole tumour, 0 to 1
    shift_mm       mass effect: how far the tissue around it is pushed, 0 to 9
    push_radius    where that is, in radii of the tumour
    """

    kind: str
    template: Floats
    volume_ml: float
    core_share: float
    shift_mm: float
    push_radius: float

    @property
    def radius_mm(self) -> float:
        """Radius of the sphere of the same volume."""
        return float((self.volume_ml * 3000 / (4 * np.pi)) ** (1 / 3))


def draw_plans(rng: Generator, build: Build, easy: bool = False) -> list[Plan]:
    """Return the lesions of a case, the largest first, centred in white (mostly) or grey matter.

    easy  8 mL or more, and always a lesion: for the first hours of training
    """
    count = int(rng.choice(len(COUNTS), p=COUNTS))
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    centres = _centres(rng, build, len(COUNTS) - 1)
    first = log_uniform(rng, *(EASY_VOLUME_ML if easy else VOLUME_ML))
    plans = []
    for number in range(max(count, 1) if easy else count):
        volume = first if number == 0 else first * log_uniform(rng, *SATELLITE_SHARE)
        radius = (volume * 3000 / (4 * np.pi)) ** (1 / 3)
        pushes = rng.random() < MASS_EFFECT
        shift = min(9.0, radius * rng.uniform(0.05, 0.5)) if pushes else 0.0
        plans.append(
            Plan(kind, centres[number], volume, _core_share(rng, kind), shift, push_radius=rng.uniform(0.9, 1.4))
        )
    return plans


def _core_share(rng: Generator, kind: str) -> float:
    """Return the share of the core: 0.25 to 0.91, mostly large, or in a quarter 0.08 to 0.5; 0.9 to 1 without rim."""
    if kind == "oedema_only":
        return 0.0
    if kind == "non_enhancing" and rng.random() < 0.4:
        return rng.uniform(0.9, 1.0)
    return log_uniform(rng, 0.08, 0.5) if rng.random() < 0.25 else 1 - log_uniform(rng, 0.09, 0.75)


def _centres(rng: Generator, build: Build, count: int) -> list[Floats]:
    """Return `count` template positions; two thirds of those after the first are within 50 mm of it."""
    points = rng.uniform((-64, -100, -58), (64, 66, 74), (CANDIDATES, 3)).astype(np.float32)
    x, y, z = np.ascontiguousarray(points.T)
    found = tissues((x, y, z), outline((np.abs(x), y, z)), build, 2.0)
    supratentorial = found.cortex > np.where(rng.random(CANDIDATES) < 0.08, -99, 1)  # few below the tentorium
    weight = (found.white + 0.25 * found.grey) * (found.surface < -DEEPER_THAN_MM) * supratentorial
    weight = weight.astype(np.float64)
    centres: list[Floats] = []
    for number in range(count):
        near = weight
        if number and rng.random() < 2 / 3:
            gap = np.linalg.norm(points - centres[0], axis=1)
            near = weight * (gap > 12) * (gap < 50)
        if near.sum() == 0:
            near = weight
        centres.append(points[rng.choice(CANDIDATES, p=near / near.sum())])
    return centres
