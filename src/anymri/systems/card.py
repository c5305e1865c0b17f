"""Facts about a system as plain data, readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NO_LICENCE = (
    "no licence file was found in the repository, so code and weights are not free to use: ask the authors before you "
    "share converted weights"
)
# What can be verified of a system, in the order of the cards and of docs/fidelity.md.
VERIFIABLE = ("forward", "losses", "gradients", "trajectory", "test protocol")
FIXTURES = "tests/parity/fixtures"


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Paper that describes a method.

    authors     "First Last", in the order of the paper
    and_others  whether more authors follow, whose names are not in our sources
    venue       short name of the conference
    pages       first and last page in the proceedings, "74-82", where known
    doi, arxiv  identifiers, where known
    """

    authors: tuple[str, ...]
    and_others: bool = False
    title: str
    venue: str
    year: int
    pages: str = ""
    doi: str = ""
    arxiv: str = ""

    @property
    def first_author(self) -> str:
        """Return the family name of the first author."""
        return self.authors[0].split()[-1]

    @property
    def short(self) -> str:
        """Return first author, venue and year: "Dorent et al., MICCAI 2019"."""
        return f"{self.first_author} et al., {self.venue} {self.year}"

    def __str__(self) -> str:
        authors = ", ".join(self.authors) + (" and others" if self.and_others else "")
        identifiers = {"doi": self.doi, "arXiv": self.arxiv}
        stated = "".join(f", {name} {value}" for name, value in identifiers.items() if value)
        return f"{authors}: {self.title}. {self.venue} {self.year}{stated}"


@dataclass(frozen=True)
class Evidence:
    """Numbers of the authors' code that a test compares with ours.

    how      what is compared
    fixture  file of the repository with the authors' numbers
    """

    how: str
    fixture: str

    def __str__(self) -> str:
        return f"{self.how} ({self.fixture})"


def evidence(
    system: str,
    *,
    forward: str,
    losses: str,
    gradients: str,
    trajectory: str = "",
    protocol: Evidence | None = None,
) -> dict[str, Evidence]:
    """Return the `verified` of a card, from texts that state how; those without text are not verified."""
    single = f"{FIXTURES}/{system}.json"
    found = {name: Evidence(how, single) for name, how in zip(VERIFIABLE, (forward, losses, gradients), strict=False)}
    if trajectory:
        found["trajectory"] = Evidence(trajectory, f"{FIXTURES}/trajectories/trajectory_{system}.json")
    if protocol:
        found["test protocol"] = protocol
    return found


@dataclass(frozen=True, kw_only=True)
class Card:
    """Description of one method. Fields with a default need not apply to every method.

    name                  name by which the registry finds the system
    title                 name of the method in full
    idea                  how the method handles missing modalities, in a few sentences
    presets               name -> arguments of the network; the first is the default
    recipes               names of the recipes, the default first; empty if the card does not list them
    switches              argument of the network -> its meaning; quirks of the reference are among them
    paper                 paper of the method; None if it is not published
    data                  data sets of the authors' training that the recipe `reference` follows, and of the paper
    data_year             year of BraTS that the recipe `reference` is for
    split                 number of the authors' training, validation and test cases there; no validation cases where
                          the test cases choose the weights
    reference             repository of the authors' code
    verified              what equals the authors' code (one of `VERIFIABLE`) -> its evidence
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
    paper: Paper | None = None
    data: str = ""
    data_year: int | None = None
    split: tuple[int, int, int] | None = None
    reference: str = ""
    idea: str
    presets: Mapping[str, Mapping[str, Any]]
    recipes: tuple[str, ...] = ()
    verified: Mapping[str, Evidence] = field(default_factory=dict)
    parameters: int
    inference_parameters: int | None = None
    reference_parameters: int | None = None
    gmacs: Mapping[str, float] = field(default_factory=dict)
    switches: Mapping[str, str]
    deviations: tuple[str, ...] = ()
    published_results: str = ""
    licence: str = ""
