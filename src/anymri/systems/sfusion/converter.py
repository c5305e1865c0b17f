"""Conversion of checkpoints of SFusion's port (IM-Fuse repository, folder SFusion).

Modules are named after their modality, so weights need no permutation. The number of attention heads and the dropout
rates cannot be read from a checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from anymri.systems.checkpoints import Converted, checkpoint_of
from anymri.systems.families.disentangling import checkpoints
from anymri.systems.families.disentangling.blocks import SCALES
from anymri.systems.families.disentangling.checkpoints import LEAF

GRID = 8
_M = r"(?P<m>t1___|t1ce_|t2___|flair)"
_RULES = {
    rf"style_encoder_{_M}\.unit\.(?P<n>[0-4])\.unit\.0\.{LEAF}": "style_encoders.{m}.convs.{n}.conv.{leaf}",
    rf"style_encoder_{_M}\.unit2\.unit\.0\.{LEAF}": "style_encoders.{m}.out.{leaf}",
    rf"content_encoder_{_M}\.unit(?P<number>[1-4])_0\.unit\.0\.{LEAF}": (
        "content_encoders.{m}.levels.{number}.first.conv.{leaf}"
    ),
    rf"content_encoder_{_M}\.unit(?P<number>[1-4])\.(?P<n>[01])\.unit\.0\.{LEAF}": (
        "content_encoders.{m}.levels.{number}.residual.{n}.conv.{leaf}"
    ),
    rf"image_decoder_{_M}\.mlp\.unit\.(?P<n>[02])\.unit\.1\.{LEAF}": "image_decoders.{m}.shared.{n}.{leaf}",
    rf"image_decoder_{_M}\.mlp\.get_(?P<head>mu|sigma)\.unit\.1\.{LEAF}": "image_decoders.{m}.{head}.{leaf}",
    rf"image_decoder_{_M}\.ar(?P<number>[1-4])\.conv(?P<which>[12])\.unit\.0\.{LEAF}": (
        "image_decoders.{m}.residuals.{number}.{which}.conv.{leaf}"
    ),
    rf"image_decoder_{_M}\.features\.convblock(?P<number>[1-3])\.unit\.0\.{LEAF}": (
        "image_decoders.{m}.levels.{number}.1.conv.{leaf}"
    ),
    rf"image_decoder_{_M}\.conv_final\.unit\.0\.{LEAF}": "image_decoders.{m}.out.conv.{leaf}",
    r"fusion(?P<number>[1-4])\.fusion_block\.layers\.(?P<n>\d+)\.(?P<part>.+)": "fusions.{number}.layers.{n}.{part}",
    r"fusion(?P<number>[1-4])\.upsample\.conv_3d\.weight": "fusions.{number}.upsample.weight",
    rf"mask_decoder\.features\.convblock(?P<conv>[123])(?P<number>[1-3])\.unit\.0\.{LEAF}": (
        "segmentation_decoder.levels.{number}.{conv}.conv.{leaf}"
    ),
    rf"mask_decoder\.conv_seg\.unit\.0\.{LEAF}": "segmentation_decoder.out.{leaf}",
}
_TRANSFORMER = {
    "self_attn.in_proj_": "attention.qkv.",
    "self_attn.out_proj.": "attention.out.",
    "linear1.": "mlp.0.",
    "linear2.": "mlp.3.",
    "norm1.": "attention_norm.",
    "norm2.": "mlp_norm.",
}
_WORDS: Mapping[str, Callable[[str], str]] = {
    "conv": {"1": "widen", "2": "join", "3": "out"}.__getitem__,
    "part": lambda part: re.sub(
        "|".join(map(re.escape, _TRANSFORMER)), lambda found: _TRANSFORMER[found[0]], part, count=1
    ),
}


def our_name(name: str) -> str | None:
    """Return our name for a name of the port, or None for a foreign one.

    `mask_decoder.features.convblock12.unit.0.bias` becomes `segmentation_decoder.levels.1.widen.conv.bias`.
    """
    return checkpoints.our_name(name, _RULES, _WORDS)


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Return the port's state dict as ours; names and shapes give widths, classes, layers and crop."""
    with checkpoint_of("SFusion's port"):
        logits, width = state["fusion1.upsample.conv_3d.weight"].shape[:2]
        network: dict[str, Any] = {
            "width": width,
            "crop": GRID * round((logits / width) ** (1 / 3)),
            "layers": sum(name.startswith("fusion1.") and name.endswith(".norm1.weight") for name in state),
            "style_width": state["style_encoder_flair.unit.0.unit.0.weight"].shape[0],
            "num_classes": state["mask_decoder.conv_seg.unit.0.weight"].shape[0],
            "styled_eps": 0.0,
        }
    converted = checkpoints.converted("sfusion", network, state, our_name)
    for scale in range(SCALES):
        name = f"fusions.{scale}.upsample.weight"
        converted.state[name] = _channels_first(converted.state[name])
    return converted


def _channels_first(weight: Tensor) -> Tensor:
    """Return logits of a token by channel, then voxel, (E * r^3, E); the port has them by voxel, then channel."""
    channels = weight.shape[1]
    return weight.view(-1, channels, channels).transpose(0, 1).reshape(-1, channels)
