"""`anymri phantom`: a cohort of invented brains."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from anymri.cli.console import console
from anymri.cli.options import Output
from anymri.cli.results.cases import Phantoms


def phantom(
    output: Output,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1000, help="Number of cases.")] = 24,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Random seed; the same seed gives the same cohort.")
    ] = 0,
    style: Annotated[
        Literal["plain", "realistic"], typer.Option(help="Simple cubes, or brains as scans show them.")
    ] = "plain",
    size: Annotated[int, typer.Option(min=48, max=256, help="Plain: side in voxels of 1 mm.")] = 96,
    spacing: Annotated[float, typer.Option(min=1, max=4, help="Realistic: side of a voxel in mm.")] = 1.0,
    missing: Annotated[
        bool, typer.Option("--missing", help="Realistic: 60 % of the cases without some of the scans.")
    ] = False,
    easy: Annotated[
        bool, typer.Option("--easy", help="Realistic: large, clearly visible tumours, few mimics.")
    ] = False,
) -> Phantoms:
    """Write a cohort of procedural brains with tumours.

    The files have the names, the geometry and the label values of BraTS 2023. No patient is in them.
    """
    from anymri.cli.progress import progress_of
    from anymri.synthesis.phantoms import write_cohort

    with progress_of("writing") as progress:
        cases = write_cohort(
            output,
            count,
            seed=seed,
            size=size,
            style=style,
            spacing=spacing,
            missing=missing,
            easy=easy,
            progress=progress,
        )
    console.print(f"Cases in {output}: {len(cases)}; label scheme brats2023.", soft_wrap=True)
    return Phantoms(output, [case.name for case in cases], "brats2023")
