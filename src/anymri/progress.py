"""Progress of long work, independent of how it is shown."""

from __future__ import annotations

from collections.abc import Callable

# Called with the name of the next item, the number of items done and the number of all.
Progress = Callable[[str, int, int], None]


def silent(name: str, done: int, total: int) -> None:
    """Ignore the progress."""
