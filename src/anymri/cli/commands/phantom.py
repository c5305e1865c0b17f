"""`anymri phantom`: a cohort of invented brains."""

from __future__ import annotations

from typing import Annotated

import typer

from anymri.cli.console import console
from anymri.cli.options import Output


def phantom(
    output: Output,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1000, help="Number of cases.")] = 24,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Random seed; the same seed gives the same cohort.")
    ] = 0,
    size: Annotated[int, typer.Option(min=48, max=256, help="Side in voxels of 1 mm.")] = 96,
) -> None:
    """Write a cohort of procedural brains with tumours.

    The files have the names, the geometry and the label values of BraTS 2023. No patient is in them.
    """
    from anymri.synthesis.phantoms import write_cohort

    cases = write_cohort(output, count, seed=seed, size=size)
    console.print(f"{len(cases)} cases in {output}; label scheme brats2023.", soft_wrap=True)
