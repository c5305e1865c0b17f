"""Weights as safetensors with their card inside: what network they fit and how its input was made. Never a pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from anymri import __version__
from anymri.data.preprocessing import Preprocessing
from anymri.errors import AnymriError, WeightsError
from anymri.files import replacing, sha256
from anymri.systems import build, parts
from anymri.systems import card as card_of
from anymri.systems.base import System
from anymri.systems.pickles import read_checkpoint

_KEY = "anymri"
RUN_WEIGHTS = ("checkpoints/best.safetensors", "checkpoints/last.safetensors")


class WeightsCard(BaseModel):
    """What travels with weights.

    window        side of the cubic windows for inference, voxels: the one crop that the network takes, or that of the
                  last training stage
    beside        name of a file in the same folder that holds the tensors which training left as they are, if there
                  are any: several weights share it
    label_scheme  what the network was trained on; None for converted weights
    trained_on    names of the training cases
    origin        where the weights come from, in words
    """

    model_config = ConfigDict(extra="forbid")

    system: str
    network: dict[str, Any]
    preprocessing: Preprocessing
    window: int
    window_overlap: float
    window_blending: Literal["gaussian", "constant"] = "gaussian"
    label_scheme: str | None
    trained_on: list[str]
    origin: str
    beside: str | None = None
    anymri: str = __version__


def save_weights(
    path: Path, state: Mapping[str, torch.Tensor], card: WeightsCard, frozen: tuple[str, ...] = ()
) -> None:
    """Writes a state dict with its card, whole or not at all.

    frozen  what the names of tensors begin with that are written to a file beside, named by its contents: once for all
            weights that hold the same
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if apart := {name: tensors.pop(name) for name in list(tensors) if name.startswith(frozen)}:
        content = save(apart)
        file = path.with_name(f"frozen-{hashlib.sha256(content).hexdigest()[:16]}.safetensors")
        card = card.model_copy(update={"beside": file.name})
        if not file.exists():
            _write(file, content)
    _write(path, save(tensors, metadata={_KEY: card.model_dump_json()}))


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        # Written here, because on a full disk the library's own writer raises what no one would take for that.
        temporary.write_bytes(content)


def find_weights(path: Path) -> Path:
    """The weights file that `path` is, or that a run folder holds (best, else last)."""
    if path.is_dir():
        found = [path / name for name in RUN_WEIGHTS if (path / name).is_file()]
        if not found:
            raise WeightsError(
                f"{path} holds no weights ({' or '.join(RUN_WEIGHTS)}).",
                "Give a folder that anymri train wrote, or a .safetensors file.",
            )
        return found[0]
    if not path.is_file():
        raise WeightsError(f"There are no weights at {path}.", "Give a run folder or a .safetensors file.")
    return path


def load_weights(path: Path, device: str | torch.device = "cpu") -> tuple[System[Any], WeightsCard]:
    """The network in evaluation mode with its weights and card, from a weights file or run folder.

    Raises `WeightsError` if the file is damaged, has no card, or does not fit the network that its card names.
    """
    file = find_weights(path)
    state, metadata = _read(file, device)
    if _KEY not in metadata:
        raise WeightsError(f"{file} does not say which system it belongs to: anymri did not write it.", _GIVE)
    try:
        card = WeightsCard.model_validate_json(metadata[_KEY])
        system = build(card.system, card.network)
    except (ValidationError, AnymriError) as error:
        raise _does_not_fit(file, error) from error
    if card.beside:
        state |= _read(_beside(file, card.beside), device)[0]
    try:
        system.load_state_dict(state)
    except RuntimeError as error:
        raise _does_not_fit(file, error) from error
    return system.to(device), card


def _read(file: Path, device: str | torch.device) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    try:
        with safe_open(file, framework="pt", device=str(device)) as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} is not a readable safetensors file ({error}).", _GIVE) from error


def _does_not_fit(file: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{file} does not fit the system that it names ({error}).", _GIVE)


def _beside(file: Path, name: str) -> Path:
    """The file of frozen tensors that belongs to weights; raises `WeightsError` if it is not in their folder."""
    found = file.parent / Path(name).name
    if not found.is_file():
        raise WeightsError(
            f"{file} needs {found.name} beside it, and it is not there.",
            "Copy both into one folder: the second holds what training left as it was.",
        )
    return found


def convert_checkpoint(
    system: str, checkpoint: Path, output: Path, switches: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Writes the authors' checkpoint as weights of `system`.

    switches  arguments of the network that a checkpoint does not show
    """
    system_parts = parts(system)
    if system_parts.convert is None:
        raise WeightsError(
            f"{system} is anymri's own: there are no authors' weights to convert.",
            f"Train it, as in: anymri train {system}; what that writes needs no conversion.",
        )
    if not checkpoint.is_file():
        raise WeightsError(f"There is no checkpoint at {checkpoint}.", "Give the authors' .pth or .pt file.")
    converted = system_parts.convert(read_checkpoint(checkpoint))
    network = {**converted.network, **switches}
    if missing := [name for name in converted.undecided if name not in switches]:
        meanings = "; ".join(f"{name}: {card_of(system).switches[name]}" for name in missing)
        raise WeightsError(
            f"{checkpoint} does not show how its network was built ({meanings}).",
            f"Say so: {' '.join(f'--set {name}=VALUE' for name in missing)}",
        )
    try:
        built = build(system, network)
        built.load_state_dict(converted.state)
    except RuntimeError as error:
        raise WeightsError(
            f"{checkpoint} does not fit a network with {dict(switches)} ({error}).",
            "Set only what its names and shapes do not show.",
        ) from error
    published = system_parts.recipes["published"]
    card = WeightsCard(
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
    save_weights(output, converted.state, card, converted.frozen)


_GIVE = "Give weights that anymri train or anymri convert wrote."
