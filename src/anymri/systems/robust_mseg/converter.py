"""From the port's state dict (IM-Fuse repository, folder RobustSeg) to ours.

Gates and fusions of the port see the modalities in its order, FLAIR, T1c, T1, T2, as channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.checkpoints import Converted, checkpoint_of, plain_names, rename, translate
from anymri.systems.families.disentangling.blocks import SCALES
from anymri.systems.robust_mseg.network import RobustMseg

MODALITY_ORDER = ("FLAIR", "T1c", "T1", "T2")
_M = r"(?P<m>flair|t1c|t1|t2)"
_LEAF = r"conv\.(?P<leaf>weight|bias)"
_LINEAR = r"linear\.(?P<leaf>weight|bias)"
_RULES = {
    rf"se_{_M}\.c_(?P<n>[0-4])\.{_LEAF}": "style_encoders.{m}.convs.{n}.conv.{leaf}",
    rf"se_{_M}\.se_logit\.{_LEAF}": "style_encoders.{m}.out.{leaf}",
    rf"ce_{_M}\.e(?P<number>[1-4])_c1\.{_LEAF}": "content_encoders.{m}.levels.{number}.first.conv.{leaf}",
    rf"ce_{_M}\.e(?P<number>[1-4])_c(?P<residual>[23])\.{_LEAF}": (
        "content_encoders.{m}.levels.{number}.residual.{residual}.conv.{leaf}"
    ),
    rf"att_c(?P<number>[1-4])\.{_LEAF}": "fusions.{number}.gate.{leaf}",
    rf"fusion_c(?P<number>[1-4])\.{_LEAF}": "fusions.{number}.join.{leaf}",
    rf"image_de_{_M}\.mlp\.linear_(?P<linear>[01])\.{_LINEAR}": "image_decoders.{m}.shared.{linear}.{leaf}",
    rf"image_de_{_M}\.mlp\.(?P<head>mu|sigma)\.{_LINEAR}": "image_decoders.{m}.{head}.{leaf}",
    rf"image_de_{_M}\.res_(?P<n>[0-3])\.conv(?P<which>[12])\.{_LEAF}": (
        "image_decoders.{m}.residuals.{n}.{which}.{leaf}"
    ),
    rf"image_de_{_M}\.conv_(?P<n>[0-2])\.{_LEAF}": "image_decoders.{m}.levels.{n}.1.{leaf}",
    rf"image_de_{_M}\.layer_norm_(?P<number>[1-3])\.(?P<leaf>weight|bias)": (
        "image_decoders.{m}.levels.{number}.2.{leaf}"
    ),
    rf"image_de_{_M}\.G_logit\.{_LEAF}": "image_decoders.{m}.out.{leaf}",
    rf"mask_de\.d(?P<level>[1-3])_(?P<conv>c1|c2|out)\.{_LEAF}": (
        "segmentation_decoder.levels.{level}.{conv}.conv.{leaf}"
    ),
    rf"mask_de\.seg_logit\.{_LEAF}": "segmentation_decoder.out.{leaf}",
}
_WORDS: Mapping[str, Callable[[str], str]] = {
    "m": parse_modality,
    "n": str,
    "number": lambda number: str(int(number) - 1),
    "residual": lambda number: str(int(number) - 2),
    "level": lambda number: str(3 - int(number)),
    "linear": {"0": "0", "1": "2"}.__getitem__,
    "head": {"mu": "scale", "sigma": "shift"}.__getitem__,
    "which": {"1": "first", "2": "second"}.__getitem__,
    "conv": {"c1": "widen", "c2": "join", "out": "out"}.__getitem__,
    "leaf": str,
}


def our_name(name: str) -> str | None:
    """`ce_t1c.e2_c1.conv.bias` -> `content_encoders.T1c.levels.1.first.conv.bias`; None for a foreign name."""
    return translate(name, _RULES, _WORDS)


def convert(checkpoint: Mapping[str, Any]) -> Converted:
    """The port's checkpoint or state dict as ours; widths, classes and crop are read from its shapes."""
    state = plain_names(checkpoint)
    with checkpoint_of("Robust-Mseg's port"):
        network: dict[str, Any] = {
            "width": state["ce_flair.e1_c1.conv.weight"].shape[0],
            "style_width": state["se_flair.c_0.conv.weight"].shape[0],
            "num_classes": state["mask_de.seg_logit.conv.weight"].shape[0],
            "crop": state["image_de_flair.layer_norm_3.weight"].shape[0],
        }
    with torch.device("meta"):
        expected = RobustMseg(**network).state_dict()
    renamed = rename(state, our_name, expected)
    order = [MODALITY_ORDER.index(m) for m in MODALITIES]
    for scale in range(SCALES):
        gate, join = f"fusions.{scale}.gate", f"fusions.{scale}.join"
        for name in (f"{gate}.weight", f"{join}.weight"):
            renamed[name] = _reordered_blocks(renamed[name], order)
        for name in (f"{gate}.weight", f"{gate}.bias"):
            renamed[name] = renamed[name][order]
    return Converted(network, renamed)


def _reordered_blocks(weight: Tensor, order: list[int]) -> Tensor:
    """Input channels, a block a modality, in another order of modalities."""
    blocks = weight.chunk(len(order), dim=1)
    return torch.cat([blocks[i] for i in order], dim=1)
