"""Convert the state dict of mmFormer's reference: the original repository, or the copy in IM-Fuse's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymri.systems.checkpoints import Converted, expected_names, rename, split_unused
from anymri.systems.families.tokens.checkpoints import UNUSED, our_name, reorder, settings


def convert(state: Mapping[str, Tensor]) -> Converted:
    """Return the converted state dict, without what the original stores and never uses.

    Raises `WeightsError` if the names do not fit.
    """
    state, unused = split_unused(state, UNUSED)
    network = settings(state, "mmFormer")
    expected = expected_names("mmformer", network)
    renamed = rename(state, our_name, expected)
    reorder(renamed)
    return Converted(network, renamed, unused=unused)
