"""Lanes: the ways in which a network can be computed.

`torch` is exact. Every other lane is compared with it once per weights and machine (`check.py`), and refused where its
output departs. docs/performance.md explains the choice to users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from anymri.errors import ConfigurationError
from anymri.inference.choices import AUTO, BFLOAT16, OPENVINO, TORCH, check_lane
from anymri.inference.lanes import bfloat16, openvino
from anymri.systems.computation import Computation
from anymri.systems.contract import System

if TYPE_CHECKING:
    from anymri.inference.lanes.check import Verdict
    from anymri.weights.card import WeightsCard

# `auto` leaves float32 only for what is clearly faster.
FASTER = 1.1


@dataclass(frozen=True)
class Lane:
    """The lane in which a model computes.

    name  one of `anymri.inference.choices.LANES`
    why   the reason, as a part of a sentence
    """

    name: str
    why: str = "the default"


DEFAULT = Lane(TORCH)


def on_device(device: torch.device, lane: Lane) -> str:
    """Return device and lane for provenance, as "cpu" or "cpu, torch-bf16"."""
    return f"{device}" if lane.name == TORCH else f"{device}, {lane.name}"


@dataclass(frozen=True)
class _Kind:
    """A lane beside `torch`.

    obstacle  function of a device and the card of weights that returns what prevents the lane, as a sentence; None if
              nothing does
    create    function of the card and the checksum of weights that returns its computation
    """

    obstacle: Callable[[torch.device, WeightsCard], str | None]
    create: Callable[[WeightsCard, str], Computation]


_KINDS: Mapping[str, _Kind] = {
    BFLOAT16: _Kind(lambda device, card: bfloat16.obstacle(device), lambda card, checksum: bfloat16.Bfloat16()),
    OPENVINO: _Kind(openvino.obstacle, openvino.OpenVINO),
}


def obstacles_on(device: torch.device) -> dict[str, str | None]:
    """Return lane -> what prevents it on a device for any weights, as a sentence; None if nothing does."""
    return {
        TORCH: None,
        BFLOAT16: bfloat16.obstacle(device),
        OPENVINO: openvino.obstacle_of_device(device),
    }


def enter(name: str, system: System[Any], card: WeightsCard, checksum: str) -> Lane:
    """Let a system compute in a lane from now on; return the lane.

    name      one of `anymri.inference.choices.LANES`, or `auto` for the fastest that is allowed
    card      card of the weights of the system
    checksum  SHA-256 of their file

    Raises `ConfigurationError` for a lane that does not exist, that this machine does not have, or that the check
    refuses for these weights.
    """
    check_lane(name)
    if name == TORCH:
        return DEFAULT
    from anymri.inference.lanes.cached import verdict_of  # imports the generator of synthetic cases

    device = next(system.parameters()).device
    obstacles = {each: kind.obstacle(device, card) for each, kind in _KINDS.items()}
    if name != AUTO and (obstacle := obstacles[name]):
        raise ConfigurationError(obstacle, "Use the lane torch, or auto.")
    candidates = [each for each in _KINDS if each == name or (name == AUTO and obstacles[each] is None)]
    computations = {each: _KINDS[each].create(card, checksum) for each in candidates}
    verdicts = {
        each: verdict_of(each, system, card, checksum, computation) for each, computation in computations.items()
    }
    if name == AUTO:
        lane = _fastest(verdicts)
    else:
        verdict = verdicts[name]
        if not verdict.allowed:
            raise ConfigurationError(
                f"The lane {name} does not fit these weights: {verdict.finding}.", "Use the lane torch, or auto."
            )
        lane = Lane(name, verdict.finding)
    if lane.name != TORCH:
        system.computation = computations[lane.name]
    return lane


def _fastest(verdicts: Mapping[str, Verdict]) -> Lane:
    """Return the fastest lane that is allowed, or `torch` if none is clearly faster."""
    allowed = {name: verdict for name, verdict in verdicts.items() if verdict.allowed and verdict.speed >= FASTER}
    if allowed:
        best = max(allowed, key=lambda name: allowed[name].speed)
        return Lane(best, f"{allowed[best].speed:.1f} times as fast as torch on one window; {allowed[best].finding}")
    found = [
        f"{name}: {f'{verdict.speed:.1f} times as fast' if verdict.allowed else verdict.finding}"
        for name, verdict in verdicts.items()
    ]
    return Lane(TORCH, "; ".join(found) or "this machine has no other lane")
