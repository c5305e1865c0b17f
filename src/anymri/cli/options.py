"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def complete_system(incomplete: str) -> list[str]:
    """Return the names of systems that begin with a text."""
    from anymri.systems.registry import names

    return [name for name in names() if name.startswith(incomplete)]


def complete_weights(incomplete: str) -> list[str]:
    """Return the names of installed weights that begin with a text."""
    from anymri.weights.folders import installed_files

    return [name for name in installed_files() if name.startswith(incomplete)]


def complete_lane(incomplete: str) -> list[str]:
    """Return the names of lanes that begin with a text."""
    from anymri.inference.choices import AUTO, LANES

    return [name for name in (*LANES, AUTO) if name.startswith(incomplete)]


def complete_scheme(incomplete: str) -> list[str]:
    """Return the names of label schemes that begin with a text."""
    from anymri.regions import SCHEMES

    return [name for name in SCHEMES if name.startswith(incomplete)]


Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1, mps.")]
Lane = Annotated[
    str,
    typer.Option(
        help="How the network is computed: torch, torch-bf16, openvino, auto; see docs/performance.md.",
        autocompletion=complete_lane,
    ),
]
WeightsArgument = Annotated[
    Path,
    typer.Argument(
        help="Run folder, .safetensors file, or name of installed weights.", autocompletion=complete_weights
    ),
]
Metrics = Annotated[str | None, typer.Option(help="Comma-separated metric names; default: dice,hd95.")]
Quote = Annotated[
    list[str] | None, typer.Option(help="Published results to show beside, marked as quoted; repeatable.")
]
Evaluations = Annotated[list[Path], typer.Argument(help="Evaluation folders.")]
SystemName = Annotated[
    str, typer.Argument(help="Name of a system; list: anymri systems.", autocompletion=complete_system)
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change of the recipe, e.g. network.width=4; repeatable."),
]


def comma_separated(text: str) -> list[str]:
    """Return the words of a comma-separated option."""
    return [word.strip() for word in text.split(",") if word.strip()]
