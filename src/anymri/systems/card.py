"""What a reader should know of a system before loading it: plain data, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NO_LICENCE = (
    "no licence file was found in the repository, and without one code and weights are the authors' alone: ask them "
    "before you pass converted weights on"
)


@dataclass(frozen=True)
class Card:
    """One method.

    presets               name -> arguments of the network
    parameters            of the published preset, as trained
    inference_parameters  those that segmentation uses
    reference_parameters  that the authors' network stores, those included that never learn or never run
    gmacs                 giga multiply-adds of the published preset on one 128^3 window, by what is computed
    switches              argument -> what it chooses; reference quirks are among them
    deviations            where this implementation departs from the authors' code, and why
    published_results     Dice by subset as published with its source, or why there is none
    licence               of the authors' code and weights, which converted weights keep
    """

    name: str
    title: str
    paper: str
    reference: str
    idea: str
    presets: Mapping[str, Mapping[str, Any]]
    parameters: int
    inference_parameters: int
    reference_parameters: int
    gmacs: Mapping[str, float]
    switches: Mapping[str, str]
    deviations: tuple[str, ...]
    published_results: str
    licence: str
