"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1, mps.")]
Lane = Annotated[
    str, typer.Option(help="How the network is computed: torch, torch-bf16, openvino, auto; see docs/performance.md.")
]
Metrics = Annotated[str | None, typer.Option(help="Comma-separated metric names; default: dice,hd95.")]
Quote = Annotated[
    list[str] | None, typer.Option(help="Published results to show beside, marked as quoted; repeatable.")
]
Evaluations = Annotated[list[Path], typer.Argument(help="Evaluation folders.")]
SystemName = Annotated[str, typer.Argument(help="Name of a system; list: anymri systems.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change of the recipe, e.g. network.width=4; repeatable."),
]


def comma_separated(text: str) -> list[str]:
    """Return the words of a comma-separated option."""
    return [word.strip() for word in text.split(",") if word.strip()]
