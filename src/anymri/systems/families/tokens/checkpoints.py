"""Names and shapes of tensors that checkpoints of mmFormer's and IM-Fuse's references share.

Both networks name their modules alike: `streams` per modality, then `transformer` and `widen`, `fusions` and `decoder`,
and `shared_decoder` for each modality alone. Levels are counted from the finest. The Mamba blocks of IM-Fuse are in its
converter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from anymri.layers.preactivation import LEVELS, STRIDE
from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.checkpoints import checkpoint_of, reorder_blocks, translate

MODALITY_ORDER = ("flair", "t1ce", "t1", "t2")
# Modules that some versions of the references store and none uses.
UNUSED = re.compile(rf"(?:{'|'.join(MODALITY_ORDER)})_decode_conv\.")
_M = rf"(?P<m>{'|'.join(MODALITY_ORDER)})"
_LEAF = r"(?P<leaf>weight|bias)"
_TRANSFORMER = {
    "cross_attention_list.0.fn.norm": "attention.0",
    "cross_attention_list.0.fn.fn.qkv": "attention.1.qkv",
    "cross_attention_list.0.fn.fn.proj": "attention.1.out",
    "cross_ffn_list.0.fn.norm": "mlp.0",
    "cross_ffn_list.0.fn.fn.net.0": "mlp.1",
    "cross_ffn_list.0.fn.fn.net.3": "mlp.4",
}
_MODULE = rf"(?P<module>{'|'.join(map(re.escape, _TRANSFORMER))})"
_RULES = {
    rf"{_M}_pos": "streams.{m}.position",
    rf"{_M}_encoder\.e(?P<level>1)_c1\.{_LEAF}": "streams.{m}.encoder.levels.{level}.first.{leaf}",
    rf"{_M}_encoder\.e(?P<level>\d)_c1\.conv\.{_LEAF}": "streams.{m}.encoder.levels.{level}.first.conv.{leaf}",
    rf"{_M}_encoder\.e(?P<level>\d)_c(?P<block>[23])\.conv\.{_LEAF}": (
        "streams.{m}.encoder.levels.{level}.residual.{block}.conv.{leaf}"
    ),
    rf"{_M}_encode_conv\.{_LEAF}": "streams.{m}.embed.{leaf}",
    rf"{_M}_transformer\.{_MODULE}\.{_LEAF}": "streams.{m}.transformer.{module}.{leaf}",
    rf"multimodal_transformer\.{_MODULE}\.{_LEAF}": "transformer.{module}.{leaf}",
    rf"multimodal_decode_conv\.{_LEAF}": "widen.{leaf}",
    rf"decoder_fuse\.RFM(?P<level>\d)\.fusion_layer\.0\.conv\.{_LEAF}": "fusions.{level}.reduce.conv.{leaf}",
    rf"decoder_fuse\.RFM(?P<level>\d)\.fusion_layer\.(?P<mix>[12])\.conv\.{_LEAF}": (
        "fusions.{level}.mix.{mix}.conv.{leaf}"
    ),
    rf"decoder_fuse\.seg_d(?P<level>\d)\.{_LEAF}": "decoder.heads.{level}.{leaf}",
    rf"(?P<decoder>decoder_fuse|decoder_sep)\.seg_layer\.{_LEAF}": "{decoder}.out.{leaf}",
    rf"(?P<decoder>decoder_fuse|decoder_sep)\.d(?P<level>\d)_(?P<conv>c1|c2|out)\.conv\.{_LEAF}": (
        "{decoder}.levels.{level}.{conv}.conv.{leaf}"
    ),
}
_WORDS: Mapping[str, Callable[[str], str]] = {
    "m": parse_modality,
    "level": lambda number: str(int(number) - 1),
    "block": lambda number: str(int(number) - 2),
    "mix": lambda number: str(int(number) - 1),
    "module": _TRANSFORMER.__getitem__,
    "decoder": {"decoder_fuse": "decoder", "decoder_sep": "shared_decoder"}.__getitem__,
    "conv": {"c1": "widen", "c2": "join", "out": "out"}.__getitem__,
    "leaf": str,
}


def our_name(name: str) -> str | None:
    """Return our name of a tensor of the reference, or None for a foreign name.

    Example: `t1ce_encoder.e2_c1.conv.bias` -> `streams.T1c.encoder.levels.1.first.conv.bias`.
    """
    return translate(name, _RULES, _WORDS)


def settings(state: Mapping[str, Tensor], system: str) -> dict[str, Any]:
    """Return the arguments of the network that the shapes of a reference's state dict show: all but `heads`.

    They show the crop if it is a cube, and only its number of voxels otherwise: then it is not in the result.


    system  name of the method, for the `WeightsError` if a tensor is missing
    """
    with checkpoint_of(f"{system}'s reference"):
        _, tokens, token_width = state["flair_pos"].shape
        side = round(tokens ** (1 / 3))
        return {
            "width": state["flair_encoder.e1_c1.weight"].shape[0],
            "token_width": token_width,
            "mlp_width": state["multimodal_transformer.cross_ffn_list.0.fn.fn.net.0.weight"].shape[0],
            **({"crop": STRIDE * side} if side**3 == tokens else {}),
            "num_classes": state["decoder_fuse.seg_layer.weight"].shape[0],
        }


def reorder(state: dict[str, Tensor]) -> None:
    """Bring the input channels of convolutions over modalities and skips into our order, in place.

    state  the state dict under our names
    """
    order = [[parse_modality(m) for m in MODALITY_ORDER].index(m) for m in MODALITIES]
    for level in range(LEVELS - 1):
        name = f"fusions.{level}.reduce.conv.weight"
        # With as many input as output channels, the convolution reads one fused map (IM-Fuse).
        if name in state and state[name].shape[1] > state[name].shape[0]:
            state[name] = reorder_blocks(state[name], order, dim=1)
        # The references' decoder of single modalities has the skip last, their fusing one first; both of ours first.
        name = f"shared_decoder.levels.{level}.join.conv.weight"
        state[name] = reorder_blocks(state[name], (1, 0), dim=1)
