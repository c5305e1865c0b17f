"""Convert the state dict of mmFormer's reference: the original repository, or the copy in IM-Fuse's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anymri.systems.checkpoints import Converted, expected_names, plain_names, rename
from anymri.systems.families.tokens.checkpoints import UNUSED, our_name, reorder, settings


def convert(checkpoint: Mapping[str, Any]) -> Converted:
    """Return the converted checkpoint or state dict, without what the original stores and never uses.

    Raises `WeightsError` if the names do not fit.
    """
    state = {name: value for name, value in plain_names(checkpoint).items() if not UNUSED.match(name)}
    network = settings(state, "mmFormer")
    expected = expected_names("mmformer", network)
    renamed = rename(state, our_name, expected)
    reorder(renamed)
    return Converted(network, renamed)
