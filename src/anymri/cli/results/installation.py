"""What commands about the installation return."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anymri.cli.results import BAD_INPUT, DONE, Result


@dataclass(frozen=True)
class InstalledWeights:
    """Installed weights.

    kind       starter or added
    operative  pre, post or any: scans before surgery, after it, or both; null if not known
    subsets    subsets that they were trained on; null for any
    mean_dice  mean Dice over subsets and regions in 0..1; null without a table
    problem    why their card cannot be read; null if it can
    """

    name: str
    kind: str
    file: Path
    system: str | None = None
    operative: str | None = None
    subsets: list[str] | None = None
    mean_dice: float | None = None
    summary: str = ""
    problem: str | None = None


@dataclass(frozen=True)
class WeightsList(Result):
    """The installed weights, and the folder to add to."""

    folder: Path
    weights: list[InstalledWeights]


@dataclass(frozen=True)
class WeightsDetails(Result):
    """The card of weights, see docs/weights.md."""

    file: Path
    sha256: str
    card: dict[str, Any]


@dataclass(frozen=True)
class AddedWeights(Result):
    """Weights that were installed."""

    name: str
    file: Path


@dataclass(frozen=True)
class VerifiedWeights:
    """Weights that were loaded completely: their SHA-256, or what is wrong with them."""

    name: str
    sha256: str | None
    problem: str | None


@dataclass(frozen=True)
class Verification(Result):
    """The verification of installed weights."""

    weights: list[VerifiedWeights]

    @property
    def exit_code(self) -> int:
        """Exit code: 2 if some are damaged."""
        return BAD_INPUT if any(each.problem for each in self.weights) else DONE


@dataclass(frozen=True)
class WeightsFile(Result):
    """The file of weights; of `path` without a name, the folder to add to; of `remove`, the file that was removed."""

    path: Path


@dataclass(frozen=True)
class Extra:
    """An extra of the package: whether it is installed, what is missing, and the line that installs it."""

    name: str
    installed: bool
    missing: list[str]
    install: str


@dataclass(frozen=True)
class Information(Result):
    """The installation.

    devices      name -> description
    lanes        name -> whether it is available, in words
    weights      names of the installed weights
    folders      name -> folder
    environment  environment variables of anymri that are set
    schema       JSON Schema of the objects of all commands, with --schema
    """

    python: str
    platform: str
    packages: dict[str, str | None]
    devices: dict[str, str]
    lanes: dict[str, str]
    weights: list[str]
    extras: list[Extra]
    folders: dict[str, Path]
    environment: dict[str, str]
    schema: dict[str, Any] | None = field(default=None)
