"""The network of a MONAI bundle: a module from images to probabilities, for programs that work on tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from anymri.systems.contract import System
from anymri.weights.store import load_weights


class BundleNetwork(nn.Module):
    """Network that takes the four modalities as channels and returns probabilities."""

    def __init__(self, system: System[Any]) -> None:
        super().__init__()
        self.system = system

    def forward(self, image: Tensor, available: Tensor | None = None) -> Tensor:
        """Return probabilities (B, K, X, Y, Z) float32 of the classes or regions of the system.

        image      (B, 4, X, Y, Z) float32, preprocessed as the card of the weights says: T1, T1c, T2, FLAIR
        available  (B, 4) bool: modalities to use; by default all. Channels of the others may hold anything
        """
        if available is None:
            available = image.new_ones(image.shape[:2]).bool()
        probabilities: Tensor = self.system(image, available).probabilities()
        return probabilities


def network(weights: str | Path) -> BundleNetwork:
    """Return the network of a weights file, in evaluation mode; raise `WeightsError` if it cannot be used."""
    system, _ = load_weights(Path(weights))
    return BundleNetwork(system).eval()
