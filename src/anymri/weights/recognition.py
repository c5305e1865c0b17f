"""Recognise the system of a checkpoint: the one whose converter takes all its names and shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anymri.errors import WeightsError
from anymri.systems import registry
from anymri.systems.checkpoints import Converted, NamesError
from anymri.text import listed, shortened
from anymri.weights.state_dicts import StateDict

_GIVE = "Give a checkpoint of this system's reference implementation."
_MOST_NAMES = 3


@dataclass(frozen=True)
class _Refusal:
    """State dict that is not one of a system, with the error that says why."""

    system: str
    source: StateDict
    error: WeightsError

    @property
    def distance(self) -> tuple[float, int]:
        """Number of names that differ, if it is known, and then a number that is smaller for more tensors."""
        differences = self.error.differences if isinstance(self.error, NamesError) else math.inf
        return differences, -len(self.source.tensors)


@dataclass(frozen=True)
class Match:
    """State dict of a checkpoint that a system's converter takes.

    system     name of the system
    source     the state dict
    converted  what the converter made of it
    copies     other state dicts of the checkpoint that the converter takes too
    twins      other systems whose converters take it
    """

    system: str
    source: StateDict
    converted: Converted
    copies: tuple[StateDict, ...]
    twins: tuple[str, ...]


def recognise(checkpoint: Path, state_dicts: Sequence[StateDict], system: str | None = None) -> Match:
    """Return the match of a checkpoint with the only system that fits, or with `system`.

    Of several state dicts of one network the first is taken; averaged ones (EMA) only if there is no other, because
    the authors of all ten systems test the weights of training itself.

    checkpoint   its file, for errors
    state_dicts  what `find_state_dicts` returns

    Raises `WeightsError` if none or several systems fit, with the closest.
    """
    fits: dict[str, list[tuple[StateDict, Converted]]] = {}
    refusals: list[_Refusal] = []
    for name in [system] if system else convertible():
        for source in sorted(state_dicts, key=lambda each: each.averaged):
            result = _convert(checkpoint, name, source)
            if isinstance(result, Converted):
                fits.setdefault(name, []).append((source, result))
            else:
                refusals.append(_Refusal(name, source, result))
    chosen = [name for name, matches in fits.items() if matches[0][1].twin not in fits]
    if len(chosen) > 1:
        raise WeightsError(
            f"{checkpoint} fits several systems: {', '.join(chosen)}.",
            f"Name the one that it is of, as in: --system {chosen[0]}",
        )
    if not chosen:
        raise _refused(checkpoint, refusals, system)
    (source, converted), *copies = fits[chosen[0]]
    twins = tuple(name for name in fits if name not in chosen)
    return Match(chosen[0], source, converted, tuple(copy for copy, _ in copies), twins)


def convertible() -> list[str]:
    """Return the names of the systems that have a converter."""
    return [name for name in registry.names() if registry.spec(name).convert]


def _convert(checkpoint: Path, system: str, source: StateDict) -> Converted | WeightsError:
    """Return the converted state dict, or the error that says why it is not one of the system."""
    convert = registry.spec(system).convert
    assert convert
    try:
        return convert(source.tensors)
    except WeightsError as error:
        return error
    except Exception:  # noqa: BLE001 (converters read names and shapes that may be anything)
        return WeightsError(f"{checkpoint} does not fit: its tensors do not have the shapes of the reference.", _GIVE)


def _refused(checkpoint: Path, refusals: Sequence[_Refusal], system: str | None) -> WeightsError:
    """Return the error for a checkpoint that does not fit: that of `system`, or one that names the closest system."""
    if not refusals:
        return WeightsError(f"{checkpoint} does not contain a state dict.", _GIVE)
    closest = min(refusals, key=lambda each: each.distance)
    if system:
        return closest.error
    if isinstance(closest.error, NamesError):
        return WeightsError(
            f"{checkpoint} is not recognised; the closest system is {closest.system} "
            f"(names that differ: {closest.error.differences}).",
            f"To list them: anymri convert {checkpoint} -o OUT --system {closest.system}",
        )
    examples = listed([*map(shortened, closest.source.tensors)], _MOST_NAMES)
    return WeightsError(
        f"{checkpoint} is not recognised; its names are not those of a system ({examples}).",
        f"If it is a checkpoint of {', '.join(convertible())}, name the system: --system NAME",
    )
