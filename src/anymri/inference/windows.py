"""Run a network over a whole volume in overlapping windows.

Each window is encoded once and decoded for every subset; the decoded windows are blended where they overlap.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymri.data.prepared import Prepared
from anymri.errors import ConfigurationError
from anymri.inference.tiling import Place, Tiling, Windows
from anymri.modalities import MODALITIES, Subset
from anymri.progress import Progress, silent
from anymri.regions import OutputKind, to_label_map
from anymri.systems.contract import Prediction, System

_log = logging.getLogger(__name__)


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
    mirrored  spatial axes along which the windows were mirrored before
    """

    places: list[Place]
    encoding: Any
    mirrored: tuple[int, ...] = ()


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
        """Return the mean, (C, X, Y, Z) float32, on the voxels of the box of the case."""
        assert self.total is not None
        inside = self.tiling.inside
        return self.tiling.case.refined(self.total[(slice(None), *inside)].div_(self.tiling.sums[inside]))


@torch.inference_mode()
def encode_windows(system: System[Any], tiling: Tiling) -> Iterator[EncodedWindows]:
    """Yield the encodings of all windows of a case, computed on the system's device."""
    case, device = tiling.case, next(system.parameters()).device
    images = tiling.padded()
    origin = None
    if system.uses_crop_position:
        shift = torch.tensor([axis.start for axis in tiling.inside], device="cpu")
        origin = system.window_origin(torch.tensor(case.origin, device="cpu") - shift)
    for places in tiling.groups():
        crops = torch.stack([images[(slice(None), *place)] for place in places]).to(device)
        present = case.present.to(device).expand(len(places), -1)
        for axes in tiling.mirrorings:
            corners = None if origin is None else window_corners(places, origin, axes).to(device)
            yield EncodedWindows(places, system.encode(mirror(crops, axes), present, corners), axes)


def window_corners(places: Sequence[Place], origin: Tensor, mirrored: Sequence[int] = ()) -> Tensor:
    """Return the corners (B, 2, 3) int64 of windows in a volume whose first voxel is at `origin`.

    See `anymri.systems.batch.middle_corners`.

    mirrored  axes along which the windows are mirrored: their first voxel is the last one there
    """
    sides = [[[axis.start for axis in place], [axis.stop - 1 for axis in place]] for place in places]
    ends = torch.tensor(sides, device="cpu")
    for axis in mirrored:
        ends[..., axis] = ends[..., axis].flip(1)
    return ends + origin


def mirror(volumes: Tensor, axes: Sequence[int]) -> Tensor:
    """Return volumes (..., X, Y, Z) mirrored along spatial axes; the tensor as it is for no axis."""
    return volumes.flip([axis - 3 for axis in axes]) if axes else volumes


class SubsetDecoder:
    """Decoder of the windows of one case for one subset.

    reconstruct  also reconstruct the modalities that are missing from the subset
    """

    def __init__(self, system: System[Any], tiling: Tiling, subset: Subset, reconstruct: bool) -> None:
        self.system = system
        self.subset = subset
        self.missing = [m for m in MODALITIES if m not in subset] if reconstruct else []
        self.blends_logits = tiling.blends_logits
        self.temperature = tiling.temperature(subset)
        self.blend = Blend(tiling)

    @torch.inference_mode()
    def add(self, encoded: EncodedWindows) -> None:
        """Decode windows and add them to the volume."""
        device = encoded.encoding.present.device
        available = self.subset.as_tensor(len(encoded.places)).to(device)
        prediction = self.system.decode(encoded.encoding, available, reconstruct=bool(self.missing))
        if self.temperature != 1:
            prediction.logits = prediction.logits / self.temperature
        values = prediction.logits if self.blends_logits else prediction.probabilities()
        if prediction.reconstruction is not None:
            values = torch.cat([values, prediction.reconstruction[:, ~available[0]]], dim=1)
        self.blend.add(encoded.places, mirror(values, encoded.mirrored))

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
    system: System[Any],
    case: Prepared,
    subsets: Sequence[Subset],
    windows: Windows,
    reconstruct: bool = False,
    progress: Progress = silent,
) -> list[VolumePrediction]:
    """Return the prediction for each subset; each window is encoded once for all of them.

    progress     called with "window", and how many of how many windows are done
    reconstruct  also reconstruct the modalities that are missing from each subset; raises `ConfigurationError` if the
                 system cannot
    """
    if reconstruct:
        check_reconstructs(system)
    tiling = Tiling(system, case, windows)
    _log.info("%d windows of %s voxels, %d subsets", len(tiling.places), "x".join(map(str, tiling.sides)), len(subsets))
    decoders = [SubsetDecoder(system, tiling, subset, reconstruct) for subset in subsets]
    with system.folded_weights():
        done, total = 0, len(tiling.mirrorings) * len(tiling.places)
        progress("window", done, total)
        for encoded in encode_windows(system, tiling):
            for decoder in decoders:
                decoder.add(encoded)
            done += len(encoded.places)
            progress("window", done, total)
    return [decoder.result() for decoder in decoders]


def check_reconstructs(system: System[Any]) -> None:
    """Raise `ConfigurationError` if the system cannot reconstruct images."""
    if not system.reconstructs:
        raise ConfigurationError(
            f"These weights of {type(system).__name__} cannot reconstruct images: they have no image decoders.",
            "Leave out the metrics of reconstructed scans, or use weights with image decoders, as the published "
            "recipes of u_hved, ra_hved, xlstm_hved, robust_mseg and sfusion train them.",
        )
