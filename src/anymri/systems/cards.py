"""What a reader should know of a system before loading it: plain data, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Card:
    """One published method.

    presets               name -> arguments of the network
    parameters            of the published preset, as trained
    inference_parameters  those that segmentation uses
    gmacs                 giga multiply-adds of the published preset on one 128^3 window, by what is computed
    switches              argument -> what it chooses; reference quirks are among them
    deviations            where this implementation departs from the authors' code, and why
    published_results     Dice by subset as published with its source, or why there is none
    """

    name: str
    title: str
    paper: str
    reference: str
    idea: str
    presets: Mapping[str, Mapping[str, Any]]
    parameters: int
    inference_parameters: int
    gmacs: Mapping[str, float]
    switches: Mapping[str, str]
    deviations: tuple[str, ...]
    published_results: str
