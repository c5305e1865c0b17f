"""3x3x3 convolution with few output channels by the compiled functions of `convolution_kernels`.

A CPU multiplies 8 or 16 numbers in one instruction. oneDNN takes output channels for them, so that 4 channels use a
quarter to a half of it; here 16 voxels along z are taken, and all of it is used, by one channel too. The norm before a
convolution can be computed while its features are read. Under autocast the products are those of bfloat16, and features
remain float32; CPUs with AMX, by which oneDNN is faster, compute them without these functions.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from anymri.layers.compiled import LANES, Kernel, as_array, autocasts_to_bfloat16, call, flat, in_parallel, usable

DIFFERENTIATE = Kernel("differentiate", "convolution_kernels")

# Output channels are computed in groups of this many, or of a multiple; with 16, oneDNN is as fast.
GROUP = 4
# Most CPUs compute two or more vectors along z at once: shorter rows leave them half empty.
_SHORTEST_ROW = 2 * LANES


def can_convolve(features: Tensor, weight: Tensor) -> bool:
    """Return whether (B, C, X, Y, Z) is to be convolved by the compiled functions, with a margin of one voxel.

    weight  (O, C, k, k, k) of a convolution without stride, dilation or groups
    """
    outputs, _, *side = weight.shape
    row = features.shape[-1]
    if side != [3, 3, 3] or outputs % GROUP or outputs >= LANES or row < _SHORTEST_ROW or row % LANES:
        return False
    pairs = autocasts_to_bfloat16()
    if torch.is_autocast_enabled("cpu") and not pairs:
        return False
    # bfloat16 features are those of convolutions by oneDNN.
    if features.dtype not in ((torch.float32, torch.bfloat16) if pairs else (torch.float32,)):
        return False
    return (
        usable(weight, DIFFERENTIATE)
        and not (pairs and _pairs_are_slow())
        and usable(weight, _kernel(pairs, outputs, row))
    )


@cache
def _pairs_are_slow() -> bool:
    """Return whether the CPU cannot multiply pairs of bfloat16 numbers, or has AMX, by which oneDNN is faster."""
    from anymri.layers.vectors import HAS_AMX, HAS_BFLOAT16

    return HAS_AMX or not HAS_BFLOAT16


def _block(outputs: int, row: int) -> tuple[int, int]:
    """Return how many output channels and vectors of a row are computed at once, as the CPU's registers allow."""
    from anymri.layers.vectors import HAS_AVX512

    if not HAS_AVX512:
        return GROUP, 1
    return outputs, 4 if outputs == GROUP and row % (4 * LANES) == 0 else 2


def _kernel(pairs: bool, outputs: int, row: int) -> Kernel:
    channels, vectors = _block(outputs, row)
    types = "boolean" if pairs else "none", f"UniTuple(UniTuple(int64, {vectors}), {channels})"
    return Kernel("convolve", "convolution_kernels", types=types)


def convolved(
    tokens: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mirror: bool = False,
    factors: Tensor | None = None,
    slope: float = 1.0,
) -> Tensor:
    """Return the convolution (B, X, Y, Z, O) of (B, X, Y, Z, C), contiguous; without gradients.

    mirror   the margin has the features mirrored at the outer voxels, of which there are two or more on each axis; else
             zeros
    factors  (B, 3, Z * C): of the norm before, middle, scale and shift of each number of a row along z:
             (tokens - middle) * scale + shift
    slope    of the leaky ReLU after the norm for negative values, at most 1
    """
    outputs, row = len(weight), tokens.shape[3]
    pairs = autocasts_to_bfloat16()
    channels, vectors = _block(outputs, row)
    [weights] = flat(_in_groups(weight.detach(), bias, pairs, channels))
    kernel, last_arguments = _kernel(pairs, outputs, row), (True if pairs else None, ((0,) * vectors,) * channels)
    output = tokens.new_empty(*tokens.shape[:-1], outputs)
    if factors is None:
        factors = tokens.new_empty(len(tokens), 0)
    for sample, target, given in zip(tokens, output, factors, strict=True):
        source, destination, norm = flat(sample, target, given)
        arrays = source, weights, destination, norm

        def work(_: int, first: int, last: int, arrays: Any = arrays, sizes: Any = tuple(sample.shape)) -> None:
            call(kernel, *arrays, slope, mirror, sizes, outputs, first, last, *last_arguments)

        in_parallel(work, len(sample))
    return output


def _in_groups(weight: Tensor, bias: Tensor | None, pairs: bool, size: int) -> Tensor:
    """Return biases and weights (9, C, 3, size) of each group of outputs; with `pairs`, of two channels in bfloat16."""
    outputs, channels = weight.shape[:2]
    biases = weight.new_zeros(outputs) if bias is None else bias.detach()
    kernel = weight.reshape(-1, size, channels, 9, 3).permute(0, 3, 2, 4, 1)
    if pairs:
        even = functional.pad(kernel, (0, 0, 0, 0, 0, channels % 2))
        kernel = even.reshape(*even.shape[:2], -1, 2, *even.shape[3:]).movedim(3, -1)
        kernel = kernel.to(torch.bfloat16).contiguous().view(torch.float32).squeeze(-1)
    return torch.cat([biases.view(-1, size), kernel.flatten(1)], dim=1)


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
