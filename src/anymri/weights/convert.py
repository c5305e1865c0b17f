"""Convert the authors' checkpoints into weights of anymri."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from anymri.errors import WeightsError
from anymri.files import sha256
from anymri.systems.registry import build, card, spec
from anymri.weights.card import WeightsCard
from anymri.weights.pickles import read_checkpoint
from anymri.weights.store import save_weights


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
    if not checkpoint.is_file():
        raise WeightsError(f"There is no checkpoint at {checkpoint}.", "Give the authors' .pth or .pt file.")
    converted = system_spec.convert(read_checkpoint(checkpoint))
    network = {**converted.network, **switches}
    if missing := [name for name in converted.undecided if name not in switches]:
        meanings = "; ".join(f"{name}: {card(system).switches[name]}" for name in missing)
        raise WeightsError(
            f"{checkpoint} does not show how its network was built ({meanings}).",
            f"Name the values: {' '.join(f'--set {name}=VALUE' for name in missing)}",
        )
    try:
        built = build(system, network)
        built.load_state_dict(converted.state)
    except RuntimeError as error:
        raise WeightsError(
            f"{checkpoint} does not fit a network with {dict(switches)} ({error}).",
            "Set only what its names and shapes do not show.",
        ) from error
    published = system_spec.recipes["published"]
    weights_card = WeightsCard(
        system=system,
        network=network,
        preprocessing=published.preprocessing,
        window=built.crop or published.stages[-1].crop,
        window_overlap=published.window_overlap,
        window_blending=published.window_blending,
        label_scheme=None,
        trained_on=[],
        origin=f"converted from {checkpoint.name}, SHA-256 {sha256(checkpoint)}",
    )
    save_weights(output, converted.state, weights_card, converted.frozen)
