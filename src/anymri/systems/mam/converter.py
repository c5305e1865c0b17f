"""Conversion of checkpoints of MaM's reference, a fork of nnU-Net.

It numbers the modalities in the order FLAIR, T1, T1c, T2 and has the axes z, y, x, as nnU-Net reads volumes. Regions
are in our order. Tensors that the reference stores without using them are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from anymri.modalities import MODALITIES
from anymri.systems.checkpoints import Converted, checkpoint_of, expected_names, rename, split_unused, translate
from anymri.systems.mam.network import LEVELS, MAM

MODALITY_ORDER = ("FLAIR", "T1", "T1c", "T2")
# An encoder that never runs, the second names of tensors in blocks, the head of the coarsest level.
UNUSED = re.compile(r"(decoder\.)?encoder\.|.*\.all_modules\.|decoder\.seg_layers\.0\.")
_COARSEST = LEVELS - 2
_TRANSFORMER = {
    "layers.0.0.norm": "0.attention.0",
    "layers.0.0.to_qkv": "0.attention.1.qkv",
    "layers.0.0.to_out.0": "0.attention.1.out",
    "layers.0.1.net.0": "0.mlp.0",
    "layers.0.1.net.1": "0.mlp.1",
    "layers.0.1.net.4": "0.mlp.4",
    "norm": "1",
}
_LEAF = r"(?P<leaf>(?:conv\.|norm\.)?(?:weight|bias))"
_RULES = {
    r"learned_bottleneck_tokens": "tokens",
    r"feature_reconstruction\.pos_embedding": "positions",
    rf"feature_reconstruction\.(?P<part>{'|'.join(map(re.escape, _TRANSFORMER))})\.{_LEAF}": (
        "transformer.{part}.{leaf}"
    ),
    rf"modality_specific_encoders\.(?P<modality>\d)\.stages\.(?P<level>\d)\.0\.convs\.(?P<conv>\d)\.{_LEAF}": (
        "encoders.{modality}.levels.{level}.{conv}.{leaf}"
    ),
    rf"decoder\.stages\.(?P<depth>\d)\.convs\.(?P<block>[01])\.{_LEAF}": "decoder.{depth}.{block}.{leaf}",
    rf"decoder\.transpconvs\.(?P<depth>\d)\.{_LEAF}": "decoder.{depth}.up.{leaf}",
    rf"decoder\.seg_layers\.(?P<depth>\d)\.{_LEAF}": "heads.{depth}.{leaf}",
}
_WORDS: Mapping[str, Callable[[str], str]] = {
    "part": _TRANSFORMER.__getitem__,
    "modality": lambda number: MODALITY_ORDER[int(number)],
    # The reference counts the decoder's levels from the coarsest; we count from the finest.
    "depth": lambda number: str(_COARSEST - int(number)),
    "block": {"0": "join", "1": "out"}.__getitem__,
    "level": str,
    "conv": str,
    "leaf": str,
}


def our_name(name: str) -> str | None:
    """Return our name for a name of the reference, or None for a foreign one.

    `decoder.stages.4.convs.1.conv.weight` becomes `decoder.0.out.conv.weight`.
    """
    return translate(name, _RULES, _WORDS)


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Return the reference's state dict as ours; names and shapes give all but the number of heads."""
    reconstructs = "learned_bottleneck_tokens" in state
    with checkpoint_of("MaM's reference"):
        widths = [
            len(state[f"modality_specific_encoders.0.stages.{level}.0.convs.0.conv.weight"]) for level in range(LEVELS)
        ]
        network: dict[str, Any] = {
            "width": widths[0],
            "max_width": widths[-1],
            "num_classes": len(state[f"decoder.seg_layers.{_COARSEST}.weight"]) + 1,
            "reconstruction": reconstructs,
        }
        if reconstructs:
            # The reference has the axes z, y, x.
            network["crop"] = [side * MAM.divisor for side in reversed(state["learned_bottleneck_tokens"].shape[2:])]
            network["mlp_width"] = len(state["feature_reconstruction.layers.0.1.net.1.weight"])
    used, unused = split_unused(state, UNUSED)
    renamed = rename(used, our_name, expected_names("mam", network))
    ours = {name: _reordered(name, value, widths) for name, value in renamed.items()}
    return Converted(network, ours, unused=unused)


def _reordered(name: str, value: Tensor, widths: list[int]) -> Tensor:
    """Return a parameter with axes x, y, z, and with channels or tokens of modalities in our order."""
    order = [MODALITY_ORDER.index(m) for m in MODALITIES]
    count = len(order)
    if name == "positions":
        side = round((value.shape[1] / count) ** (1 / 3))
        grid = value.reshape(1, count, side, side, side, -1)[:, order]
        return grid.transpose(2, 4).flatten(1, 4)
    if value.ndim == 5:
        value = value.transpose(-1, -3)
    if name == "tokens":
        value = value[order]
    elif name.endswith("join.conv.weight"):
        # The upsampled features come first, then the skips of all modalities.
        upsampled, skips = value.chunk(2, dim=1)
        by_modality = skips.reshape(len(skips), count, -1, *skips.shape[2:])
        value = torch.cat([upsampled, by_modality[:, order].flatten(1, 2)], dim=1)
    elif name == f"decoder.{_COARSEST}.up.weight":
        value = value.reshape(count, -1, *value.shape[1:])[order].flatten(0, 1)
    return value.contiguous()
