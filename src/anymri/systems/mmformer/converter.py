"""From the reference's state dict, of the original repository or of IM-Fuse's copy, to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anymri.systems.checkpoints import Converted, plain_names, rename
from anymri.systems.families.tokens.checkpoints import UNUSED, our_name, reorder, settings
from anymri.systems.mmformer.network import MMFormer


def convert(checkpoint: Mapping[str, Any]) -> Converted:
    """The reference's checkpoint or state dict as ours; what the original stores and never uses is left behind."""
    state = {name: value for name, value in plain_names(checkpoint).items() if not UNUSED.match(name)}
    network = settings(state, "mmFormer")
    renamed = rename(state, our_name, MMFormer(**network).state_dict())
    reorder(renamed)
    return Converted(network, renamed)
