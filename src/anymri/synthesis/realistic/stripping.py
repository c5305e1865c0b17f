"""Skull stripping with its mistakes: which voxels a brain mask keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from anymri.synthesis.realistic.cores import Texture
from anymri.synthesis.realistic.space import Floats, Mask
from anymri.synthesis.realistic.tissues import Tissues

MARGIN_MM = (-1.0, 1.5)  # of fluid around the brain; negative where most of it is cut off
# Share of the masks that cut into the brain, leave too much, or leave pieces of scalp and marrow.
TOO_TIGHT, TIGHT_MM = 0.25, (0.5, 4.0)
TOO_WIDE, WIDE_MM = 0.2, (1.0, 3.0)
REMNANTS, REMNANT_MM = 0.12, (2.0, 5.0)
UNEVEN_MM = 1.0  # largest standard deviation of the margin over the surface
WIDEST_MM = 10.0  # no mask reaches further


@dataclass(frozen=True)
class Stripping:
    """One brain mask.

    margin_mm   how far it reaches beyond the outline of the brain; negative where it cuts
    uneven_mm   standard deviation of that over the surface
    remnant_mm  thickness of pieces of scalp and marrow; 0 without any
    """

    margin_mm: float
    uneven_mm: float
    remnant_mm: float


def draw_stripping(rng: Generator) -> Stripping:
    """Return a good mask (about half), or one with a mistake."""
    margin = rng.uniform(*MARGIN_MM)
    draw = rng.random()
    if draw < TOO_TIGHT:
        margin -= rng.uniform(*TIGHT_MM)
    elif draw < TOO_TIGHT + TOO_WIDE:
        margin += rng.uniform(*WIDE_MM)
    remnant = rng.uniform(*REMNANT_MM) if rng.random() < REMNANTS else 0.0
    return Stripping(margin, rng.uniform(0.2, UNEVEN_MM), remnant)


def strip(stripping: Stripping, healthy: Tissues, texture: Texture) -> tuple[Mask, Mask]:
    """Return which of N voxels are kept, and which of these are scalp or marrow instead of brain."""
    beyond = healthy.surface - np.float32(stripping.margin_mm)
    beyond -= np.float32(stripping.uneven_mm) * np.clip(texture.middle, -2, 2)
    brain = beyond < 0
    if not stripping.remnant_mm:
        return brain, np.zeros_like(brain)
    patches: Floats = (texture.coarse - np.float32(1.0)) * 2
    remnants = ~brain & (beyond < stripping.remnant_mm * np.clip(patches, 0, 1))
    return brain | remnants, remnants
