"""Find the state dicts in a checkpoint, whatever keys and prefixes a training script has added."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from anymri.text import shortened

# Words in names that data-parallel training and torch.compile add.
_WRAPPERS = {"module", "_orig_mod"}
# Tensor that torch's AveragedModel stores beside the averaged weights.
_AVERAGE_COUNT = "n_averaged"
_AVERAGED = re.compile(r"(?:^|[^a-z])(?:ema|swa|avg|averaged?|shadow)(?:[^a-z]|$)")
# Largest number of state dicts that are considered: weights, copies and discriminators.
_MOST = 8


@dataclass(frozen=True, eq=False)
class StateDict:
    """State dict in a checkpoint.

    place     keys that lead to it
    tensors   its tensors by the names that the network gives them, without prefixes of wrappers
    averaged  whether it is a moving average of the weights (EMA)
    """

    place: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    averaged: bool

    @property
    def label(self) -> str:
        """Place as text."""
        return shortened(".".join(self.place)) or "the whole file"


def find_state_dicts(content: Mapping[Any, Any]) -> list[StateDict]:
    """Return the largest state dicts in a checkpoint, first those that fewer keys lead to, then in the file's order.

    content  the dictionary that `read_checkpoint` returns
    """
    found = list(_walk(content))
    largest = sorted(found, key=lambda each: len(each.tensors), reverse=True)[:_MOST]
    return [each for each in found if each in largest]


def has_tensors(value: object) -> bool:
    """Return whether a value of a checkpoint is a dictionary with tensors in it."""
    return isinstance(value, Mapping) and next(_walk(value), None) is not None


def _walk(content: Mapping[Any, Any]) -> Iterator[StateDict]:
    """Yield every dictionary that has tensors under names."""
    pending: deque[tuple[tuple[str, ...], Mapping[Any, Any]]] = deque([((), content)])
    while pending:
        place, mapping = pending.popleft()
        named = {name: value for name, value in mapping.items() if isinstance(name, str)}
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor) and value.numel()}
        if tensors:
            averaged = _AVERAGE_COUNT in tensors or bool(_AVERAGED.search(".".join(place).lower()))
            yield StateDict(place, _without_wrappers(tensors), averaged)
        pending.extend(((*place, name), value) for name, value in named.items() if isinstance(value, Mapping))


def _without_wrappers(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return tensors under names without the words of wrappers, or under unchanged names if two would become equal."""
    plain = {
        ".".join(word for word in name.split(".") if word not in _WRAPPERS): value
        for name, value in tensors.items()
        if name != _AVERAGE_COUNT
    }
    return plain if len(plain) == len(tensors.keys() - {_AVERAGE_COUNT}) else tensors
