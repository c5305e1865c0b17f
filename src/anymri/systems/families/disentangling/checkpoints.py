"""Conversion that the checkpoints of Robust-Mseg and SFusion share: words inside names, and the renamed state dict.

Patterns of the ports' names mark their variable parts with groups; a group's name says how its text becomes ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from anymri.modalities import parse_modality
from anymri.systems.checkpoints import Converted, expected_names, rename, translate

LEAF = r"(?P<leaf>weight|bias)"
# Numbers count from 0 in `n`, from 1 in `number` and from 2 in `residual`; ours count from 0.
WORDS: Mapping[str, Callable[[str], str]] = {
    "m": lambda padded: parse_modality(padded.rstrip("_")),
    "n": str,
    "number": lambda number: str(int(number) - 1),
    "residual": lambda number: str(int(number) - 2),
    "head": {"mu": "scale", "sigma": "shift"}.__getitem__,
    "which": {"1": "first", "2": "second"}.__getitem__,
    "leaf": str,
}


def our_name(
    name: str, rules: Mapping[str, str], words: Mapping[str, Callable[[str], str]] | None = None
) -> str | None:
    """Return our name for a name of a port, or None for a foreign one.

    rules  patterns of the port's names -> ours, with the patterns' groups in braces
    words  translations of groups that only this port has
    """
    return translate(name, rules, {**WORDS, **(words or {})})


def converted(
    system: str,
    network: dict[str, Any],
    state: Mapping[str, Tensor],
    our_name: Callable[[str], str | None],
) -> Converted:
    """Return a port's state dict under our names; raise `WeightsError` if names are missing or foreign.

    system    name of the system
    network   its arguments
    our_name  name of the port -> ours, or None for a foreign one
    """
    return Converted(network, rename(state, our_name, expected_names(system, network)))
