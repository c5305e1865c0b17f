"""Facts about a system as plain data, readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_LICENCE = (
    "no licence file was found in the repository, so code and weights are not free to use: ask the authors before you "
    "share converted weights"
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """Description of one method. Fields with a default need not apply to every method.

    name                  name by which the registry finds the system
    title                 name of the method in full
    idea                  how the method handles missing modalities, in a few sentences
    presets               name -> arguments of the network; the first is the default
    switches              argument of the network -> its meaning; quirks of the reference are among them
    paper                 authors, venue and year
    reference             repository of the authors' code
    parameters            number of parameters of the default preset, as trained
    inference_parameters  number of those that segmentation uses
    reference_parameters  number that the authors' network stores, those included that never learn or never run
    gmacs                 giga multiply-adds of the default preset on one window of 128^3, by what is computed: "encode
                          four modalities", "decode one subset" (or "decode all four" and "decode one alone", where
                          subsets differ), "15 subsets"
    deviations            where this implementation departs from the authors' code, and why
    published_results     Dice per subset as published, with its source, or why there is none
    licence               licence of the authors' code and weights, which converted weights keep
    """

    name: str
    title: str
    paper: str = ""
    reference: str = ""
    idea: str
    presets: Mapping[str, Mapping[str, Any]]
    parameters: int
    inference_parameters: int | None = None
    reference_parameters: int | None = None
    gmacs: Mapping[str, float] = field(default_factory=dict)
    switches: Mapping[str, str]
    deviations: tuple[str, ...] = ()
    published_results: str = ""
    licence: str = ""
