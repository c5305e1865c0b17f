"""Convert the state dict of IM-Fuse's reference. Names and shapes show all switches except `interleaved`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from anymri.layers.preactivation import LEVELS
from anymri.systems.checkpoints import Converted, expected_names, rename, split_unused
from anymri.systems.families.tokens.checkpoints import UNUSED, reorder, settings
from anymri.systems.families.tokens.checkpoints import our_name as shared_name

_READER = re.compile(r"mamba_fusion_layers\.(?P<number>\d)\.(?P<leaf>.+)")
_LEAVES = {
    "fused_tokens": "tokens",
    "mamba_layer.mamba.norm1.": "norm.",
    "mamba_layer.mamba.norm2.": "head_norm.",
    "mamba_layer.mamba.head.": "head.",
    "mamba_layer.mamba.mamba.conv1d.": "mamba.conv.",
    "mamba_layer.mamba.mamba.": "mamba.",
}
_UNUSED = re.compile(rf"mamba_fusion_layer\.|{UNUSED.pattern}")


def our_name(name: str, readers: int) -> str | None:
    """Return our name of a tensor of the reference, or None for a foreign name.

    Example: `mamba_fusion_layers.4.mamba_layer.mamba.norm1.bias` -> `token_reader.norm.bias`.

    readers  number of fusion layers in the checkpoint: the last fuses tokens, those before it skips
    """
    if name == "fused_pos":
        return "position"
    if not (found := _READER.fullmatch(name)):
        return shared_name(name)
    level = LEVELS - readers + int(found["number"])
    reader = "token_reader" if level == LEVELS - 1 else f"skip_readers.{level}"
    for prefix, ours in _LEAVES.items():
        if found["leaf"].startswith(prefix):
            return f"{reader}.{ours}{found['leaf'].removeprefix(prefix)}"
    return None


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Return the converted state dict, without what the reference stores and never uses.

    Raises `WeightsError` if the names do not fit. The user must choose `interleaved`.
    """
    state, unused = split_unused(state, _UNUSED)
    network = settings(state, "IM-Fuse")
    coarsest_skip = state.get("decoder_fuse.RFM4.fusion_layer.0.conv.weight")
    network["mamba_skip"] = coarsest_skip is not None and coarsest_skip.shape[0] == coarsest_skip.shape[1]
    network["first_skip"] = "decoder_fuse.RFM1.fusion_layer.0.conv.weight" in state
    readers = len({found["number"] for name in state if (found := _READER.fullmatch(name))})
    if not network["mamba_skip"]:
        # The layers of the skips are stored and never used.
        numbers = "|".join(map(str, range(readers - 1)))
        state, layers = split_unused(state, re.compile(rf"mamba_fusion_layers\.(?:{numbers})\."))
        unused += layers
    expected = expected_names("im_fuse", network)
    renamed = rename(state, lambda name: our_name(name, readers), expected)
    for name in renamed:
        if name.endswith(".tokens"):
            renamed[name] = renamed[name][0].T
    reorder(renamed)
    undecided = ("interleaved", *(() if "crop" in network else ("crop",)))
    return Converted(network, renamed, undecided, unused=unused)
