"""Conversion of the authors' state dict (class XLSTM_HVED and its ablations) to ours; its names show the switches.

The channels of their data are T1c, T1, FLAIR, T2, and their streams are numbered in this order. Tensors that they store
and never use are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from anymri.systems.checkpoints import Converted, checkpoint_of, expected_names, rename, split_unused, translate
from anymri.systems.families.hved.checkpoints import CONVS, RULES, channels, reorder_shared_images, words

MODALITY_ORDER = ("T1c", "T1", "FLAIR", "T2")
_DUSFE = r"srdecoder\.dusfe_decoders\.(?P<level>\d)"
_VIL = {
    "norm": "norm",
    "layer.learnable_skip": "skip",
    "layer.proj_up": "up",
    "layer.q_proj": "query",
    "layer.k_proj": "key",
    "layer.v_proj": "value",
    "layer.conv1d.conv": "conv",
    "layer.mlstm_cell.igate": "input_gate",
    "layer.mlstm_cell.fgate": "forget_gate",
    "layer.mlstm_cell.outnorm": "head_norm",
    "layer.proj_down": "down",
}
_RULES = {
    r"init_blocks\.(?P<modality>\d)\.0\.(?P<leaf>\w+)": "levels.0.{modality}.entry.{leaf}",
    rf"encoders\.(?P<level>\d)\.(?P<modality>\d)\.{CONVS}": "levels.{level}.{modality}.convs.{conv}.conv.{leaf}",
    r"DRBs\.(?P<level>\d)\.(?P<modality>\d)\.0\.conv\.(?P<leaf>\w+)": "levels.{level}.{modality}.reduction.conv.{leaf}",
    r"x0_init\.0\.(?P<leaf>\w+)": "guide.stem.{leaf}",
    rf"skr_encoders\.(?P<encoder>\d)\.{CONVS}": "guide.levels.{encoder}.{conv}.conv.{leaf}",
    r"skr_att\.(?P<attention>\d)\.0\.conv(?P<conv>[12])\.(?P<layer>dwconv|pwconv|norm)\.(?P<leaf>\w+)": (
        "attention.{attention}.convs.{conv}.{layer}.{leaf}"
    ),
    r"skr_att\.(?P<attention>\d)\.1\.conv\.(?P<leaf>\w+)": "attention.{attention}.map.{leaf}",
    rf"mViL\.vil\.(?P<vil>{'|'.join(map(re.escape, _VIL))})(?P<suffix>(?:\.\w+)?)": "vil.{vil}{suffix}",
    r"srdecoder\.rfinals\.(?P<images>\d)\.(?P<leaf>\w+)": "image_decoders.{images}.out.{leaf}",
    rf"srdecoder\.multi_decoders\.(?P<images>\d)\.(?P<level>\d)\.{CONVS}": (
        "image_decoders.{images}.levels.{level}.convs.{conv}.conv.{leaf}"
    ),
    r"srdecoder\.sfinals\.(?P<images>\d)\.(?P<leaf>\w+)": "segmentation_decoder.maps.{images}.{leaf}",
    rf"{_DUSFE}\.fc_comb\.(?P<leaf>\w+)": "segmentation_decoder.exchanges.{level}.channels.{leaf}",
    rf"{_DUSFE}\.conv_comb\.(?P<leaf>\w+)": "segmentation_decoder.exchanges.{level}.place.{leaf}",
    rf"{_DUSFE}\.fc_ch(?P<branch>[12])\.(?P<leaf>\w+)": (
        "segmentation_decoder.exchanges.{level}.{branch}.channel_gate.{leaf}"
    ),
    rf"{_DUSFE}\.conv_squeeze_ch(?P<branch>[12])\.(?P<leaf>\w+)": (
        "segmentation_decoder.exchanges.{level}.{branch}.squeeze.{leaf}"
    ),
    rf"{_DUSFE}\.conv_adjust_ch(?P<branch>[12])\.(?P<leaf>\w+)": (
        "segmentation_decoder.exchanges.{level}.{branch}.place_gate.{leaf}"
    ),
    rf"{_DUSFE}\.bn_fuse_ch(?P<branch>[12])\.(?P<leaf>\w+)": (
        "segmentation_decoder.exchanges.{level}.{branch}.norm.{leaf}"
    ),
    **RULES,
}
_WORDS: Mapping[str, Callable[[str], str]] = {
    # The authors store these two lists from coarse to fine.
    "encoder": lambda number: str(2 - int(number)),
    "attention": lambda number: str(3 - int(number)),
    "branch": {"1": "image", "2": "segmentation"}.__getitem__,
    "layer": {"dwconv": "depthwise", "pwconv": "pointwise", "norm": "norm"}.__getitem__,
    "vil": _VIL.__getitem__,
    "suffix": str,
}


def our_name(name: str, shared_reconstruction: bool) -> str | None:
    """Return our name of a parameter, None for a foreign name.

    For example `attention.0.map.weight` for `skr_att.3.1.conv.weight`.
    """
    return translate(name, _RULES, {**words(MODALITY_ORDER, shared_reconstruction), **_WORDS})


def unused(network: Mapping[str, Any]) -> re.Pattern[str]:
    """Return a pattern of the names that the reference stores and never uses.

    network  switches that the reference is built with: `vil_gate` and `dusfe_levels`
    """
    patterns = [r"mViL\.norm\.", r"skr_att\.0\.", r"skr_att\.\d\.0\.identity_mapping\.", r"srdecoder\.sdecoders\."]
    if network["vil_gate"] == "none":
        patterns += [r"mViL\.", r"skr_encoders\.0\."]
    if network["dusfe_levels"]:
        # All streams use the first three exchanges.
        patterns += [r"rdecoder\.", rf"{_DUSFE}\.conv_fuse_ch", r"srdecoder\.dusfe_decoders\.(?:[3-9]|\d\d)\."]
    return re.compile("|".join(patterns))


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Return the authors' state dict as ours; width, regions and switches come from names and shapes.

    Without the modules that distinguish XLSTM-HVED, it is the network of RA-HVED, which their repository has too.
    """
    coupled = "srdecoder.rfinals.0.weight" in state
    shared = f"{'srdecoder.r' if coupled else 'rdecoder.'}finals.1.weight" not in state
    save = "x0_init.0.weight" in state
    with checkpoint_of("XLSTM-HVED's reference"):
        network: dict[str, Any] = {
            "width": state["init_blocks.0.0.weight"].shape[0],
            "num_classes": state["final_conv.weight"].shape[0] + 1,
            "shared_reconstruction": shared,
            "save_source": "input" if save else "none",
            # Without SAVE the reference stores the Vision-LSTM and does not call it.
            "vil_gate": "residual" if save and "mViL.vil.norm.weight" in state else "none",
            "dusfe_levels": 3 if coupled else 0,
        }
    used, ignored = split_unused(state, unused(network))
    renamed = rename(used, lambda name: our_name(name, shared), expected_names("xlstm_hved", network))
    twin = None if coupled or save else "ra_hved"
    return Converted(network, {**renamed, **_reordered(renamed, shared)}, unused=ignored, twin=twin)


def _reordered(state: Mapping[str, Tensor], shared_reconstruction: bool) -> dict[str, Tensor]:
    """Return those tensors of a state dict under our names whose channels are modalities, in our order."""
    names = ["guide.stem.weight"]
    if not shared_reconstruction and "segmentation_decoder.exchanges.0.place.weight" in state:
        # The last convolution joins one map per image, in the order of the images.
        names.append("segmentation_decoder.out.weight")
    reordered = {name: state[name][:, channels(MODALITY_ORDER)] for name in names if name in state}
    return reordered | (reorder_shared_images(state, MODALITY_ORDER) if shared_reconstruction else {})
