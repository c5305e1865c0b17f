"""Which patches of the images pre-training shows. Source: sheet m3ae, section 4, Patch mask."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

import torch
from torch import Tensor

SIDE = 16
HIDDEN_SHARE = 0.875


def draw_visible(available: Tensor, sides: Sequence[int]) -> Tensor:
    """Voxels to show, (B, M, X, Y, Z) bool: as many patches of 16^3 whatever the subset, from its modalities alone.

    available  (B, M) bool, at least one true in each sample
    sides      X, Y, Z; patches at the far ends are cut where these are no multiples of 16

    An eighth of the patches of all modalities is shown, or all of the subset's where they are fewer.
    """
    grid = [ceil(side / SIDE) for side in sides]
    samples, modalities = available.shape
    share = int((1 - HIDDEN_SHARE) * modalities * prod(grid))
    visible = torch.zeros(samples, modalities, prod(grid), dtype=torch.bool, device=available.device)
    for sample, row in enumerate(available):
        tokens = row.repeat_interleave(prod(grid)).nonzero()[:, 0]
        chosen = tokens[torch.randperm(len(tokens))[: max(1, share)].to(tokens.device)]
        visible[sample].view(-1)[chosen] = True
    return voxels_of(visible.view(samples, modalities, *grid), sides)


def voxels_of(patches: Tensor, sides: Sequence[int]) -> Tensor:
    """One flag a patch, (B, M, ., ., .), as one a voxel, (B, M, X, Y, Z)."""
    for axis, side in enumerate(sides, start=2):
        patches = patches.repeat_interleave(SIDE, axis).narrow(axis, 0, side)
    return patches
