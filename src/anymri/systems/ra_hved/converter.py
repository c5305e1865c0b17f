"""From the authors' state dict (class U_HVEDConvNet3D) to ours; which switches it was built with shows in its names.

The channels of their data are T1c, T1, T2, FLAIR, and their streams go by number in this order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from anymri.modalities import MODALITIES
from anymri.systems.checkpoints import Converted, checkpoint_of, plain_names, rename
from anymri.systems.ra_hved.network import RAHVED, SHARED

MODALITY_ORDER = ("T1c", "T1", "T2", "FLAIR")
_GATES = {"enc": "skip_gate", "seg": "upsampled_gate"}
_CONVS = r"basic_module\.(?:0\.)?SingleConv(?P<conv>[12])\.conv\.(?P<leaf>\w+)"
_RULES = {
    r"init_blocks\.(?P<m>\d)\.0\.(?P<leaf>\w+)": "encoders.{m}.stem.{leaf}",
    rf"encoders\.(?P<level>\d)\.(?P<m>\d)\.{_CONVS}": "encoders.{m}.levels.{level}.{conv}.conv.{leaf}",
    r"DRBs\.(?P<level>\d)\.(?P<m>\d)\.0\.conv\.(?P<leaf>\w+)": "encoders.{m}.reductions.{level}.conv.{leaf}",
    r"VU_blocks\.(?P<level>\d)\.0\.conv\.(?P<leaf>\w+)": "expansions.{level}.widen.conv.{leaf}",
    r"conv_blocks\.(?P<level>\d)\.conv\.(?P<leaf>\w+)": "expansions.{level}.smooth.conv.{leaf}",
    r"decoders\.(?P<level>\d)\.atten_module\.(?P<gate>enc|seg)_spatial\.(?P<leaf>\w+)": (
        "segmentation_decoder.levels.{level}.join.{gate}.depthwise.{leaf}"
    ),
    r"decoders\.(?P<level>\d)\.atten_module\.(?P<gate>enc|seg)_spatial2\.(?P<leaf>\w+)": (
        "segmentation_decoder.levels.{level}.join.{gate}.pointwise.{leaf}"
    ),
    rf"decoders\.(?P<level>\d)\.{_CONVS}": "segmentation_decoder.levels.{level}.convs.{conv}.conv.{leaf}",
    r"final_conv\.(?P<leaf>\w+)": "segmentation_decoder.out.{leaf}",
    rf"rdecoder\.multi_decoders\.(?P<s>\d)\.(?P<level>\d)\.{_CONVS}": (
        "image_decoders.{s}.levels.{level}.convs.{conv}.conv.{leaf}"
    ),
    r"rdecoder\.finals\.(?P<s>\d)\.(?P<leaf>\w+)": "image_decoders.{s}.out.{leaf}",
}


def our_name(name: str, shared_reconstruction: bool) -> str | None:
    """`DRBs.0.1.0.conv.bias` -> `encoders.T1.reductions.0.conv.bias`; None for a foreign name."""
    for pattern, ours in _RULES.items():
        if found := re.fullmatch(pattern, name):
            parts = found.groupdict()
            if "m" in parts:
                parts["m"] = MODALITY_ORDER[int(parts["m"])]
            if "s" in parts:
                parts["s"] = SHARED if shared_reconstruction else MODALITY_ORDER[int(parts["s"])]
            if "conv" in parts:
                parts["conv"] = str(int(parts["conv"]) - 1)
            if "gate" in parts:
                parts["gate"] = _GATES[parts["gate"]]
            return ours.format(**parts)
    return None


def convert(checkpoint: Mapping[str, Any]) -> Converted:
    """The authors' checkpoint or state dict as ours; width, regions and switches are read from names and shapes."""
    state = plain_names(checkpoint)
    shared = "rdecoder.finals.1.weight" not in state
    with checkpoint_of("RA-HVED's reference"):
        network: dict[str, Any] = {
            "width": state["init_blocks.0.0.weight"].shape[0],
            "num_classes": state["final_conv.weight"].shape[0] + 1,
            "shared_reconstruction": shared,
            "reduction": "DRBs.0.0.0.conv.weight" in state,
        }
    renamed = rename(state, lambda name: our_name(name, shared), RAHVED(**network).state_dict())
    if shared:
        # One decoder makes all images: its last convolution has a row for each, in the authors' order.
        order = [MODALITY_ORDER.index(m) for m in MODALITIES]
        for leaf in ("weight", "bias"):
            renamed[f"image_decoders.{SHARED}.out.{leaf}"] = renamed[f"image_decoders.{SHARED}.out.{leaf}"][order]
    return Converted(network, renamed)
