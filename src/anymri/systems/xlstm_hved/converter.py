"""From the authors' state dict (class XLSTM_HVED and its ablations) to ours; switches show in its names.

The channels of their data are T1c, T1, FLAIR, T2, and their streams go by number in this order. What they store and
never use is left behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from anymri.modalities import MODALITIES
from anymri.systems.checkpoints import Converted, checkpoint_of, plain_names, rename
from anymri.systems.xlstm_hved.network import SHARED, XLSTMHVED

MODALITY_ORDER = ("T1c", "T1", "FLAIR", "T2")
_CONVS = r"basic_module\.(?:0\.)?SingleConv(?P<conv>[12])\.conv\.(?P<leaf>\w+)"
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
    r"init_blocks\.(?P<m>\d)\.0\.(?P<leaf>\w+)": "levels.0.{m}.entry.{leaf}",
    rf"encoders\.(?P<level>\d)\.(?P<m>\d)\.{_CONVS}": "levels.{level}.{m}.convs.{conv}.conv.{leaf}",
    r"DRBs\.(?P<level>\d)\.(?P<m>\d)\.0\.conv\.(?P<leaf>\w+)": "levels.{level}.{m}.reduction.conv.{leaf}",
    r"VU_blocks\.(?P<level>\d)\.0\.conv\.(?P<leaf>\w+)": "expansions.{level}.widen.conv.{leaf}",
    r"conv_blocks\.(?P<level>\d)\.conv\.(?P<leaf>\w+)": "expansions.{level}.smooth.conv.{leaf}",
    r"x0_init\.0\.(?P<leaf>\w+)": "guide.stem.{leaf}",
    rf"skr_encoders\.(?P<encoder>\d)\.{_CONVS}": "guide.levels.{encoder}.{conv}.conv.{leaf}",
    r"skr_att\.(?P<attention>\d)\.0\.conv(?P<conv>[12])\.(?P<part>dwconv|pwconv|norm)\.(?P<leaf>\w+)": (
        "attention.{attention}.convs.{conv}.{part}.{leaf}"
    ),
    r"skr_att\.(?P<attention>\d)\.1\.conv\.(?P<leaf>\w+)": "attention.{attention}.map.{leaf}",
    rf"mViL\.vil\.(?P<vil>{'|'.join(map(re.escape, _VIL))})(?P<leaf>(?:\.\w+)?)": "vil.{vil}{leaf}",
    r"decoders\.(?P<level>\d)\.atten_module\.(?P<gate>enc|seg)_spatial\.(?P<leaf>\w+)": (
        "segmentation_decoder.levels.{level}.join.{gate}.depthwise.{leaf}"
    ),
    r"decoders\.(?P<level>\d)\.atten_module\.(?P<gate>enc|seg)_spatial2\.(?P<leaf>\w+)": (
        "segmentation_decoder.levels.{level}.join.{gate}.pointwise.{leaf}"
    ),
    rf"decoders\.(?P<level>\d)\.{_CONVS}": "segmentation_decoder.levels.{level}.convs.{conv}.conv.{leaf}",
    r"final_conv\.(?P<leaf>\w+)": "segmentation_decoder.out.{leaf}",
    rf"s?rdecoder\.multi_decoders\.(?P<s>\d)\.(?P<level>\d)\.{_CONVS}": (
        "image_decoders.{s}.levels.{level}.convs.{conv}.conv.{leaf}"
    ),
    r"(?:srdecoder\.r|rdecoder\.)finals\.(?P<s>\d)\.(?P<leaf>\w+)": "image_decoders.{s}.out.{leaf}",
    r"srdecoder\.sfinals\.(?P<s>\d)\.(?P<leaf>\w+)": "segmentation_decoder.maps.{s}.{leaf}",
    rf"{_DUSFE}\.fc_comb\.(?P<leaf>\w+)": "segmentation_decoder.exchanges.{level}.channels.{leaf}",
    rf"{_DUSFE}\.conv_comb\.(?P<leaf>\w+)": "segmentation_decoder.exchanges.{level}.place.{leaf}",
    rf"{_DUSFE}\.fc_ch(?P<side>[12])\.(?P<leaf>\w+)": (
        "segmentation_decoder.exchanges.{level}.{side}.channel_gate.{leaf}"
    ),
    rf"{_DUSFE}\.conv_squeeze_ch(?P<side>[12])\.(?P<leaf>\w+)": (
        "segmentation_decoder.exchanges.{level}.{side}.squeeze.{leaf}"
    ),
    rf"{_DUSFE}\.conv_adjust_ch(?P<side>[12])\.(?P<leaf>\w+)": (
        "segmentation_decoder.exchanges.{level}.{side}.place_gate.{leaf}"
    ),
    rf"{_DUSFE}\.bn_fuse_ch(?P<side>[12])\.(?P<leaf>\w+)": "segmentation_decoder.exchanges.{level}.{side}.norm.{leaf}",
}


_TRANSLATIONS: Mapping[str, Callable[[str], str]] = {
    "m": lambda number: MODALITY_ORDER[int(number)],
    "s": lambda number: MODALITY_ORDER[int(number)],
    "conv": lambda number: str(int(number) - 1),
    # These two lists are stored from coarse to fine.
    "encoder": lambda number: str(2 - int(number)),
    "attention": lambda number: str(3 - int(number)),
    "gate": {"enc": "skip_gate", "seg": "upsampled_gate"}.__getitem__,
    "side": {"1": "image", "2": "segmentation"}.__getitem__,
    "part": {"dwconv": "depthwise", "pwconv": "pointwise", "norm": "norm"}.__getitem__,
    "vil": _VIL.__getitem__,
    "level": str,
    "leaf": str,
}


def our_name(name: str, shared_reconstruction: bool) -> str | None:
    """`skr_att.3.1.conv.weight` -> `attention.0.map.weight`; None for a foreign name."""
    for pattern, ours in _RULES.items():
        if found := re.fullmatch(pattern, name):
            parts = {key: _TRANSLATIONS[key](part) for key, part in found.groupdict().items()}
            if "s" in parts and shared_reconstruction:
                parts["s"] = SHARED
            return ours.format(**parts)
    return None


def unused(network: Mapping[str, Any]) -> re.Pattern[str]:
    """Names that the reference stores and never uses, when it is built with the switches of `network`."""
    patterns = [r"mViL\.norm\.", r"skr_att\.0\.", r"skr_att\.\d\.0\.identity_mapping\.", r"srdecoder\.sdecoders\."]
    if network["vil_gate"] == "none":
        patterns += [r"mViL\.", r"skr_encoders\.0\."]
    if network["dusfe_levels"]:
        # All streams go through the first three exchanges.
        patterns += [r"rdecoder\.", rf"{_DUSFE}\.conv_fuse_ch", r"srdecoder\.dusfe_decoders\.(?:[3-9]|\d\d)\."]
    return re.compile("|".join(patterns))


def convert(checkpoint: Mapping[str, Any]) -> Converted:
    """The authors' checkpoint or state dict as ours; width, regions and switches are read from names and shapes."""
    state = plain_names(checkpoint.get("model_sd", checkpoint))
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
    dead = unused(network)
    live = {name: value for name, value in state.items() if not dead.match(name)}
    renamed = rename(live, lambda name: our_name(name, shared), XLSTMHVED(**network).state_dict())
    _reorder(renamed, shared)
    return Converted(network, renamed)


def _reorder(state: dict[str, Tensor], shared_reconstruction: bool) -> None:
    """Brings the channels that stand for modalities into our order, in place."""
    order = [MODALITY_ORDER.index(m) for m in MODALITIES]
    inputs = ["guide.stem.weight"]
    if shared_reconstruction:
        for leaf in ("weight", "bias"):
            name = f"image_decoders.{SHARED}.out.{leaf}"
            state[name] = state[name][order]
    elif "segmentation_decoder.exchanges.0.place.weight" in state:
        # The maps made beside each image are joined in the order of the images.
        inputs.append("segmentation_decoder.out.weight")
    for name in inputs:
        if name in state:
            state[name] = state[name][:, order]
