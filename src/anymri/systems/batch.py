"""The data of one training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Batch:
    """Samples of one training step with the modalities that exist and those that the network may use.

    images     (B, M, X, Y, Z) float32, preprocessed
    labels     (B, X, Y, Z) int64, classes of `anymri.regions.CLASSES`
    present    (B, M) bool: modalities that exist
    available  (B, M) bool: the subset drawn for this step, within `present`
    corners    (B, 2, 3) int64: position of each crop in its scan, see `middle_corners`
    patch      (B,) int64: samples with the same number are the same crop with different subsets
    """

    images: Tensor
    labels: Tensor
    present: Tensor
    available: Tensor
    corners: Tensor
    patch: Tensor

    @classmethod
    def of(cls, images: Tensor, labels: Tensor, present: Tensor, available: Tensor) -> Batch:
        """Return a batch of different crops, each from the middle of its scan."""
        corners = middle_corners(len(labels), labels.shape[1:], labels.device)
        return cls(images, labels, present, available, corners, torch.arange(len(labels), device=labels.device))

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on `device`."""
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


def middle_corners(batch_size: int, sides: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Return the corners of crops from the middle of their scans, (B, 2, 3) int64.

    Corners are the first and the last voxel of a crop, in voxels from the middle of the scan's grid (voxel n // 2 of
    n). Where augmentation mirrored an axis, the last voxel comes before the first.

    sides   sides of the crops in voxels
    device  where the tensor is created; the CPU if None
    """
    where = device or torch.device("cpu")
    first = torch.tensor([-(side // 2) for side in sides], device=where)
    last = first + torch.tensor(list(sides), device=where) - 1
    return torch.stack([first, last]).repeat(batch_size, 1, 1)
