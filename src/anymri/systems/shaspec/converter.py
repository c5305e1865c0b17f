"""Conversion of checkpoints of ShaSpec's reference: the authors' or those of IM-Fuse's port.

The reference has the axes z, x, y, the modalities flair, t1, t1ce, t2 and the regions ET, WT, TC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from anymri.modalities import MODALITIES, parse_modality
from anymri.regions import REGIONS
from anymri.systems.checkpoints import (
    Converted,
    checkpoint_of,
    expected_names,
    rename,
    reorder_blocks,
    split_unused,
    translate,
)

MODALITY_ORDER = ("flair", "t1", "t1ce", "t2")
REGION_ORDER = ("ET", "WT", "TC")
# The branch that a norm removes; see `anymri.systems.shaspec.encoder.Context`.
UNUSED = re.compile(r"\w+_enc\.aspp\.branch5_")
_UNIT = {"conv": "conv", "norm": "norm", "0": "conv", "1": "norm"}
_BOTTLENECK = {"1": "narrow", "2": "mix", "3": "widen"}
_BASIC_BLOCK = {"1": "first", "2": "second"}
_ENCODER = rf"(?P<encoder>{'|'.join(MODALITY_ORDER)}|shared)_enc"
_LEAF = r"(?P<leaf>weight|bias)"
_RULES = {
    rf"{_ENCODER}\.backbone\.(?P<unit>conv|norm)1\.{_LEAF}": "{encoder}.stem.{unit}.{leaf}",
    rf"{_ENCODER}\.backbone\.layer(?P<stage>\d)\.(?P<number>\d)\.(?P<unit>conv|norm)(?P<bottleneck>[123])\.{_LEAF}": (
        "{encoder}.stages.{stage}.{number}.{bottleneck}.{unit}.{leaf}"
    ),
    rf"{_ENCODER}\.backbone\.layer(?P<stage>\d)\.(?P<number>\d)\.downsample\.(?P<unit>[01])\.{_LEAF}": (
        "{encoder}.stages.{stage}.{number}.shortcut.{unit}.{leaf}"
    ),
    rf"{_ENCODER}\.asppreduce\.(?P<unit>[01])\.{_LEAF}": "{encoder}.reduce.{unit}.{leaf}",
    rf"{_ENCODER}\.aspp\.branch(?P<branch>[1-4])\.(?P<unit>[01])\.{_LEAF}": (
        "{encoder}.context.branches.{branch}.{unit}.{leaf}"
    ),
    rf"{_ENCODER}\.aspp\.conv_cat\.(?P<unit>[01])\.{_LEAF}": "{encoder}.context.join.{unit}.{leaf}",
    rf"compos_layer\.conv\.{_LEAF}": "composition.{leaf}",
    rf"dom_classifier\.{_LEAF}": "domain_classifier.{leaf}",
    rf"shared_dec\.shortcut_conv(?P<level>\d)\.(?P<unit>[01])\.{_LEAF}": "decoder.levels.{level}.skip.{unit}.{leaf}",
    rf"shared_dec\.transposeconv_stage(?P<level>\d)\.{_LEAF}": "decoder.levels.{level}.upsample.{leaf}",
    rf"shared_dec\.stage(?P<level>\d)_de\.(?P<unit>conv|norm)(?P<basic>[12])\.{_LEAF}": (
        "decoder.levels.{level}.block.{basic}.{unit}.{leaf}"
    ),
    rf"shared_dec\.cls_conv\.0\.{_LEAF}": "decoder.out.{leaf}",
}
_WORDS: Mapping[str, Callable[[str], str]] = {
    "encoder": lambda name: name if name == "shared" else f"specific.{parse_modality(name)}",
    "unit": _UNIT.__getitem__,
    "bottleneck": _BOTTLENECK.__getitem__,
    "basic": _BASIC_BLOCK.__getitem__,
    "stage": lambda number: str(int(number) - 1),
    "branch": lambda number: str(int(number) - 1),
    "number": str,
    "level": str,
    "leaf": str,
}


def our_name(name: str) -> str | None:
    """Return our name for a name of the reference, or None for a foreign one.

    `t1ce_enc.backbone.layer1.0.conv1.weight` becomes `specific.T1c.stages.0.0.narrow.conv.weight`.
    """
    return translate(name, _RULES, _WORDS)


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Return the reference's state dict as ours."""
    state, unused = split_unused(state, UNUSED)
    with checkpoint_of("ShaSpec's reference"):
        network: dict[str, Any] = {
            "width": state["shared_enc.backbone.conv1.weight"].shape[0],
            "num_classes": state["shared_dec.cls_conv.0.weight"].shape[0] + 1,
        }
    expected = expected_names("shaspec", network)
    renamed = rename(state, our_name, expected)
    return Converted(network, {name: _reordered(name, value) for name, value in renamed.items()}, unused=unused)


def _reordered(name: str, value: Tensor) -> Tensor:
    """Return one parameter, under our name, with axes, modalities and regions in our order."""
    if value.ndim == 5:
        value = value.movedim(2, -1)
    modalities = [[parse_modality(m) for m in MODALITY_ORDER].index(m) for m in MODALITIES]
    if name.startswith("domain_classifier"):
        return value[modalities]
    if name == "decoder.out.weight":
        return value[[REGION_ORDER.index(region) for region in list(REGIONS)[: len(value)]]]
    if name.endswith("skip.conv.weight"):
        return reorder_blocks(value, modalities, dim=1)
    if name == "decoder.levels.3.upsample.weight":
        return reorder_blocks(value, modalities, dim=0)
    return value
