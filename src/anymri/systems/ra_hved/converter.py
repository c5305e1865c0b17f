"""Conversion of the authors' state dict (class U_HVEDConvNet3D) to ours; its names show the switches it was built with.

The channels of their data are T1c, T1, T2, FLAIR, and their streams are numbered in this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from anymri.systems.checkpoints import Converted, checkpoint_of, expected_names, rename, translate
from anymri.systems.families.hved.checkpoints import CONVS, RULES, reorder_shared_images, words

MODALITY_ORDER = ("T1c", "T1", "T2", "FLAIR")
_RULES = {
    r"init_blocks\.(?P<modality>\d)\.0\.(?P<leaf>\w+)": "encoders.{modality}.stem.{leaf}",
    rf"encoders\.(?P<level>\d)\.(?P<modality>\d)\.{CONVS}": "encoders.{modality}.levels.{level}.{conv}.conv.{leaf}",
    r"DRBs\.(?P<level>\d)\.(?P<modality>\d)\.0\.conv\.(?P<leaf>\w+)": (
        "encoders.{modality}.reductions.{level}.conv.{leaf}"
    ),
    **RULES,
}


def our_name(name: str, shared_reconstruction: bool) -> str | None:
    """Return our name of a parameter, None for a foreign name.

    For example `encoders.T1.reductions.0.conv.bias` for `DRBs.0.1.0.conv.bias`.
    """
    return translate(name, _RULES, words(MODALITY_ORDER, shared_reconstruction))


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Return the authors' state dict as ours; width, regions and switches come from names and shapes."""
    shared = "rdecoder.finals.1.weight" not in state
    with checkpoint_of("RA-HVED's reference"):
        network: dict[str, Any] = {
            "width": state["init_blocks.0.0.weight"].shape[0],
            "num_classes": state["final_conv.weight"].shape[0] + 1,
            "shared_reconstruction": shared,
            "reduction": "DRBs.0.0.0.conv.weight" in state,
        }
    renamed = rename(state, lambda name: our_name(name, shared), expected_names("ra_hved", network))
    if shared:
        renamed |= reorder_shared_images(renamed, MODALITY_ORDER)
    return Converted(network, renamed)
