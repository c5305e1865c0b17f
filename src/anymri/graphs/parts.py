"""The parts of a system that become graphs, each for one window of fixed sides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anymri.systems.batch import middle_corners
from anymri.systems.contract import System
from anymri.systems.crops import Sides
from anymri.systems.streams import StreamSystem

# Names of the graphs and of their tensors.
DECODER, NETWORK = "decoder", "network"
IMAGE, IMAGES, AVAILABLE, CORNERS, LOGITS = "image", "images", "available", "corners", "logits"


@dataclass(frozen=True)
class Part:
    """Part of a system with the tensors that it is traced with.

    name       name of its graph
    module     function of the arguments
    arguments  tensors of one window
    inputs     names of the arguments
    outputs    names of the tensors that it returns
    """

    name: str
    module: nn.Module
    arguments: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def encoder_name(modality: str) -> str:
    """Return the name of the graph that encodes a modality."""
    return f"encoder_{modality.lower()}"


def feature_name(modality: str, number: int) -> str:
    """Return the name of an output of an encoder, which is an input of the decoder."""
    return f"{modality.lower()}_{number}"


@contextmanager
def parts_of(system: System[Any], sides: Sides) -> Iterator[list[Part]]:
    """Yield the parts of a system for windows of `sides` voxels, in the order in which they are computed.

    They are an encoder per modality and a decoder, or for a system that fuses the modalities first, the whole network.
    The weights must not change meanwhile.
    """
    modalities = system.modalities
    device = next(system.parameters()).device
    images = torch.zeros(1, len(modalities), *sides, device=device)
    available = torch.ones(1, len(modalities), dtype=torch.bool, device=device)
    with torch.no_grad(), system.folded_weights():
        if not isinstance(system, StreamSystem):
            named = {IMAGES: images, AVAILABLE: available}
            if system.uses_crop_position:
                named[CORNERS] = middle_corners(1, sides, device)
            yield [Part(NETWORK, _Network(system), tuple(named.values()), tuple(named), (LOGITS,))]
            return
        features = [system.encode_one(number, images[:, :1]) for number in range(len(modalities))]
        # Whatever follows from the weights alone is computed here, so that graphs hold it as constants.
        first = available & (torch.arange(len(modalities), device=device) == 0)
        system.decode(system.gather(images, available, [*features]), first)
        names = [[feature_name(m, k) for k in range(len(each))] for m, each in zip(modalities, features, strict=True)]
        encoders = [
            Part(encoder_name(m), _Encoder(system, number), (images[:, :1],), (IMAGE,), tuple(names[number]))
            for number, m in enumerate(modalities)
        ]
        named = {AVAILABLE: available} | ({IMAGES: images} if system.decodes_images else {})
        for each, tensors in zip(names, features, strict=True):
            named |= dict(zip(each, tensors, strict=True))
        decoder = _Decoder(system, sides, len(features[0]))
        yield [*encoders, Part(DECODER, decoder, tuple(named.values()), tuple(named), (LOGITS,))]


class _Network(nn.Module):
    def __init__(self, system: System[Any]) -> None:
        super().__init__()
        self.system = system

    def forward(self, images: Tensor, available: Tensor, corners: Tensor | None = None) -> Tensor:
        computation = self.system.computation
        encoding = computation.encode(self.system, images, available, corners)
        return computation.decode(self.system, encoding, available, reconstruct=False).logits


class _Encoder(nn.Module):
    def __init__(self, system: StreamSystem[Any], number: int) -> None:
        super().__init__()
        self.system = system
        self.number = number

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.system.encode_one(self.number, image))


class _Decoder(nn.Module):
    """Decoder of the features of all modalities; those of missing ones are zeros.

    count  number of features per modality
    """

    def __init__(self, system: StreamSystem[Any], sides: Sides, count: int) -> None:
        super().__init__()
        self.system = system
        self.sides = sides
        self.count = count

    def forward(self, available: Tensor, *features: Tensor) -> Tensor:
        system, tensors = self.system, list(features)
        if system.decodes_images:
            images = tensors.pop(0)
        else:  # only their shape is read
            images = features[0].new_zeros(()).expand(1, len(system.modalities), *self.sides)
        outputs = [tensors[first : first + self.count] for first in range(0, len(tensors), self.count)]
        encoding = system.gather(images, torch.ones_like(available), [*outputs])
        return system.computation.decode(system, encoding, available, reconstruct=False).logits
