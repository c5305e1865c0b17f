"""Lanes: the ways in which a network can be computed."""

from __future__ import annotations

from anymri.errors import ConfigurationError, did_you_mean

LANES = {"torch": "PyTorch in float32, on any device"}


def check_lane(name: str) -> None:
    """Raise `ConfigurationError` with the known names if there is no lane of this name."""
    if name not in LANES:
        hint = did_you_mean(name, LANES)
        raise ConfigurationError(f"There is no lane named {name!r}.", f"{hint}Known: {', '.join(LANES)}.")
