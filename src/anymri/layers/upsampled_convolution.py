"""Transposed convolution followed by a convolution, computed as one convolution on the coarse grid.

A transposed convolution with kernel and stride 2 and a convolution of 3x3x3 after it, with nothing between, are one
linear map: each of the 8 fine voxels of a coarse one follows from 2x2x2 coarse voxels. That takes up to half of the
multiply-adds, and the upsampled features are never written.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from anymri.layers.convolution import ConvTranspose3d, conv3d, fast, from_tokens, to_tokens

# For the voxels 2i and 2i + 1 of an axis: (tap of the convolution, half of the coarse voxel, coarse voxel from i - 1).
_PATHS = (((0, 1, 0), (1, 0, 1), (2, 1, 1)), ((0, 0, 0), (1, 1, 0), (2, 0, 1)))


def upsampled_conv3d(below: Tensor, up: ConvTranspose3d, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution of the upsampled features, (B, O, 2X, 2Y, 2Z).

    below   (B, I, X, Y, Z)
    up      transposed convolution from I to C channels, of 2 voxels, with biases
    weight  (O, C, 3, 3, 3); the convolution keeps the size
    bias    (O,)
    """
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not fast(below) or not _pays(below, weight):
        return conv3d(up(below), weight, bias, padding=(1, 1, 1))
    assert up.bias is not None
    outputs, (x, y, z) = len(weight), below.shape[2:]
    constants = _sums_of_taps(torch.einsum("ocijk,c->oijk", weight, up.bias))
    inside = constants[:, 1, 1, 1] if bias is None else constants[:, 1, 1, 1] + bias
    tokens = to_tokens(conv3d(below, folded_kernel(up.weight, weight), inside.repeat(8), padding=(1, 1, 1)))
    output = tokens.new_empty(len(below), x, 2, y, 2, z, 2, outputs)
    for (a, b, c), group in zip(product((0, 1), repeat=3), torch.split(tokens, outputs, dim=-1), strict=True):
        output[:, :, a, :, b, :, c] = group[:, a : a + x, b : b + y, c : c + z]
    fine = from_tokens(output.view(len(below), 2 * x, 2 * y, 2 * z, outputs))
    _correct_borders(fine, constants)
    return fine


def _pays(below: Tensor, weight: Tensor) -> bool:
    """Return whether folding saves more multiply-adds than the folded kernel takes."""
    outputs, channels = weight.shape[:2]
    inputs, voxels = below.shape[1], below[:, 0].numel()
    saved = voxels * 8 * (channels * (27 * outputs + inputs) - 8 * inputs * outputs)
    return saved > 216 * inputs * channels * outputs


def folded_kernel(up: Tensor, weight: Tensor) -> Tensor:
    """Return the kernel on the coarse grid, (8 O, I, 2, 2, 2): outputs of the fine voxel (0, 0, 0), then (0, 0, 1), ...

    up      (I, C, 2, 2, 2), weight of a transposed convolution
    weight  (O, C, 3, 3, 3)
    """
    # (O, taps, I, halves), each of three axes
    products = torch.einsum("ocijk,dcuvw->oijkduvw", weight, up)
    kernel = weight.new_zeros(2, 2, 2, len(weight), len(up), 2, 2, 2)
    for a, b, c in product((0, 1), repeat=3):
        for (i, u, x), (j, v, y), (k, w, z) in product(_PATHS[a], _PATHS[b], _PATHS[c]):
            kernel[a, b, c, :, :, x, y, z] += products[:, i, j, k, :, u, v, w]
    return kernel.flatten(0, 3)


def _sums_of_taps(taps: Tensor) -> Tensor:
    """Return the sums of the taps in the volume, (O, 3, 3, 3): at the first voxel of an axis, within it, at the last.

    taps  (O, 3, 3, 3)
    """
    for axis in (1, 2, 3):
        before, here, after = taps.unbind(axis)
        taps = torch.stack([here + after, before + here + after, before + here], dim=axis)
    return taps


def _correct_borders(fine: Tensor, sums: Tensor) -> None:
    """Change what was added everywhere, `sums[:, 1, 1, 1]`, at the borders of (B, O, X, Y, Z) to what is true there."""
    columns, rows = ([0, *[1] * (side - 2), 2] for side in fine.shape[3:])
    for end in (0, 2):
        place = -1 if end else 0
        fine[:, :, place] += (sums[:, end] - sums[:, 1])[:, columns][:, :, rows]
        fine[:, :, :, place] += (sums[:, 1, end] - sums[:, 1, 1])[:, None, rows]
        fine[..., place] += (sums[:, 1, 1, end] - sums[:, 1, 1, 1])[:, None, None]
