"""Max pooling: torch's operator takes time to remember where the maxima are, which only gradients need."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from anymri.layers.convolution import channels_last, fast, from_tokens, to_tokens


def max_pool3d(features: Tensor) -> Tensor:
    """Return the maxima of cubes of 2^3 voxels, (B, C, X / 2, Y / 2, Z / 2), of (B, C, X, Y, Z)."""
    if torch.is_grad_enabled() or not fast(features) or any(side % 2 for side in features.shape[2:]):
        return functional.max_pool3d(features, 2)
    tokens = to_tokens(channels_last(features))
    tokens = torch.maximum(tokens[:, ::2], tokens[:, 1::2])
    tokens = torch.maximum(tokens[:, :, ::2], tokens[:, :, 1::2])
    return from_tokens(torch.maximum(tokens[:, :, :, ::2], tokens[:, :, :, 1::2]))


class MaxPool3d(nn.Module):
    """Max pooling as a module, see `max_pool3d`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the maxima, (B, C, X / 2, Y / 2, Z / 2)."""
        return max_pool3d(input)
