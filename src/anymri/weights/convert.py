"""Convert the authors' checkpoints into weights of anymri."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from anymri.errors import WeightsError
from anymri.files import refuse_overwriting, sha256
from anymri.systems.blueprint import blueprint
from anymri.systems.contract import System
from anymri.systems.registry import card, spec
from anymri.text import shown
from anymri.weights.card import WeightsCard
from anymri.weights.conversion import Conversion, report
from anymri.weights.pickles import read_checkpoint
from anymri.weights.recognition import Match, recognise
from anymri.weights.state_dicts import find_state_dicts
from anymri.weights.store import check_finite, check_not_zero, save_weights


def convert_checkpoint(
    checkpoint: Path,
    output: Path,
    system: str | None = None,
    switches: Mapping[str, Any] = MappingProxyType({}),
) -> Conversion:
    """Write the authors' checkpoint as weights of anymri, and return what of it was used and skipped.

    Only tensors are read from the checkpoint, its code is not run.

    system    name of the system; by default it is recognised from names and shapes
    switches  arguments of the network that a checkpoint does not show

    Raises `WeightsError` if the system has no authors' weights, or if the checkpoint does not fit it or any system.
    """
    if system and spec(system).convert is None:
        raise WeightsError(
            f"{system} has no authors' weights to convert: its network is ours.",
            f"Train it, as in: anymri train {system}",
        )
    if checkpoint.exists() and not checkpoint.is_file():
        raise WeightsError(f"{checkpoint} is not a regular file.", "Give the authors' .pth or .pt file.")
    if not checkpoint.is_file():
        raise WeightsError(f"There is no checkpoint at {checkpoint}.", "Give the authors' .pth or .pt file.")
    refuse_overwriting([output], [checkpoint])
    content = read_checkpoint(checkpoint)
    match = recognise(checkpoint, find_state_dicts(content), system)
    built, state = _fitted(checkpoint, match, switches)
    reference = spec(match.system).recipes["reference"]
    average = ", a moving average" if match.source.averaged else ""
    weights_card = WeightsCard(
        system=match.system,
        network={**match.converted.network, **switches},
        preprocessing=reference.preprocessing,
        window=built.crop or reference.stages[-1].crop,
        **reference.window_settings,
        label_scheme=None,
        trained_on=[],
        origin=f"converted from {checkpoint.name}{average}, SHA-256 {sha256(checkpoint)}",
    )
    save_weights(output, state, weights_card, match.converted.frozen)
    return report(content, match)


def _fitted(checkpoint: Path, match: Match, switches: Mapping[str, Any]) -> tuple[System[Any], dict[str, Tensor]]:
    """Return the network on the meta device and its state dict; raise `WeightsError` if they do not fit."""
    converted, network = match.converted, {**match.converted.network, **switches}
    if missing := [name for name in converted.undecided if name not in switches]:
        meanings = "; ".join(f"{name}: {card(match.system).switches[name]}" for name in missing)
        raise WeightsError(
            f"{checkpoint} does not show how its network was built ({meanings}).",
            f"Name the values: {' '.join(f'--set {name}=VALUE' for name in missing)}",
        )
    built = blueprint(match.system, network)
    expected = built.state_dict()
    shapes = {name: value.shape for name, value in expected.items()}
    if {name: value.shape for name, value in converted.state.items()} != shapes:
        raise WeightsError(
            f"{checkpoint} does not fit a network with {shown(network, 200)}.",
            "Set only what its names and shapes do not show."
            if switches
            else f"Give a checkpoint of the reference implementation of {match.system}.",
        )
    state = {name: value.to(expected[name].dtype) for name, value in converted.state.items()}
    for name, value in state.items():
        check_finite(name, value, checkpoint)
    check_not_zero(state, checkpoint)
    return built, state
