"""`anymri convert`: weights from an authors' checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.console import console
from anymri.cli.results.systems import Converted


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of the authors (.pth, .pt).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .safetensors file to write.")],
    system: Annotated[
        str | None, typer.Option(help="Name of the system; default: recognised from names and shapes.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SWITCH=VALUE", help="Switch that a checkpoint does not show; repeatable."),
    ] = None,
) -> Converted:
    """Convert an authors' checkpoint into weights of anymri.

    Only tensors are read from it; no code in it is run. See docs/checkpoints.md.
    """
    from anymri.cli.checks import check_file
    from anymri.cli.progress import working
    from anymri.files import check_writable
    from anymri.systems.registry import card

    if system is not None:
        card(system)
    check_file("The checkpoint", checkpoint)
    check_writable(output)
    from anymri.training.assignments import read_assignment
    from anymri.weights.convert import convert_checkpoint

    pairs = map(read_assignment, assignments or [])
    switches = {".".join(keys): value for keys, value in pairs}
    with working(f"converting {checkpoint.name}"):
        conversion = convert_checkpoint(checkpoint, output, system, switches)
    console.print(f"{conversion}", soft_wrap=True)
    console.print(f"{output}", soft_wrap=True)
    return Converted(output, conversion.system, f"{conversion}")
