"""Fusion of the modalities in mmFormer: by a convolution on every skip, by a transformer at the coarsest level.

Skips: `Fusion` and `fuse_skips` in `anymri/systems/families/tokens/blocks.py`, which IM-Fuse shares, sum what each
available modality adds to a 1x1x1 convolution; missing modalities add nothing. Coarsest level: `fuse_tokens`, below,
makes one sequence of the tokens of all modalities, in which missing modalities are zero but keep their positions, and a
transformer lets every token attend to all others. `MMFormer._decode` in `network.py` calls both. Source: sheet
mmformer, Token path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from anymri.systems.crops import Sides
from anymri.systems.families.tokens.blocks import as_volume


def fuse_tokens(
    tokens: Tensor,
    positions: Tensor,
    available: Tensor,
    transformer: Callable[[Tensor], Tensor],
    sequence: Sequence[int],
    aligned: bool,
    crop: Sides,
) -> Tensor:
    """Return the transformed tokens of all modalities as features of the coarsest level, (B, M * T, X, Y, Z).

    tokens       (B, M, N, T) of the modalities
    positions    (1, M, N, T), learnt
    available    (B, M) bool; tokens of other modalities are set to zero
    transformer  maps (B, M * N, T) to the same shape
    sequence     the order of the modalities in the sequence, as indices of the axis M
    aligned      false, as published: M consecutive tokens of the sequence form one voxel, so that a voxel reads M
                 neighbouring tokens of one modality, and each modality fills one slab of the volume; true, as intended:
                 a voxel reads the tokens of all modalities at its position
    crop         sides of the crop at full resolution, in voxels
    """
    ordered = (tokens.masked_fill(~available[..., None, None], 0) + positions)[:, sequence]
    mixed = transformer(ordered.flatten(1, 2))
    if aligned:
        mixed = mixed.view_as(ordered).transpose(1, 2)
    return as_volume(mixed.reshape(len(tokens), tokens.shape[2], -1), crop)
