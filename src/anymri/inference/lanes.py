"""Lanes: the ways in which a network can be computed."""

from __future__ import annotations

import difflib

from anymri.errors import ConfigurationError

LANES = {"torch": "PyTorch in float32, on any device"}


def check_lane(name: str) -> None:
    """Raise `ConfigurationError` with the known names if there is no lane of this name."""
    if name not in LANES:
        close = difflib.get_close_matches(name, LANES, n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise ConfigurationError(f"There is no lane named {name!r}.", f"{hint}Known: {', '.join(LANES)}.")
