"""Mimics of tumours on FLAIR and T2: white-matter lesions, periventricular caps, flow and rims in the ventricles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from anymri.synthesis.realistic.cores import Texture
from anymri.synthesis.realistic.shapes import Points
from anymri.synthesis.realistic.space import Floats
from anymri.synthesis.realistic.tissues import Tissues

# Share of the cases with each mimic; a quarter of it in easy cases.
SPOTS, CAPS, DEEP_WHITE, RIMS, FLOW = 0.4, 0.35, 0.2, 0.4, 0.3


@dataclass(frozen=True)
class Mimics:
    """Shares (N,) of 0 to 1.

    white_lesions  damaged white matter, bright on FLAIR and T2
    rims           lining of the ventricles, bright on FLAIR
    flow           fluid in motion, bright on FLAIR, dark on T2
    """

    white_lesions: Floats
    rims: Floats
    flow: Floats


def draw_mimics(rng: Generator, points: Points, healthy: Tissues, texture: Texture, easy: bool) -> Mimics:
    """Return the mimics at template points: both sides alike, as in patients.

    points  x to the left, y to the front, z up, each (N,), in millimetres
    """
    rarity = 0.25 if easy else 1.0
    lesions = np.zeros_like(healthy.csf)
    near = healthy.to_ventricle
    if rng.random() < SPOTS * rarity:
        # Small, or else they would be lesions without a label.
        spots = texture.fine + np.float32(0.4) * texture.coarse - np.float32(rng.uniform(1.9, 2.8))
        lesions = np.maximum(lesions, np.clip(spots * 2, 0, 1))
    if rng.random() < CAPS * rarity:
        tips = np.maximum(np.abs(points[1] + 8) - 26, 0) * np.float32(1 / 14)  # horns, in front and behind
        width = np.float32(rng.uniform(1.5, 5)) * (np.float32(0.3) + np.minimum(tips, 1))
        lesions = np.maximum(lesions, np.clip((width - near) * np.float32(0.4) + np.float32(0.2) * texture.fine, 0, 1))
    if rng.random() < DEEP_WHITE * rarity:
        extent = np.float32(rng.uniform(4, 12)) + texture.coarse  # both sides alike, never a lump on one
        patch = np.clip((extent - near) * np.float32(0.15), 0, 1) * np.clip(1 + np.float32(0.5) * texture.middle, 0, 1)
        lesions = np.maximum(lesions, patch * np.float32(rng.uniform(0.3, 0.8)))
    lesions = lesions * np.clip(healthy.white * 1.5 - 0.3, 0, 1)
    rims = np.zeros_like(lesions)
    if rng.random() < RIMS * rarity:
        rims = np.clip(1 - np.abs(near - np.float32(0.5)) * np.float32(1 / rng.uniform(0.8, 2)), 0, 1)
    flow = np.zeros_like(lesions)
    if rng.random() < FLOW * rarity:
        below = np.clip((-points[2] + np.float32(rng.uniform(-20, 15))) * np.float32(0.1), 0, 1)
        streaks = np.clip(texture.middle + np.float32(rng.uniform(-1, 0.5)), 0, 1)
        flow = healthy.csf * np.maximum(below * np.float32(0.6), streaks)
    return Mimics(lesions.astype(np.float32), rims.astype(np.float32), flow.astype(np.float32))
