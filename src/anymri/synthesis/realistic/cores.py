"""Cores of tumours: enhancing rims, solid and patchy enhancement, necrosis, cysts and blood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from anymri.regions import ET, NCR
from anymri.synthesis.realistic.lesions import Plan
from anymri.synthesis.realistic.space import Floats, Mask, log_uniform

UNREACHABLE = np.float32(99)
RINGS = ("ring", "cystic", "haemorrhagic")  # kinds with necrosis in the middle
GAPS = 0.4  # share of the rims with gaps
NODULES = 0.5  # share of the non-enhancing tumours with small enhancing nodules
# Share of necrosis in the core, log-uniform.
NECROSIS = {
    "ring": (0.15, 0.9),
    "haemorrhagic": (0.25, 0.9),
    "cystic": (0.75, 0.95),
    "patchy": (0.2, 0.75),
    "solid": (0.005, 0.08),
    "non_enhancing": (0.88, 0.98),
}


@dataclass(frozen=True)
class Texture:
    """Random fields at the voxels (N,), mean 0 and variance 1, with bumps of 22, 10 and 4.5 mm."""

    coarse: Floats
    middle: Floats
    fine: Floats


@dataclass(frozen=True)
class Core:
    """Core at N voxels: labels 0, NCR and ET; shares 0 to 1 of the core, and of necrosis and blood in it."""

    labels: NDArray[np.uint8]
    core: Floats
    necrosis: Floats
    blood: Floats


def draw_core(
    rng: Generator,
    plan: Plan,
    offset: Floats,
    whole: Mask,
    level: Floats,
    resists: Floats,
    local: Texture,
    spacing: float,
) -> Core:
    """Return the core of one lesion.

    offset   (3, N) from the centre of the lesion in millimetres
    whole    (N,) voxels of the whole tumour
    level    (N,) 0 in the middle of the whole tumour, 1 at its edge
    resists  (N,) resistance of the tissue
    """
    share = plan.core_share
    radius = plan.radius_mm * share ** (1 / 3)
    shift = rng.normal(0, 0.2 * plan.radius_mm * (1 - share), 3).astype(np.float32)
    rough = 0.4 if plan.kind == "cystic" else 1.0
    inner = ellipsoid_level(ellipsoid_axes(rng, 0.18), offset - shift[:, None]) * np.float32(1 / radius)
    inner += np.float32(rough * rng.uniform(0.1, 0.35)) * local.middle
    inner += np.float32(rough * rng.uniform(0, 0.15)) * local.fine + np.float32(0.15) * resists
    # At the edge of the tumour there is oedema, unless the core is nearly all of it.
    inner += np.float32(2 * (1 - share)) * np.maximum(level - np.float32(0.9), 0)
    inner[~whole] = UNREACHABLE
    limit = value_of_smallest(inner, share * float(whole.sum()))
    inside = inner <= limit
    core: Floats = np.clip((limit - inner) * np.float32(radius / (0.8 * spacing)) + np.float32(0.5), 0, 1)
    necrosis = _necrosis(rng, plan.kind, inner / max(limit, np.float32(1e-3)), inside, local)
    labels = np.where(necrosis > 0.5, np.uint8(NCR), np.uint8(ET)) * inside
    blood = np.zeros_like(core)
    if plan.kind == "haemorrhagic":
        blood = np.clip(local.middle + np.float32(0.3) * local.fine + np.float32(0.2), 0, 1) * core
    return Core(labels.astype(np.uint8), core, necrosis, blood)


def _necrosis(rng: Generator, kind: str, level: Floats, inside: Mask, local: Texture) -> Floats:
    """Return the share of necrosis at each voxel, 0 (enhancing) to 1; `level` is 1 at the edge of the core."""
    share = log_uniform(rng, *NECROSIS[kind])
    if kind == "non_enhancing" and rng.random() > NODULES:
        return np.ones_like(level)
    value = _order_of_decay(rng, kind, level, local)
    value[~inside] = UNREACHABLE
    count = share * float(inside.sum())
    limit = value_of_smallest(value, count) if count >= 1 else value.min() - np.float32(1)
    steepness = np.float32(6 if kind in RINGS else 3)
    necrosis: Floats = np.clip((limit - value) * steepness + np.float32(0.5), 0, 1)
    return necrosis


def _order_of_decay(rng: Generator, kind: str, level: Floats, local: Texture) -> Floats:
    """Return values of which the smallest are necrotic: from the middle outwards, or in lumps."""
    if kind not in RINGS:
        lumps, grain = (local.fine, local.middle) if kind == "patchy" else (local.middle, local.fine)
        return np.asarray(lumps + np.float32(0.4) * grain, dtype=np.float32)
    roughness = np.float32(0.5 if kind == "cystic" else 1)
    grain = np.float32(0.18) * local.middle + np.float32(rng.uniform(0.08, 0.25)) * local.fine
    value = np.asarray(level + roughness * grain, dtype=np.float32)
    if rng.random() < GAPS:
        value -= np.float32(1.5) * np.maximum(local.coarse - np.float32(rng.uniform(0.4, 1.2)), 0)
    return value


def ellipsoid_axes(rng: Generator, spread: float) -> Floats:
    """Return the matrix (3, 3) of an ellipsoid of volume 1: random directions, axes e^N(0, spread)."""
    directions = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    axes = rng.normal(0, spread, 3)
    return np.asarray(np.exp(axes - axes.mean())[:, None] * directions, dtype=np.float32)


def ellipsoid_level(axes: Floats, offset: Floats) -> Floats:
    """Return the level (N,) of offsets (3, N): 0 in the middle, 1 on an ellipsoid of the volume of the unit sphere."""
    turned = axes @ offset
    level: Floats = np.sqrt(np.einsum("ij,ij->j", turned, turned))
    return level


def value_of_smallest(values: Floats, count: float) -> np.float32:
    """Return the value that `count` of the values do not exceed, at least one of them."""
    last = int(np.clip(round(count), 1, len(values))) - 1
    return np.float32(np.partition(values, last)[last])
