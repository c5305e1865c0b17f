"""How long work reports its progress, whatever shows it."""

from __future__ import annotations

from collections.abc import Callable

# Called with the name of what is about to be worked on, how many are done and how many there are.
Progress = Callable[[str, int, int], None]


def silent(name: str, done: int, total: int) -> None:
    """Show nothing."""
