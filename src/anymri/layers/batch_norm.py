"""Batch norm that is exact for features whose channels are last."""

from __future__ import annotations

from torch import Tensor, nn


class BatchNorm(nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d`; in training features are copied to the layout in which torch sums exactly.

    Channels last, torch adds all voxels of a channel in float32 one by one, which loses three digits at 64^3.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised features, (B, C, X, Y, Z)."""
        return super().forward(input.contiguous() if self.training else input)
