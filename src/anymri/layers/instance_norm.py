"""Instance norm that takes a single voxel."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class InstanceNorm(nn.InstanceNorm3d):
    """Instance norm with gains and biases. A single voxel, which torch's module refuses, becomes the bias."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        """Return the normalised features, (B, C, X, Y, Z)."""
        cudnn = torch.backends.cudnn.enabled
        return torch.instance_norm(features, self.weight, self.bias, None, None, True, 0.0, self.eps, cudnn)
