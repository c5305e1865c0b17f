"""The lane `openvino`: the graphs of a system, computed by OpenVINO on the CPU in float32."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymri._version import __version__
from anymri.errors import ConfigurationError, OutputError
from anymri.files import cache_folder, digest
from anymri.graphs.formats import OPENVINO, SUFFIXES
from anymri.graphs.openvino_model import CompiledGraph
from anymri.graphs.parts import AVAILABLE, CORNERS, DECODER, IMAGE, IMAGES, NETWORK, encoder_name, feature_name
from anymri.inference.choices import OPENVINO_PACKAGES
from anymri.layers.streams import Outputs, encode_existing
from anymri.systems.computation import Computation, computed_by
from anymri.systems.contract import Encoding, Prediction, System
from anymri.systems.crops import Sides
from anymri.systems.streams import StreamSystem

if TYPE_CHECKING:
    from anymri.weights.card import WeightsCard

Array = NDArray[np.generic]


@dataclass
class GraphEncoding(Encoding):
    """Outputs of the encoders' graphs.

    images    (B, M, X, Y, Z) as given
    corners   (B, 2, 3) as given, for systems that use it
    features  per modality its features, (B, ...) each, zero in samples without it; None for a modality that no sample
              has. Empty for a system whose one graph computes everything from the images
    """

    images: Tensor
    corners: Tensor | None
    features: Outputs


def obstacle(device: torch.device, card: WeightsCard) -> str | None:
    """Return what prevents the lane on a device for weights, as a sentence; None if nothing does."""
    if card.window_fitted:
        return "The lane openvino needs windows of fixed sides, and these weights fit theirs to each volume."
    return obstacle_of_device(device)


def obstacle_of_device(device: torch.device) -> str | None:
    """Return what prevents the lane on a device for any weights, as a sentence; None if nothing does."""
    if device.type != "cpu":
        return f"The lane openvino computes on the CPU, not on {device}."
    if missing := [name for name in OPENVINO_PACKAGES if find_spec(name) is None]:
        return f"The lane openvino needs {', '.join(missing)}, which pip install 'anymri[export]' installs."
    return None


class OpenVINO(Computation):
    """Computation by graphs, which are kept in the cache folder and made again where it cannot be written."""

    def __init__(self, card: WeightsCard, checksum: str) -> None:
        self._card = card
        self._checksum = checksum
        self._graphs: dict[Sides, dict[str, CompiledGraph]] = {}

    def encode(self, system: System[Any], images: Tensor, present: Tensor, corners: Tensor | None) -> GraphEncoding:
        """Return the encoding; the encoder of a modality runs for the samples that have it."""
        features: Outputs = []
        if isinstance(system, StreamSystem):
            graphs = self._compiled(system, images)
            encoders = {name: partial(_encoded, graphs[encoder_name(name)]) for name in system.modalities}
            features = encode_existing(encoders, images, present)
        return GraphEncoding(present, images, corners, features)

    def decode(self, system: System[Any], encoding: GraphEncoding, available: Tensor, reconstruct: bool) -> Prediction:
        """Return the prediction; raise `ConfigurationError` for a reconstruction."""
        if reconstruct:
            raise ConfigurationError("The lane openvino does not reconstruct images.", "Use the lane torch for them.")
        graphs = self._compiled(system, encoding.images)
        graph = graphs[DECODER if encoding.features else NETWORK]
        blank = {name: np.zeros(shape, np.float32) for name, shape in graph.shapes.items()}
        logits = []
        for sample in range(len(available)):
            one = slice(sample, sample + 1)
            inputs: dict[str, Array] = {
                **blank,
                AVAILABLE: available[one].numpy(),
                IMAGES: encoding.images[one].numpy(),
            }
            if encoding.corners is not None:
                inputs[CORNERS] = encoding.corners[one].numpy()
            for modality, features in zip(system.modalities, encoding.features, strict=False):
                for number, feature in enumerate(features or []):
                    inputs[feature_name(modality, number)] = feature[one].numpy()
            logits.append(torch.from_numpy(graph(inputs)[0]))
        return Prediction(torch.cat(logits), system.output_kind)

    def _compiled(self, system: System[Any], images: Tensor) -> dict[str, CompiledGraph]:
        """Return name -> graph for windows of the sides of `images`."""
        x, y, z = images.shape[2:]
        if (x, y, z) not in self._graphs:
            self._graphs[x, y, z] = self._load(system, (x, y, z))
        return self._graphs[x, y, z]

    def _load(self, system: System[Any], sides: Sides) -> dict[str, CompiledGraph]:
        versions = {name: version(name) for name in ("torch", *OPENVINO_PACKAGES)}
        key = {"weights": self._checksum, "sides": sides, "anymri": __version__, "versions": versions}
        folder = cache_folder() / "graphs" / digest(key)
        if folder.is_dir():
            return _read(folder)
        try:
            self._write(system, sides, folder)
            return _read(folder)
        except OutputError:
            with tempfile.TemporaryDirectory(prefix="anymri-", ignore_cleanup_errors=True) as temporary:
                self._write(system, sides, Path(temporary) / "graphs")
                return _read(Path(temporary) / "graphs")

    def _write(self, system: System[Any], sides: Sides, folder: Path) -> None:
        from anymri.graphs.folder import write_graphs  # imports scipy, which `anymri info` does not need

        # Weights of inference tensors could not be traced.
        with computed_by(Computation(), system), torch.inference_mode(False):
            write_graphs(system, self._card, self._checksum, sides, folder, OPENVINO)


def _read(folder: Path) -> dict[str, CompiledGraph]:
    threads = torch.get_num_threads()
    return {path.stem: CompiledGraph(path, threads) for path in sorted(folder.glob(f"*{SUFFIXES[OPENVINO]}"))}


def _encoded(encoder: CompiledGraph, images: Tensor) -> list[Tensor]:
    """Return the features of one modality, (B, ...) each, for its images (B, 1, X, Y, Z)."""
    samples = [map(torch.from_numpy, encoder({IMAGE: image[None].numpy()})) for image in images]
    return [torch.cat(each) for each in zip(*samples, strict=True)]
