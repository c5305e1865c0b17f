"""Translate the names of authors' checkpoints one to one, or refuse the checkpoint as a whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anymri.errors import WeightsError
from anymri.systems.blueprint import blueprint
from anymri.text import shortened, shown

_GIVE = "Give a checkpoint of this system's reference implementation; nothing was loaded."


@dataclass
class Converted:
    """Content of a converted checkpoint.

    network    arguments of the network that fits these weights
    state      its state dict
    undecided  switches that the checkpoint does not show and that the user must choose, because a default may be wrong
    frozen     prefixes of the names of tensors that are saved in a separate file (see `save_weights`)
    """

    network: dict[str, Any]
    state: dict[str, Tensor]
    undecided: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()


def plain_names(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint without the prefix `module.` that data-parallel training adds.

    Raises `WeightsError` if it is not a dictionary of tensors under names.
    """
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else checkpoint
    if not isinstance(state, Mapping):
        raise WeightsError(f"The state dict of the checkpoint is of type {type(state).__name__}.", _GIVE)
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.numel() == 0:
            raise WeightsError(f"The entry {shown(name)} of the state dict is not a tensor with values.", _GIVE)
    return {name.removeprefix("module."): value for name, value in state.items()}


def expected_names(system: str, network: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors of a network in anymri; the network is not allocated."""
    return list(blueprint(system, network).state_dict())


@contextmanager
def checkpoint_of(expected: str) -> Iterator[None]:
    """Context in which a `KeyError` of a missing tensor becomes a `WeightsError`.

    expected  the implementation that the checkpoint should come from, for the error
    """
    try:
        yield
    except KeyError as error:
        raise WeightsError(
            f"The checkpoint does not contain {error.args[0]}: it is not one of {expected}.", _GIVE
        ) from error


def translate(name: str, rules: Mapping[str, str], words: Mapping[str, Callable[[str], str]]) -> str | None:
    """Return our name of a tensor of the reference, or None for a foreign name.

    rules  patterns of whole names -> ours, with the patterns' groups in braces
    words  name of a group -> function that translates its text
    """
    for pattern, ours in rules.items():
        if found := re.fullmatch(pattern, name):
            return ours.format(**{group: words[group](text) for group, text in found.groupdict().items()})
    return None


def rename(
    state: Mapping[str, Tensor], translate: Callable[[str], str | None], expected: Iterable[str]
) -> dict[str, Tensor]:
    """Return the state dict under our names; raise `WeightsError` with the missing and foreign names, if any.

    translate  reference name -> ours, or None for a name that the reference does not have
    expected   our names that must all be there
    """
    wanted = set(expected)
    renamed: dict[str, Tensor] = {}
    foreign: list[str] = []
    for name, value in state.items():
        ours = translate(name)
        if ours is None or ours not in wanted:
            foreign.append(name)
        else:
            renamed[ours] = value
    missing = sorted(wanted - renamed.keys())
    if foreign or missing:
        raise WeightsError(
            f"The checkpoint does not fit: {len(missing)} missing ({', '.join(missing[:8]) or 'none'}), "
            f"{len(foreign)} foreign ({', '.join(map(shortened, sorted(foreign)[:8])) or 'none'}).",
            _GIVE,
        )
    return renamed


def reorder_blocks(weight: Tensor, order: Sequence[int], dim: int) -> Tensor:
    """Return a weight whose blocks of channels along `dim`, one per modality, are in another order.

    order  the number in `weight` of each block of the result
    """
    blocks = weight.chunk(len(order), dim)
    return torch.cat([blocks[number] for number in order], dim)
