"""Random draws of a step: patches that pre-training shows, and intensities that fine-tuning changes.

Source: sheet m3ae, section 4, Patch mask; section 6, Augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import torch
from torch import Tensor

SIDE = 16
HIDDEN_SHARE = 0.875
INTENSITY = 0.1


def draw_visible(available: Tensor, sides: Sequence[int]) -> Tensor:
    """Draw the voxels to show, (B, M, X, Y, Z) bool: random patches of 16^3 voxels of the available modalities.

    available  (B, M) bool, at least one true per sample
    sides      X, Y, Z in voxels; where they are not multiples of 16, the last patches are smaller

    The number of patches is an eighth of those of all modalities, or all of the subset's where they are fewer.
    """
    grid = [ceil(side / SIDE) for side in sides]
    samples, modalities = available.shape
    share = int((1 - HIDDEN_SHARE) * modalities * prod(grid))
    visible = torch.zeros(samples, modalities, prod(grid), dtype=torch.bool, device=available.device)
    for sample, row in enumerate(available):
        tokens = row.repeat_interleave(prod(grid)).nonzero()[:, 0]
        chosen = tokens[torch.randperm(len(tokens), device="cpu")[: max(1, share)].to(tokens.device)]
        visible[sample].view(-1)[chosen] = True
    return voxels_of(visible.view(samples, modalities, *grid), sides)


def draw_intensities(images: Tensor, patch: Tensor) -> tuple[Tensor, Tensor]:
    """Draw a scale and a shift per modality and z slice, each (B, M, 1, 1, Z), the same for all copies of a patch.

    images  (B, M, X, Y, Z)
    patch   (B,) int64, see `anymri.systems.batch.Batch`
    """
    shape = (2, len(patch), images.shape[1], 1, 1, images.shape[4])
    scale, shift = torch.empty(shape, dtype=images.dtype, device=images.device).uniform_(-INTENSITY, INTENSITY)
    return 1 + scale[patch], shift[patch]


def voxels_of(patches: Tensor, sides: Sequence[int]) -> Tensor:
    """Return flags per patch, (B, M, X/16, Y/16, Z/16), as flags per voxel, (B, M, X, Y, Z).

    sides  X, Y, Z in voxels
    """
    for axis, side in enumerate(sides, start=2):
        patches = patches.repeat_interleave(SIDE, axis).narrow(axis, 0, side)
    return patches
