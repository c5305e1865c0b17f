"""Authors' checkpoints: names translated one to one, or nothing loaded at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from anymri.errors import WeightsError

_GIVE = "Give a checkpoint of this system's reference implementation; nothing was loaded."


@dataclass
class Converted:
    """What a checkpoint holds.

    network    arguments that build the network these weights fit
    state      its state dict
    undecided  switches that the checkpoint does not show and that no default may decide: the user must
    frozen     what the names of tensors begin with that belong into a file of their own (see `save_weights`)
    """

    network: dict[str, Any]
    state: dict[str, Tensor]
    undecided: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()


def plain_names(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, without the `module.` that data-parallel training puts before names."""
    state = checkpoint.get("state_dict", checkpoint)
    return {name.removeprefix("module."): value for name, value in state.items()}


@contextmanager
def checkpoint_of(whose: str) -> Iterator[None]:
    """Within, a name that the state dict lacks becomes a `WeightsError`; whose: what the checkpoint should be of."""
    try:
        yield
    except KeyError as error:
        raise WeightsError(f"The checkpoint holds no {error.args[0]}: it is not one of {whose}.", _GIVE) from error


def translate(name: str, rules: Mapping[str, str], words: Mapping[str, Callable[[str], str]]) -> str | None:
    """Our name for a reference's, or None for a foreign one.

    rules  patterns of whole names -> ours, with the patterns' groups in braces
    words  what becomes of a group's text, by the group's name
    """
    for pattern, ours in rules.items():
        if found := re.fullmatch(pattern, name):
            return ours.format(**{group: words[group](text) for group, text in found.groupdict().items()})
    return None


def rename(
    state: Mapping[str, Tensor], translate: Callable[[str], str | None], expected: Iterable[str]
) -> dict[str, Tensor]:
    """State dict under our names; raises `WeightsError` listing every missing and every foreign name.

    translate  reference name -> ours, or None for a name that the reference does not have
    expected   our names that must all be there
    """
    names = {name: translate(name) for name in state}
    wanted = set(expected)
    foreign = sorted(name for name, ours in names.items() if ours not in wanted)
    missing = sorted(wanted - set(names.values()))
    if foreign or missing:
        raise WeightsError(
            f"The checkpoint does not fit: {len(missing)} missing ({', '.join(missing[:8]) or 'none'}), "
            f"{len(foreign)} foreign ({', '.join(foreign[:8]) or 'none'}).",
            _GIVE,
        )
    return {names[name]: value for name, value in state.items()}  # type: ignore[misc]
