"""3x3x3 convolution with few output channels by the compiled functions of `convolution_kernels`.

A CPU multiplies 8 or 16 numbers in one instruction. oneDNN takes output channels for them, so that 4 channels use a
quarter to a half of it; here 16 voxels along z are taken, and all of it is used, by one channel too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anymri.layers.compiled import LANES, Kernel, as_array, call, flat, in_parallel, usable

_USERS = "Convolutions"
CONVOLVE = Kernel("convolve", "convolution_kernels", _USERS)
DIFFERENTIATE = Kernel("differentiate", "convolution_kernels", _USERS)

# Output channels are computed in groups of this many; with 16, oneDNN is as fast.
GROUP = 4
# Voxels along z that are computed at once are twice a vector: shorter rows leave a half of them empty.
SHORTEST_ROW = 2 * LANES


def can_convolve(features: Tensor, weight: Tensor) -> bool:
    """Return whether (B, C, X, Y, Z) is to be convolved by the compiled functions, with a margin of one voxel of zeros.

    weight  (O, C, k, k, k) of a convolution without stride, dilation or groups
    """
    outputs, _, *side = weight.shape
    row = features.shape[-1]
    if side != [3, 3, 3] or outputs % GROUP or outputs >= LANES or row < SHORTEST_ROW or row % LANES:
        return False
    return not torch.is_autocast_enabled("cpu") and usable(features, CONVOLVE, DIFFERENTIATE)


def convolved(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution (B, X, Y, Z, O) of (B, X, Y, Z, C), contiguous; without gradients."""
    outputs, channels = weight.shape[:2]
    # Per group of outputs: biases, then weights in the order in which they are needed.
    biases = weight.new_zeros(outputs) if bias is None else bias.detach()
    kernel = weight.detach().reshape(-1, GROUP, channels, 9, 3).permute(0, 3, 2, 4, 1).flatten(1)
    [weights] = flat(torch.cat([biases.view(-1, GROUP), kernel], dim=1))
    output = tokens.new_empty(*tokens.shape[:-1], outputs)
    none = as_array(tokens.new_empty(0))
    for sample, target in zip(tokens, output, strict=True):
        arrays = flat(sample, target)

        def work(_: int, first: int, last: int, arrays: Any = arrays, sizes: Any = tuple(sample.shape)) -> None:
            call(CONVOLVE, arrays[0], weights, arrays[1], none, 1.0, sizes, outputs, first, last)

        in_parallel(work, len(sample))
    return output


def weight_gradient(tokens: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the weight, (O, C, 3, 3, 3), of features (B, X, Y, Z, C) and gradients (B, X, Y, Z, O)."""
    channels, outputs = tokens.shape[-1], gradient.shape[-1]
    threads = torch.get_num_threads()
    parts = torch.zeros(len(tokens), threads, 9, channels, outputs, 3, dtype=torch.float64)
    for sample, its_gradient, sums in zip(tokens, gradient, parts, strict=True):
        arrays = flat(sample, its_gradient)

        def work(
            part: int, first: int, last: int, arrays: Any = arrays, sums: Any = sums, sizes: Any = tuple(sample.shape)
        ) -> None:
            call(DIFFERENTIATE, *arrays, as_array(sums[part].flatten()), sizes, outputs, first, last)

        in_parallel(work, len(sample))
    kernel = parts.sum((0, 1)).permute(2, 1, 0, 3).reshape(outputs, channels, 3, 3, 3)
    return kernel.to(tokens.dtype)
