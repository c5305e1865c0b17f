"""Record of what a preparation did to each scan, why, and with which figures."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_log = logging.getLogger(__name__)
# Scan of a step that concerns all of them.
STUDY = "study"


@dataclass(frozen=True)
class Step:
    """One step of a preparation.

    scan     modality, or `study` for all scans
    what     kind of the step: brain, reference, registration, grid, mask, resampling, bias field
    why      a sentence: what was done and for what reason
    figures  plain values: lengths in mm, angles in degrees, volumes in mL, Dice in 0..1
    seconds  time that it took
    """

    scan: str
    what: str
    why: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the step as plain values, ready for JSON."""
        return {
            "scan": self.scan,
            "what": self.what,
            "why": self.why,
            "figures": {name: _plain(value) for name, value in self.figures.items()},
            "seconds": round(self.seconds, 2),
        }


class Record:
    """Steps of a preparation, in their order, each with the time since the one before."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._since = time.monotonic()

    def add(self, scan: str, what: str, why: str, **figures: Any) -> None:
        """Add a step that has just been done."""
        now = time.monotonic()
        self.steps.append(Step(scan, what, why, figures, now - self._since))
        _log.info("%s, %s: %s (%.1f s)", scan, what, why, now - self._since)
        self._since = now


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return round(float(value), 4)
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value
