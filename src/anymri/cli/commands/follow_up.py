"""`anymri follow-up`: change of a tumour between two time points."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.commands.segment import Brain, Registration
from anymri.cli.options import Device, Lane, Output, complete_weights
from anymri.cli.results.cases import FollowedUp

TimePointPath = typer.Argument(help="Folder or zip archive of images or DICOM, or a result of `anymri segment`.")


def follow_up(
    first: Annotated[Path, TimePointPath],
    second: Annotated[Path, TimePointPath],
    *,
    output: Output,
    weights: Annotated[
        list[Path] | None,
        typer.Option(
            help="Weights for both time points; default: those of the results, or the best installed.",
            autocompletion=complete_weights,
        ),
    ] = None,
    subset: Annotated[
        str | None, typer.Option(help="Modalities to use at both time points; default: those that both have.")
    ] = None,
    brain: Brain = "auto",
    registration: Registration = True,
    page: Annotated[bool, typer.Option("--page", help="HTML page of the comparison.")] = False,
    dicom: Annotated[bool, typer.Option("--dicom", help="DICOM report, for DICOM scans.")] = False,
    device: Device = "auto",
    lane: Lane = "torch",
) -> FollowedUp:
    """Compare the tumour of a patient at two time points.

    Both are segmented by the same weights from the same modalities, and registered. Each change of volume has an
    interval, which shows how it depends on the threshold and on the position of the patient; see docs/follow-up.md.
    """
    from anymri.cli.added_files import check_extras
    from anymri.cli.checks import check_computation, check_weights
    from anymri.cli.follow_up import compare
    from anymri.errors import CohortError, OutputError
    from anymri.extras import need
    from anymri.files import check_writable
    from anymri.modalities import Subset
    from anymri.prepare.brain_methods import check_brain_method

    check_computation(device, lane)
    check_brain_method(brain)
    if subset is not None:
        Subset.parse(subset)
    check_extras(page=page, dicom=dicom)
    need("prepare", "SimpleITK", purpose="Comparing two time points")
    check_weights(weights or [])
    for place in (first, second):
        if not place.exists():
            raise CohortError(f"{place} does not exist.", "Check the name of the folder.")
    given = {output.resolve(), first.resolve(), second.resolve()}
    for taken in (output, output / "first", output / "second"):
        if taken.resolve() in given and (taken / "segmentation.nii.gz").exists():
            raise OutputError(f"{taken} is a result, which would be overwritten.", "Choose another folder with -o.")
    check_writable(output)
    computing = {"device": device, "lane": lane, "combine": "mean"}
    options = {"subset": subset, "brain": brain, "registration": registration}
    return compare((first, second), output, weights, computing, options, page, dicom)
