"""Generator of realistic cases: four scans, label map and brain mask as a function of seed and index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from anymri.errors import ConfigurationError
from anymri.modalities import ALL, SUBSETS, Subset
from anymri.synthesis.anatomy import CSF, GREY, OUTSIDE, WHITE
from anymri.synthesis.realistic.acquisition import acquire, draw_acquisition
from anymri.synthesis.realistic.contrasts import draw_contrasts
from anymri.synthesis.realistic.cores import Texture
from anymri.synthesis.realistic.deformation import Deformation, draw_deformation, locate, push
from anymri.synthesis.realistic.lesions import Plan, draw_plans
from anymri.synthesis.realistic.mimics import draw_mimics
from anymri.synthesis.realistic.outline import HALF_EXTENT, MIDDLE, Outline, outline
from anymri.synthesis.realistic.scans import Head, signal
from anymri.synthesis.realistic.shapes import Points
from anymri.synthesis.realistic.space import Floats, Mask, Space, smooth_field, stream
from anymri.synthesis.realistic.stripping import WIDEST_MM, draw_stripping, strip
from anymri.synthesis.realistic.tissues import Tissues, draw_build, tissues
from anymri.synthesis.realistic.tumours import grow
from anymri.synthesis.realistic.vessels import draw_vessels

# Increased with every change of the cases of a seed.
VERSION = 4
EXTENT_MM = (160, 192, 160)
SPACING_MM = (1.0, 4.0)
SMALLEST = 16  # voxels per axis
COMPLETE = 0.4  # share of the cases with all four scans; the others have one of the 14 smaller subsets
SHARPEST_MM = 1.2  # width of the transition between two tissues
BUMPS_MM = (22.0, 10.0, 4.5)  # of the texture: coarse, middle, fine


@dataclass(frozen=True)
class SyntheticCase:
    """A synthetic case.

    images     modality -> (X, Y, Z) float32, all of `MODALITIES`; above 0 inside the brain mask, 0 outside
    labels     (X, Y, Z) uint8, the classes 0, NCR, ED and ET
    brain      (X, Y, Z) bool, what a skull stripping that makes mistakes keeps
    tissue     (X, Y, Z) uint8, CSF, GREY or WHITE before the tumour, OUTSIDE beyond the brain mask
    available  modalities that this case has: the others count as missing
    kind       kind of the tumour, see `lesions.KINDS`; "healthy" without one
    lesions    number of lesions planned
    spacing    side of a voxel in millimetres
    """

    images: dict[str, Floats]
    labels: NDArray[np.uint8]
    brain: Mask
    tissue: NDArray[np.uint8]
    available: Subset
    kind: str
    lesions: int
    spacing: float


def generate(
    seed: int,
    index: int,
    spacing: float = 2.0,
    shape: tuple[int, int, int] | None = None,
    easy: bool = False,
) -> SyntheticCase:
    """Return case `index` of the seed, a function of its arguments alone.

    spacing  side of a voxel in millimetres, 1 to 4; a case has the same brain and tumour on every grid of one extent
    shape    voxels per axis, 16 or more; by default 160x192x160 mm, which contains the whole brain
    easy     a case for the first hours of training: a large, clearly visible tumour and few mimics

    Raises `ConfigurationError` for a negative seed or index, and for a spacing or shape out of range.
    """
    space = _space(spacing, shape)
    if seed < 0 or index < 0:
        raise ConfigurationError(f"The seed {seed} or the index {index} is negative.", "Use 0 or more.")

    def concern(name: str) -> Generator:
        return stream(seed, index, name)

    build = draw_build(concern("build"))
    plans = draw_plans(concern("lesions"), build, easy)
    deformation = draw_deformation(concern("deformation"), space)
    placed = _place(plans, deformation, space)
    where, points, shapes = _voxels(deformation)
    healthy = tissues(points, shapes, build, max(spacing, SHARPEST_MM))
    rng = concern("texture")
    texture = Texture(*(smooth_field(rng, space, bump).ravel()[where] for bump in BUMPS_MM))
    kept, scalp = strip(draw_stripping(concern("stripping")), healthy, texture)
    position = space.positions(where)
    tumour = grow(concern("tumour"), placed, position, points, healthy, kept & ~scalp, texture, spacing)
    vessels = draw_vessels(concern("vessels"), points, healthy, texture, spacing, easy)
    mimics = draw_mimics(concern("mimics"), points, healthy, texture, easy)
    head = Head(healthy, tumour, vessels, mimics, texture, scalp.astype(np.float32))
    kind = plans[0].kind if plans else "healthy"
    contrasts = draw_contrasts(concern("contrasts"), kind, easy)
    brain = space.volume(kept, where, False)
    inside = where[kept]
    images = {}
    for modality, contrast in contrasts.items():
        rng = concern(modality)
        clean = space.volume(signal(rng, modality, contrast, head), where, contrast.csf)
        stored = acquire(rng, draw_acquisition(rng, space), clean, inside, -healthy.surface[kept], space)
        images[modality] = space.volume(stored, inside, 0)
    labels = space.volume(tumour.labels, where, 0)
    tissue = space.volume(np.where(kept, _most_frequent(healthy), np.uint8(OUTSIDE)), where, OUTSIDE)
    return SyntheticCase(images, labels, brain, tissue, _draw_subset(concern("missing")), kind, len(plans), spacing)


def _space(spacing: float, shape: tuple[int, int, int] | None) -> Space:
    if not SPACING_MM[0] <= spacing <= SPACING_MM[1]:
        raise ConfigurationError(f"A spacing of {spacing:g} mm is out of range.", "Use 1 to 4 mm.")
    if shape is None:
        x, y, z = (round(extent / spacing) for extent in EXTENT_MM)
        shape = (x, y, z)
    if len(shape) != 3 or min(shape) < SMALLEST:
        raise ConfigurationError(f"The shape {shape} is too small.", f"Use three sides of {SMALLEST} voxels or more.")
    return Space(shape, spacing)


def _place(plans: list[Plan], deformation: Deformation, space: Space) -> list[tuple[Plan, Floats]]:
    """Return the lesions with their centres in the volume, after pushing the tissue around them."""
    placed = [(plan, locate(deformation, space, plan.template)) for plan in plans]
    for plan, centre in placed:
        if plan.shift_mm > 0:
            push(deformation, space, centre, plan.push_radius * plan.radius_mm, plan.shift_mm)
    return placed


def _voxels(deformation: Deformation) -> tuple[NDArray[np.intp], Points, Outline]:
    """Return flat indices, template points and outline of the voxels that a brain mask may keep."""
    template = deformation.template.reshape(3, -1)
    level = np.float32(0)
    for line, middle, half in zip(template, MIDDLE, HALF_EXTENT, strict=True):
        level = level + np.square((line - np.float32(middle)) * np.float32(1 / (half + WIDEST_MM / 2)))
    where = np.flatnonzero(level < 1)
    points = (template[0][where], template[1][where], template[2][where])
    shape = outline((np.abs(points[0]), points[1], points[2]))
    near = np.flatnonzero(shape.whole < WIDEST_MM)
    return where[near], (points[0][near], points[1][near], points[2][near]), shape.select(near)


def _most_frequent(healthy: Tissues) -> NDArray[np.uint8]:
    brain = np.where(healthy.grey > healthy.white, np.uint8(GREY), np.uint8(WHITE))
    return np.where(healthy.csf > np.maximum(healthy.grey, healthy.white), np.uint8(CSF), brain)


def _draw_subset(rng: Generator) -> Subset:
    return ALL if rng.random() < COMPLETE else SUBSETS[int(rng.integers(len(SUBSETS) - 1))]
