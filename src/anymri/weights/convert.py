"""Convert the authors' checkpoints into weights of anymri."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from anymri.errors import WeightsError
from anymri.files import refuse_overwriting, sha256
from anymri.systems.blueprint import blueprint
from anymri.systems.checkpoints import Converted
from anymri.systems.registry import card, spec
from anymri.systems.spec import SystemSpec
from anymri.text import shown
from anymri.weights.card import WeightsCard
from anymri.weights.pickles import read_checkpoint
from anymri.weights.store import check_finite, check_not_zero, save_weights

_GIVE = "Give a checkpoint of this system's reference implementation."


def convert_checkpoint(
    system: str, checkpoint: Path, output: Path, switches: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Write the authors' checkpoint as weights of `system`; only tensors are read from it, its code is not run.

    switches  arguments of the network that a checkpoint does not show

    Raises `WeightsError` if the system has no authors' weights, or if the checkpoint does not fit it.
    """
    system_spec = spec(system)
    if system_spec.convert is None:
        raise WeightsError(
            f"{system} has no authors' weights to convert: its network is ours.",
            f"Train it, as in: anymri train {system}",
        )
    if checkpoint.exists() and not checkpoint.is_file():
        raise WeightsError(f"{checkpoint} is not a regular file.", "Give the authors' .pth or .pt file.")
    if not checkpoint.is_file():
        raise WeightsError(f"There is no checkpoint at {checkpoint}.", "Give the authors' .pth or .pt file.")
    refuse_overwriting([output], [checkpoint])
    converted = _converted(system_spec, checkpoint)
    network = {**converted.network, **switches}
    if missing := [name for name in converted.undecided if name not in switches]:
        meanings = "; ".join(f"{name}: {card(system).switches[name]}" for name in missing)
        raise WeightsError(
            f"{checkpoint} does not show how its network was built ({meanings}).",
            f"Name the values: {' '.join(f'--set {name}=VALUE' for name in missing)}",
        )
    built = blueprint(system, network)
    expected = built.state_dict()
    shapes = {name: value.shape for name, value in expected.items()}
    if {name: value.shape for name, value in converted.state.items()} != shapes:
        raise WeightsError(
            f"{checkpoint} does not fit a network with {shown(network, 200)}.",
            "Set only what its names and shapes do not show." if switches else _GIVE,
        )
    state = {name: value.to(expected[name].dtype) for name, value in converted.state.items()}
    for name, value in state.items():
        check_finite(name, value, checkpoint)
    check_not_zero(state, checkpoint)
    reference = system_spec.recipes["reference"]
    weights_card = WeightsCard(
        system=system,
        network=network,
        preprocessing=reference.preprocessing,
        window=built.crop or reference.stages[-1].crop,
        **reference.window_settings,
        label_scheme=None,
        trained_on=[],
        origin=f"converted from {checkpoint.name}, SHA-256 {sha256(checkpoint)}",
    )
    save_weights(output, state, weights_card, converted.frozen)


def _converted(system_spec: SystemSpec, checkpoint: Path) -> Converted:
    """Return the converted checkpoint; raise `WeightsError` if its content is not that of the reference."""
    assert system_spec.convert
    stored = read_checkpoint(checkpoint)
    try:
        return system_spec.convert(stored)
    except WeightsError:
        raise
    except Exception as error:  # converters read names and shapes that may be anything
        raise WeightsError(
            f"{checkpoint} does not fit: its tensors do not have the shapes of the reference.", _GIVE
        ) from error
