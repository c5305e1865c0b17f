"""Translate the names of authors' checkpoints one to one, or refuse the checkpoint as a whole.

A converter receives a plain state dict: `anymri.weights.state_dicts` finds it in a file and removes prefixes.
"""

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
from anymri.text import shortened

_GIVE = "Give a checkpoint of this system's reference implementation; nothing was loaded."


@dataclass
class Converted:
    """Content of a converted checkpoint.

    network    arguments of the network that fits these weights
    state      its state dict
    undecided  switches that the checkpoint does not show and that the user must choose, because a default may be wrong
    frozen     prefixes of the names of tensors that are saved in a separate file (see `save_weights`)
    unused     names of tensors of the reference that it never uses, or stores a second time; they are not converted
    twin       another system whose reference has the same names and shapes: a checkpoint is recognised as the twin's
    """

    network: dict[str, Any]
    state: dict[str, Tensor]
    undecided: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    twin: str | None = None


class NamesError(WeightsError):
    """A checkpoint in which names are missing or foreign; `differences` is their number."""

    def __init__(self, what: str, fix: str, differences: int = 0) -> None:
        super().__init__(what, fix)
        self.differences = differences


def split_unused(state: Mapping[str, Tensor], unused: re.Pattern[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a state dict that the reference uses, and the names of the others.

    unused  pattern that names of the others begin with
    """
    used = {name: value for name, value in state.items() if not unused.match(name)}
    return used, tuple(name for name in state if name not in used)


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
    """Return the state dict under our names; raise `NamesError` with the missing and foreign names, if any.

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
        raise NamesError(
            f"The checkpoint does not fit: {len(missing)} missing ({', '.join(missing[:8]) or 'none'}), "
            f"{len(foreign)} foreign ({', '.join(map(shortened, sorted(foreign)[:8])) or 'none'}).",
            _GIVE,
            len(missing) + len(foreign),
        )
    return renamed


def reorder_blocks(weight: Tensor, order: Sequence[int], dim: int) -> Tensor:
    """Return a weight whose blocks of channels along `dim`, one per modality, are in another order.

    order  the number in `weight` of each block of the result
    """
    blocks = weight.chunk(len(order), dim)
    return torch.cat([blocks[number] for number in order], dim)
