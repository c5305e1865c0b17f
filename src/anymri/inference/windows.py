"""Run a network over a whole volume in overlapping windows.

Each window is encoded once and decoded for every subset; the decoded windows are blended where they overlap. By default
the positions and weights of windows are those of MONAI's `sliding_window_inference`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymri.data.prepared import Prepared
from anymri.errors import ConfigurationError
from anymri.modalities import MODALITIES, Subset
from anymri.regions import OutputKind, to_label_map
from anymri.systems.contract import Prediction, System
from anymri.systems.crops import Sides
from anymri.weights.card import WeightsCard

# Small windows go through the network together: on a CPU torch's fast convolutions want several at once.
VOXELS_PER_PASS = 128**3
# Standard deviation of the Gaussian weights, as a share of the window's side, and their smallest value in MONAI.
GAUSSIAN_SIGMA = 0.125
SMALLEST_WEIGHT = 1e-3

Place = tuple[slice, slice, slice]


class Windows(NamedTuple):
    """Layout of the windows over a volume; volumes shorter than a window are padded with the background.

    sides     voxels along x, y and z, where the system does not fix them
    overlap   share of a window that its neighbour covers
    blending  weights of the voxels of a window: `gaussian` or `gaussian_nnunet`, highest in its middle, or `constant`
    values    what is averaged where windows overlap: `probabilities` or `logits`
    steps     distance of windows: rounded `down` or `up`, or `equal`; see `Recipe.window_steps`
    """

    sides: Sides
    overlap: float
    blending: str = "gaussian"
    values: str = "probabilities"
    steps: str = "down"

    @classmethod
    def of(cls, card: WeightsCard) -> Self:
        """Return the windows that the card of weights names."""
        return cls(card.window, card.window_overlap, card.window_blending, card.window_values, card.window_steps)


@dataclass
class VolumePrediction:
    """The prediction for one subset on a whole volume, on the CPU.

    probabilities  (K, X, Y, Z) float32 in 0..1, in the box of the prepared case
    kind           meaning of the K channels, see `anymri.systems.contract.Prediction`
    reconstructed  missing modality -> (X, Y, Z) float32, in the units of the network's input; empty unless requested
    logits         (K, X, Y, Z) float32, where windows were averaged as logits
    """

    probabilities: Tensor
    kind: OutputKind
    reconstructed: dict[str, Tensor]
    logits: Tensor | None = None

    def label_map(self) -> NDArray[np.uint8]:
        """Return the classes, (X, Y, Z) uint8, in the box of the prepared case."""
        classes: NDArray[np.uint8] = to_label_map(self.probabilities, self.kind).numpy()
        return classes


@dataclass
class EncodedWindows:
    """Encoding of the windows that went through the network together.

    places    position of each window in the padded volume
    encoding  their encoding, one sample per window
    """

    places: list[Place]
    encoding: Any


class Tiling:
    """Positions and weights of the windows that cover one prepared case.

    places  position of each window in the padded volume
    inside  position of the case's box in the padded volume
    """

    def __init__(self, system: System[Any], case: Prepared, windows: Windows) -> None:
        self.sides = system.crop or windows.sides
        self.blends_logits = windows.values == "logits"
        sides = case.images.shape[1:]
        padded = [max(pair) for pair in zip(sides, self.sides, strict=True)]
        x, y, z = (slice((p - s) // 2, (p - s) // 2 + s) for s, p in zip(sides, padded, strict=True))
        self.inside: Place = (x, y, z)
        self.shape = torch.Size(padded)
        starts = [window_starts(*axis, windows.overlap, windows.steps) for axis in zip(padded, self.sides, strict=True)]
        a, b, c = self.sides
        self.places: list[Place] = [(slice(i, i + a), slice(j, j + b), slice(k, k + c)) for i, j, k in product(*starts)]
        self.weights = window_weights(self.sides, windows.blending)
        self.sums = torch.zeros(self.shape, device="cpu")
        for place in self.places:
            self.sums[place] += self.weights

    def groups(self) -> Iterator[list[Place]]:
        """Yield the places of windows that go through the network together."""
        size = max(1, VOXELS_PER_PASS // prod(self.sides))
        for first in range(0, len(self.places), size):
            yield self.places[first : first + size]

    def padded(self, case: Prepared) -> Tensor:
        """Return the images (M, X, Y, Z), at least as large as a window, with the background around them."""
        if self.shape == case.images.shape[1:]:
            return case.images
        padded = case.background[:, None, None, None].repeat(1, *self.shape)
        padded[(slice(None), *self.inside)] = case.images
        return padded


class Blend:
    """Weighted mean of decoded windows."""

    def __init__(self, tiling: Tiling) -> None:
        self.tiling = tiling
        self.total: Tensor | None = None

    def add(self, places: Sequence[Place], values: Tensor) -> None:
        """Add windows: values (B, C, X, Y, Z), one sample per place; they are overwritten."""
        weighted = values.mul_(self.tiling.weights.to(values.device)).to("cpu")
        if self.total is None:
            self.total = torch.zeros(values.shape[1], *self.tiling.shape, device="cpu")
        for place, window in zip(places, weighted, strict=True):
            self.total[(slice(None), *place)] += window

    def result(self) -> Tensor:
        """Return the mean, (C, X, Y, Z) float32, in the box of the case."""
        assert self.total is not None
        inside = self.tiling.inside
        return self.total[(slice(None), *inside)].div_(self.tiling.sums[inside])


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


@torch.inference_mode()
def encode_windows(system: System[Any], case: Prepared, tiling: Tiling) -> Iterator[EncodedWindows]:
    """Yield the encodings of all windows of a case, computed on the system's device."""
    device = next(system.parameters()).device
    images = tiling.padded(case)
    origin = None
    if system.uses_crop_position:
        shift = torch.tensor([axis.start for axis in tiling.inside], device="cpu")
        origin = system.window_origin(torch.tensor(case.origin, device="cpu") - shift)
    for places in tiling.groups():
        crops = torch.stack([images[(slice(None), *place)] for place in places]).to(device)
        corners = None if origin is None else window_corners(places, origin).to(device)
        present = case.present.to(device).expand(len(places), -1)
        yield EncodedWindows(places, system.encode(crops, present, corners))


def window_corners(places: Sequence[Place], origin: Tensor) -> Tensor:
    """Return the corners (B, 2, 3) int64 of windows in a volume whose first voxel is at `origin`.

    See `anymri.systems.batch.middle_corners`.
    """
    ends = [[[axis.start for axis in place], [axis.stop - 1 for axis in place]] for place in places]
    return torch.tensor(ends, device="cpu") + origin


class SubsetDecoder:
    """Decoder of the windows of one case for one subset.

    reconstruct  also reconstruct the modalities that are missing from the subset
    """

    def __init__(self, system: System[Any], tiling: Tiling, subset: Subset, reconstruct: bool) -> None:
        self.system = system
        self.subset = subset
        self.missing = [m for m in MODALITIES if m not in subset] if reconstruct else []
        self.blends_logits = tiling.blends_logits
        self.blend = Blend(tiling)

    @torch.inference_mode()
    def add(self, encoded: EncodedWindows) -> None:
        """Decode windows and add them to the volume."""
        device = encoded.encoding.present.device
        available = self.subset.as_tensor(len(encoded.places)).to(device)
        prediction = self.system.decode(encoded.encoding, available, reconstruct=bool(self.missing))
        values = prediction.logits if self.blends_logits else prediction.probabilities()
        if prediction.reconstruction is not None:
            values = torch.cat([values, prediction.reconstruction[:, ~available[0]]], dim=1)
        self.blend.add(encoded.places, values)

    @torch.inference_mode()
    def result(self) -> VolumePrediction:
        """Return the prediction on the volume."""
        values = self.blend.result()
        channels = self.system.out_channels
        reconstructed = dict(zip(self.missing, values[channels:], strict=True))
        kind, blended = self.system.output_kind, values[:channels]
        if not self.blends_logits:
            return VolumePrediction(blended, kind, reconstructed)
        probabilities = Prediction(blended[None], kind).probabilities()[0]
        return VolumePrediction(probabilities, kind, reconstructed, logits=blended)


def predict(
    system: System[Any], case: Prepared, subsets: Sequence[Subset], windows: Windows, reconstruct: bool = False
) -> list[VolumePrediction]:
    """Return the prediction for each subset; each window is encoded once for all of them.

    reconstruct  also reconstruct the modalities that are missing from each subset; raises `ConfigurationError` if the
                 system cannot
    """
    if reconstruct:
        check_reconstructs(system)
    tiling = Tiling(system, case, windows)
    decoders = [SubsetDecoder(system, tiling, subset, reconstruct) for subset in subsets]
    with system.folded_weights():
        for encoded in encode_windows(system, case, tiling):
            for decoder in decoders:
                decoder.add(encoded)
    return [decoder.result() for decoder in decoders]


def check_reconstructs(system: System[Any]) -> None:
    """Raise `ConfigurationError` if the system cannot reconstruct images."""
    if not system.reconstructs:
        raise ConfigurationError(
            f"These weights of {type(system).__name__} cannot reconstruct images: they have no image decoders.",
            "Leave out the metrics of reconstructed scans, or use weights with image decoders, as the published "
            "recipes of u_hved, ra_hved, xlstm_hved, robust_mseg and sfusion train them.",
        )
