"""The catalogue of installed weights: list, find, verify and remove them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from anymri.errors import WeightsError, did_you_mean
from anymri.files import cannot_write, sha256
from anymri.weights.card import WeightsCard
from anymri.weights.folders import FROZEN, STARTERS, SUFFIX, installed_files
from anymri.weights.store import load_weights, read_card


@dataclass(frozen=True)
class Installed:
    """Installed weights, which commands find by their name.

    name  stem of the file
    file  weights file in a folder of the user or among the starters
    """

    name: str
    file: Path

    @property
    def is_starter(self) -> bool:
        """Whether the weights are part of anymri; otherwise the user added them."""
        return self.file.parent == STARTERS

    def card(self) -> WeightsCard:
        """Return the card of the weights; raise `WeightsError` if it cannot be read."""
        return read_card(self.file)


def installed() -> list[Installed]:
    """Return the installed weights: those of the user first, each group sorted by name."""
    every = [Installed(name, file) for name, file in installed_files().items()]
    return sorted(every, key=lambda each: (each.is_starter, each.name))


def find_installed(name: str) -> Installed:
    """Return the installed weights with a name; raise `WeightsError` with the closest name if there are none."""
    files = installed_files()
    if name not in files:
        raise WeightsError(
            f"No weights named {name} are installed.", f"{did_you_mean(name, files)}See: anymri weights list"
        )
    return Installed(name, files[name])


def verify(weights: Installed) -> str:
    """Load weights completely and return the SHA-256 of their file; raise `WeightsError` if they are damaged."""
    load_weights(weights.file)
    return sha256(weights.file)


def remove(name: str) -> Path:
    """Remove weights of the user, with their frozen tensors if no others need these; return the removed file.

    Raises `WeightsError` for an unknown name or a starter, `OutputError` if the folder cannot be written.
    """
    weights = find_installed(name)
    if weights.is_starter:
        raise WeightsError(
            f"{name} is part of anymri and cannot be removed.",
            "Add weights of your own: anymri segment takes them before the starters.",
        )
    frozen = _frozen(weights.file)
    try:
        weights.file.unlink()
        others = weights.file.parent.glob(f"*{SUFFIX}")
        if frozen and frozen not in {_frozen(other) for other in others if not other.name.startswith(FROZEN)}:
            weights.file.with_name(frozen).unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(weights.file, error) from error
    return weights.file


def _frozen(file: Path) -> str | None:
    """Return the name of the file with the frozen tensors of weights; None without one, or of damaged weights."""
    with suppress(WeightsError):
        return read_card(file).frozen_file
    return None
