"""Crops by their sides along x, y and z in voxels, written as one number for a cube or as 128x192x128."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

LONGEST_SIDE = 512

Sides = tuple[int, int, int]


def as_sides(crop: int | str | Sequence[int]) -> Sides:
    """Return the sides of a crop: of one number, a text such as 128x192x128, or three numbers.

    Raises `ValueError` for anything else.
    """
    parts: Any = crop.lower().split("x") if isinstance(crop, str) else crop
    sides = list(parts) if isinstance(parts, Sequence) else [parts]
    if len(sides) == 1:
        sides *= 3
    try:
        x, y, z = (int(side) for side in sides if not isinstance(side, bool | float))
    except (TypeError, ValueError) as error:
        raise ValueError("give a number of voxels, or three as in 128x192x128") from error
    if not 1 <= min(x, y, z) <= max(x, y, z) <= LONGEST_SIDE:
        raise ValueError(f"sides of a crop have 1 to {LONGEST_SIDE} voxels")
    return x, y, z


def plain(sides: Sides) -> int | str:
    """Return sides as they are written: one number for a cube, otherwise 128x192x128."""
    return sides[0] if len(set(sides)) == 1 else "x".join(map(str, sides))


def in_words(sides: Sides) -> str:
    """Return sides in words: a cube of 64 voxels, a box of 128x192x128 voxels."""
    return f"a {'cube' if len(set(sides)) == 1 else 'box'} of {plain(sides)} voxels"


# Field of a model, or argument of a network: any form that `as_sides` takes, written as `plain`.
Crop = Annotated[Sides, BeforeValidator(as_sides), PlainSerializer(plain)]
