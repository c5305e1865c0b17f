"""Conversion of the reference's state dict (IM-Fuse repository, folder UHVED) to ours.

The reference selects its four modalities by name, so weights need no permutation; only its mask columns do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from anymri.systems.checkpoints import Converted, checkpoint_of, expected_names, rename

_MODULES = {
    "flair_encoder": "encoders.FLAIR",
    "t1ce_encoder": "encoders.T1c",
    "t1_encoder": "encoders.T1",
    "t2_encoder": "encoders.T2",
    "flair_decoder": "image_decoders.FLAIR",
    "t1c_decoder": "image_decoders.T1c",
    "t1_decoder": "image_decoders.T1",
    "t2_decoder": "image_decoders.T2",
    "seg_decoder": "segmentation_decoder",
}
_LEAVES = {"conv1.weight": "stem.weight", "conv_out.weight": "out.weight"}
_BLOCK = re.compile(r"[ed](\d)_c(\d)\.(.+)")


def our_name(name: str) -> str | None:
    """Return our name of a parameter, None for a foreign name.

    For example `encoders.T1c.levels.1.0.conv.weight` for `t1ce_encoder.e2_c1.conv.weight`.
    """
    module, _, leaf = name.partition(".")
    if module not in _MODULES:
        return None
    if block := _BLOCK.fullmatch(leaf):
        leaf = f"levels.{int(block[1]) - 1}.{int(block[2]) - 1}.{block[3]}"
    return f"{_MODULES[module]}.{_LEAVES.get(leaf, leaf)}"


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Return the reference's state dict as ours; width and number of classes come from its shapes."""
    with checkpoint_of("U-HVED's reference"):
        network = {
            "width": state["flair_encoder.conv1.weight"].shape[0],
            "num_classes": state["seg_decoder.conv_out.weight"].shape[0],
        }
    return Converted(network, rename(state, our_name, expected_names("u_hved", network)))
