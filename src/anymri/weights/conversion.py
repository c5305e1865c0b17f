"""Report of a conversion: what of a checkpoint was used, what was skipped, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anymri.systems.registry import card
from anymri.text import count, listed, shortened, shown
from anymri.weights.recognition import Match
from anymri.weights.state_dicts import StateDict, has_tensors

_MOST_NAMES = 8
_AVERAGED = "moving average of the weights; the authors test the weights of training itself"
_SAME = "the same weights again"
_OTHER = "other weights of the same network"
_FOREIGN = "tensors of something else"
_OPTIMISER = "optimiser"
_NO_WEIGHTS = "not weights"


@dataclass(frozen=True)
class Conversion:
    """What was used and skipped of a checkpoint.

    system         name of the system
    place          keys of the state dict that was used, or "the whole file"
    averaged       whether it is a moving average of the weights (EMA)
    tensors        number of tensors in the weights
    values         number of values in them: parameters and running statistics
    unused         names of tensors that the authors' network stores and never uses, or stores a second time
    unused_values  number of values in them
    skipped        reason -> other entries of the checkpoint
    twins          other systems whose names and shapes are the same
    """

    system: str
    place: str
    averaged: bool
    tensors: int
    values: int
    unused: tuple[str, ...]
    unused_values: int
    skipped: Mapping[str, tuple[str, ...]]
    twins: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"system: {self.system}, {card(self.system).title}"
        average = ", a moving average; the file does not have other weights" if self.averaged else ""
        yield f"used: {self.place}{average}: {count(self.tensors, 'tensor')} with {self.values:,} values"
        if self.unused:
            example = shortened(self.unused[0])
            yield (
                f"skipped: {count(len(self.unused), 'tensor')} with {self.unused_values:,} values, such as {example} "
                "(the authors' network never uses them, or stores them twice)"
            )
        for reason, entries in self.skipped.items():
            yield f"skipped: {listed(entries, _MOST_NAMES)} ({reason})"
        for twin in self.twins:
            yield f"note: the repository of {twin} has this network too; of a checkpoint from there: --system {twin}"


def report(content: Mapping[Any, Any], match: Match) -> Conversion:
    """Return what was used and skipped of the content of a checkpoint."""
    return Conversion(
        system=match.system,
        place=match.source.label,
        averaged=match.source.averaged,
        tensors=len(match.converted.state),
        values=sum(value.numel() for value in match.converted.state.values()),
        unused=match.converted.unused,
        unused_values=sum(match.source.tensors[name].numel() for name in match.converted.unused),
        skipped=_skipped(content, match),
        twins=match.twins,
    )


def _skipped(content: Mapping[Any, Any], match: Match) -> dict[str, tuple[str, ...]]:
    grouped: dict[str, list[str]] = {}
    for place, value in _beside(content, match.source.place):
        label = shortened(".".join(key if isinstance(key, str) else shown(key) for key in place))
        grouped.setdefault(_reason(place, value, match), []).append(label)
    return {reason: tuple(labels) for reason, labels in grouped.items()}


def _beside(content: Mapping[Any, Any], used: tuple[str, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the entries beside the state dict and what is not a tensor in it, with the keys that lead to them."""
    for depth in range(len(used) + 1):
        ahead = used[depth] if depth < len(used) else None
        for key, value in content.items():
            if not (isinstance(key, str) and key == ahead) and not (ahead is None and isinstance(value, Tensor)):
                yield (*used[:depth], key), value
        if ahead is not None:
            content = content[ahead]


def _reason(place: tuple[Any, ...], value: object, match: Match) -> str:
    """Return why an entry of a checkpoint was skipped."""
    for copy in match.copies:
        if copy.place[: len(place)] == place:
            if copy.averaged and not match.source.averaged:
                return _AVERAGED
            return _SAME if _equal(copy, match.source) else _OTHER
    if isinstance(place[-1], str) and "optim" in place[-1].lower():
        return _OPTIMISER
    return _FOREIGN if has_tensors(value) else _NO_WEIGHTS


def _equal(one: StateDict, other: StateDict) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        value.dtype == other.tensors[name].dtype and torch.equal(value, other.tensors[name])
        for name, value in one.tensors.items()
    )
