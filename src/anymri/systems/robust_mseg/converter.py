"""Conversion of checkpoints of Robust-Mseg's port (IM-Fuse repository, folder RobustSeg).

Gates and fusions of the port take the modalities as channels in the order FLAIR, T1c, T1, T2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from anymri.modalities import MODALITIES
from anymri.systems.checkpoints import Converted, checkpoint_of, reorder_blocks
from anymri.systems.families.disentangling import checkpoints
from anymri.systems.families.disentangling.blocks import SCALES
from anymri.systems.families.disentangling.checkpoints import LEAF

MODALITY_ORDER = ("FLAIR", "T1c", "T1", "T2")
_M = r"(?P<m>flair|t1c|t1|t2)"
_LEAF = rf"conv\.{LEAF}"
_LINEAR = rf"linear\.{LEAF}"
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
    rf"image_de_{_M}\.layer_norm_(?P<number>[1-3])\.{LEAF}": ("image_decoders.{m}.levels.{number}.2.{leaf}"),
    rf"image_de_{_M}\.G_logit\.{_LEAF}": "image_decoders.{m}.out.{leaf}",
    rf"mask_de\.d(?P<level>[1-3])_(?P<conv>c1|c2|out)\.{_LEAF}": (
        "segmentation_decoder.levels.{level}.{conv}.conv.{leaf}"
    ),
    rf"mask_de\.seg_logit\.{_LEAF}": "segmentation_decoder.out.{leaf}",
}
_WORDS: Mapping[str, Callable[[str], str]] = {
    "level": lambda number: str(3 - int(number)),
    "linear": {"0": "0", "1": "2"}.__getitem__,
    "conv": {"c1": "widen", "c2": "join", "out": "out"}.__getitem__,
}


def our_name(name: str) -> str | None:
    """Return our name for a name of the port, or None for a foreign one.

    `ce_t1c.e2_c1.conv.bias` becomes `content_encoders.T1c.levels.1.first.conv.bias`.
    """
    return checkpoints.our_name(name, _RULES, _WORDS)


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Return the port's state dict as ours; widths, classes and crop are read from its shapes."""
    with checkpoint_of("Robust-Mseg's port"):
        network: dict[str, Any] = {
            "width": state["ce_flair.e1_c1.conv.weight"].shape[0],
            "style_width": state["se_flair.c_0.conv.weight"].shape[0],
            "num_classes": state["mask_de.seg_logit.conv.weight"].shape[0],
            "crop": state["image_de_flair.layer_norm_3.weight"].shape[0],
        }
    converted = checkpoints.converted("robust_mseg", network, state, our_name)
    order = [MODALITY_ORDER.index(m) for m in MODALITIES]
    for scale in range(SCALES):
        gate, join = f"fusions.{scale}.gate", f"fusions.{scale}.join"
        for name in (f"{gate}.weight", f"{join}.weight"):
            converted.state[name] = reorder_blocks(converted.state[name], order, dim=1)
        for name in (f"{gate}.weight", f"{gate}.bias"):
            converted.state[name] = converted.state[name][order]
    return converted
