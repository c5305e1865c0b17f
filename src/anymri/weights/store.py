"""Write and read weights: safetensors files with their card inside, never a pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from anymri.errors import AnymriError, WeightsError
from anymri.files import replacing
from anymri.systems.contract import System
from anymri.systems.registry import build
from anymri.weights.card import WeightsCard
from anymri.weights.locate import find_weights

_KEY = "anymri"
_GIVE = "Give weights that anymri train or anymri convert wrote."


def save_weights(
    path: Path, state: Mapping[str, torch.Tensor], card: WeightsCard, frozen: tuple[str, ...] = ()
) -> None:
    """Write a state dict with its card, completely or not at all.

    frozen  prefixes of tensor names that go to a second file in the same folder, named by its contents, so that
            several weights share it
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if apart := {name: tensors.pop(name) for name in list(tensors) if name.startswith(frozen)}:
        content = save(apart)
        file = path.with_name(f"frozen-{hashlib.sha256(content).hexdigest()[:16]}.safetensors")
        card = card.model_copy(update={"frozen_file": file.name})
        if not file.exists():
            _write(file, content)
    _write(path, save(tensors, metadata={_KEY: card.model_dump_json()}))


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        # On a full disk the library's own writer raises an error that nobody would recognise.
        temporary.write_bytes(content)


def load_weights(path: Path, device: str | torch.device = "cpu") -> tuple[System[Any], WeightsCard]:
    """Return a system with its weights, in evaluation mode on `device`, and the card of the weights.

    path  a weights file or run folder

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
    if card.frozen_file:
        state |= _read(_frozen_file(file, card.frozen_file), device)[0]
    try:
        system.load_state_dict(state)
    except RuntimeError as error:
        raise _does_not_fit(file, error) from error
    return system.to(device), card


def _read(file: Path, device: str | torch.device) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return tensors and metadata of a safetensors file."""
    try:
        with safe_open(file, framework="pt", device=str(device)) as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}, stored.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} is not a readable safetensors file ({error}).", _GIVE) from error


def _does_not_fit(file: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{file} does not fit the system that it names ({error}).", _GIVE)


def _frozen_file(file: Path, name: str) -> Path:
    """Return the file of frozen tensors that belongs to weights; raise `WeightsError` if it is not in their folder."""
    found = file.parent / Path(name).name
    if not found.is_file():
        raise WeightsError(
            f"{file} needs {found.name} in the same folder, and it is not there.",
            "Copy both files into one folder: the second holds the tensors that training left unchanged.",
        )
    return found
