"""Comparison of two time points on the command line: what is read, computed, written and printed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.cli.case import print_scans
from anymri.cli.console import console, print_lane
from anymri.cli.problems import noted
from anymri.cli.progress import progress_of, working
from anymri.cli.results.cases import FollowedUp
from anymri.cli.time_point import read_time_point, weights_of
from anymri.cli.used_weights import weights_for
from anymri.errors import InputWarning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anymri.inference.follow_up import FollowUp


def compare(
    places: tuple[Path, Path],
    output: Path,
    weights: list[Path] | None,
    computing: Mapping[str, Any],
    options: Mapping[str, Any],
    page: bool,
    dicom: bool,
) -> FollowedUp:
    """Segment and compare two time points, print what was found, and return it.

    computing  arguments of `load_model`
    options    arguments of `anymri.inference.follow_up.follow_up`
    """
    with noted() as notes:
        with working("reading the scans"):
            first, second = (read_time_point(place) for place in places)
        for point in (first, second):
            console.print(f"{point.raw.name}:", soft_wrap=True)
            print_scans(point.raw)
        from anymri.inference.ensemble import load_model
        from anymri.inference.follow_up import FOLLOW_UP, follow_up
        from anymri.inference.time_points import check_time_points, common_subset

        check_time_points(first.raw, second.raw)
        with warnings.catch_warnings():  # `follow_up` warns of the same
            warnings.simplefilter("ignore")
            subset = common_subset(first.raw, second.raw, options["subset"])
        used = weights_for(weights_of((first, second), weights), subset)
        with working("loading the weights"):
            model = load_model(used, **computing)
        print_lane(computing["lane"], model)
        with progress_of("comparing") as progress:
            found = follow_up(model, first.raw, second.raw, output, progress=progress, **options)
    files = [output / "second-on-first.nii.gz"]
    if page:
        from anymri.report.follow_up_page import write_follow_up_page

        files.append(write_follow_up_page(output, _picture(found), notes))
    if dicom:
        files += _write_dicom(found, output)
    _print(found, output / FOLLOW_UP)
    for file in files[1:]:
        console.print(f"{file}", soft_wrap=True)
    regions = found.as_json()["regions"]
    return FollowedUp(
        folder=output,
        comparison=output / FOLLOW_UP,
        files=files,
        first=output / "first",
        second=output / "second",
        days=found.days,
        modalities=list(found.subset),
        weights=[Path(each["file"]) for each in model.inputs.values()],
        change_ml={region: values["change_ml"] for region, values in regions.items()},
        change_interval_ml={region: values["change_interval_ml"] for region, values in regions.items()},
    )


def _print(found: FollowUp, file: Path) -> None:
    if found.registration is not None:
        console.print(found.registration.reason, soft_wrap=True)
    for region, change in found.changes.items():
        low, high = change.interval_ml
        percent = "" if change.change_percent is None else f", {change.change_percent:+z.0f} %"
        before, after = change.first.volume_ml, change.second.volume_ml
        console.print(
            f"{region} {before:.1f} to {after:.1f} mL: {change.change_ml:+z.1f} mL{percent}, "
            f"interval {low:+z.1f} to {high:+z.1f} mL",
            soft_wrap=True,
        )
    console.print(f"{file}", soft_wrap=True)


def _picture(found: FollowUp) -> Figure:
    """Return the picture of both time points on the grid of the first result."""
    from anymri.modalities import REFERENCE_ORDER
    from anymri.prepare.grid import Grid
    from anymri.prepare.resampling import resample
    from anymri.report.follow_up_page import follow_up_figure

    modality = next(each for each in REFERENCE_ORDER if each in found.subset)
    grid = Grid.of(found.first.reference)
    before, after = (result.scans()[modality] for result in (found.first, found.second))
    aligned = resample(after, found.second.reference.affine, grid, found.transform)
    return follow_up_figure((before, aligned), (found.first.classes, found.aligned), grid.affine, modality)


def _write_dicom(found: FollowUp, folder: Path) -> Sequence[Path]:
    """Write the report; note why not if one of the time points is not DICOM."""
    from anymri.export.dicom_follow_up import write_follow_up_sr

    series = []
    for result in (found.first, found.second):
        scans = {} if result.preparation is None else result.preparation.raw.scans
        series.append([scan.series for m, scan in scans.items() if scan.series is not None and m in found.subset])
    if not all(series):
        warnings.warn(
            "No DICOM report was written, because a time point has no scan that is a DICOM series.",
            InputWarning,
            stacklevel=3,
        )
        return []
    algorithm = f"anymri {found.first.card.system}"
    regions = found.as_json()["regions"]
    return [write_follow_up_sr(folder / "follow-up.dcm", regions, series[0], series[1], algorithm=algorithm)]
