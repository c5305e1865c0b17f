"""Layout of the windows over a volume: their sides, positions and weights.

By default the positions and weights are those of MONAI's `sliding_window_inference`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from math import ceil, prod
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from anymri.data.prepared import Prepared
from anymri.inference.choices import AXES
from anymri.modalities import Subset
from anymri.systems.contract import System
from anymri.systems.crops import Sides
from anymri.weights.card import WeightsCard

# Small windows go through the network together. On a CPU as few as keep it busy: the features of more do not fit into
# its caches (u_hved, windows of 64^3: two take a tenth longer than one after the other, and 15 % more memory).
VOXELS_PER_PASS = 64**3
VOXELS_PER_PASS_OF_GPU = 128**3
# Standard deviation of the Gaussian weights, as a share of the window's side, and their smallest value in MONAI.
GAUSSIAN_SIGMA = 0.125
SMALLEST_WEIGHT = 1e-3
# Largest window that is fitted to a volume, in voxels of the windows on the card: its memory grows as much.
LARGEST_FITTED = 2

Place = tuple[slice, slice, slice]


class Windows(NamedTuple):
    """Layout of the windows over a volume, and how their logits become probabilities.

    Volumes shorter than a window are padded with the background.

    sides         voxels along x, y and z, where the system does not fix them
    overlap       share of a window that its neighbour covers
    blending      weights of the voxels of a window: `gaussian` or `gaussian_nnunet`, highest in its middle, or
                  `constant`
    values        what is averaged where windows overlap: `probabilities` or `logits`
    steps         distance of windows: rounded `down` or `up`, or `equal`; see `Recipe.window_steps`
    fitted        whether the sides are fitted to the volume; see `Recipe.window_fitted`
    temperatures  subset -> number by which its logits are divided; see `WeightsCard.temperatures`
    mirrored      axes along which windows are mirrored too; see `WeightsCard.mirrored`
    """

    sides: Sides
    overlap: float
    blending: str = "gaussian"
    values: str = "probabilities"
    steps: str = "down"
    fitted: bool = False
    temperatures: Mapping[str, float] = {}
    mirrored: str = ""

    @classmethod
    def of(cls, card: WeightsCard) -> Self:
        """Return the windows that the card of weights names."""
        return cls(
            card.window,
            card.window_overlap,
            card.window_blending,
            card.window_values,
            card.window_steps,
            card.window_fitted,
            card.temperatures,
            card.mirrored,
        )

    def starts(self, sides: Sides) -> tuple[list[int], list[int], list[int]]:
        """Return the first voxels of the windows along each axis of a volume that is at least as long as a window."""
        x, y, z = (window_starts(*axis, self.overlap, self.steps) for axis in zip(sides, self.sides, strict=True))
        return x, y, z

    def fitted_to(self, box: Sides, system: System[Any]) -> Windows:
        """Return the windows for a volume of `box` voxels, with the sides that the system takes."""
        if system.crop is not None or not self.fitted:
            return self._replace(sides=system.crop or self.sides)
        whole = system.covering_crop(box)
        count = prod(map(len, self.starts(longer(box, self.sides))))
        if prod(whole) <= min(LARGEST_FITTED, count) * prod(self.sides):
            return self._replace(sides=whole)
        x, y, z = map(min, whole, self.sides)
        return self._replace(sides=(x, y, z))


class Tiling:
    """Positions and weights of the windows that cover one prepared case.

    case        the case
    places      position of each window in the padded volume
    inside      position of the case's images in the padded volume
    mirrorings  each set of axes along which all windows are mirrored, the empty one first
    """

    def __init__(self, system: System[Any], case: Prepared, windows: Windows) -> None:
        self.case = case
        a, b, c = case.images.shape[1:]
        windows = windows.fitted_to((a, b, c), system)
        self.sides = windows.sides
        self.blends_logits = windows.values == "logits"
        self._temperatures = windows.temperatures
        self._on_cpu = next(system.parameters()).device.type == "cpu"
        padded = longer((a, b, c), self.sides)
        x, y, z = (slice((p - s) // 2, (p - s) // 2 + s) for s, p in zip((a, b, c), padded, strict=True))
        self.inside: Place = (x, y, z)
        self.shape = torch.Size(padded)
        a, b, c = self.sides
        self.places: list[Place] = [
            (slice(i, i + a), slice(j, j + b), slice(k, k + c)) for i, j, k in product(*windows.starts(padded))
        ]
        self.weights = window_weights(self.sides, windows.blending)
        self.mirrorings = mirrorings(windows.mirrored)
        self.sums = torch.zeros(self.shape, device="cpu")
        for place in self.places:
            self.sums[place] += len(self.mirrorings) * self.weights

    def temperature(self, subset: Subset) -> float:
        """Return the number by which the logits of a subset are divided."""
        return self._temperatures.get(str(subset), 1.0)

    def groups(self) -> Iterator[list[Place]]:
        """Yield the places of windows that go through the network together."""
        size = max(1, (VOXELS_PER_PASS if self._on_cpu else VOXELS_PER_PASS_OF_GPU) // prod(self.sides))
        for first in range(0, len(self.places), size):
            yield self.places[first : first + size]

    def padded(self) -> Tensor:
        """Return the images (M, X, Y, Z), at least as large as a window, with the background around them."""
        if self.shape == self.case.images.shape[1:]:
            return self.case.images
        padded = self.case.background[:, None, None, None].repeat(1, *self.shape)
        padded[(slice(None), *self.inside)] = self.case.images
        return padded


def mirrorings(flips: str) -> list[tuple[int, ...]]:
    """Return every set of axes among `flips`, as "xz", the empty one first."""
    axes = [AXES.index(letter) for letter in flips]
    return [each for count in range(len(axes) + 1) for each in combinations(axes, count)]


def longer(first: Sides, second: Sides) -> Sides:
    """Return the longer of two sides on each axis."""
    x, y, z = map(max, first, second)
    return x, y, z


def window_starts(length: int, side: int, overlap: float, steps: str = "down") -> list[int]:
    """Return the first voxel of each window along an axis of `length` voxels; the last window ends with the axis."""
    last, step = length - side, side * (1 - overlap)
    if steps == "equal":
        count = ceil(last / step)
        return [round(number * last / count) for number in range(count + 1)] if count else [0]
    # Two thirds of 120 are 80.00000000000001.
    whole = ceil(round(step, 6)) if steps == "up" else int(step)
    return [*range(0, last, max(1, whole)), last]


def window_weights(sides: Sides, blending: str) -> Tensor:
    """Return the weights of the voxels of a window, (X, Y, Z) float32."""
    if blending == "constant":
        return torch.ones(sides, device="cpu")
    nnunet = blending == "gaussian_nnunet"
    lines = []
    for side in sides:
        x = torch.arange(side, device="cpu") - (side // 2 if nnunet else (side - 1) / 2)
        lines.append(torch.exp(x**2 / (-2 * (GAUSSIAN_SIGMA * side) ** 2)))
    weights = lines[0][:, None, None] * lines[1][:, None] * lines[2]
    if nnunet:  # the weights of its half-precision accumulation, which has no smaller ones
        weights = (10 * weights).half().float()
        return weights.clamp(min=float(weights[weights > 0].min()))
    return weights.clamp(min=max(float(weights.min()), SMALLEST_WEIGHT))
