"""Names of the methods that find the brain."""

from __future__ import annotations

from anymri.errors import check_known

BRAIN_METHODS = ("auto", "deepbet", "hd-bet", "fallback", "none")


def check_brain_method(name: str) -> None:
    """Raise `ConfigurationError` with the known names if there is no method of this name."""
    check_known("method for the brain mask", name, BRAIN_METHODS)
