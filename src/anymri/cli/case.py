"""Segmentation of one case on the command line: what is read, the result, and what is printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anymri.cli.added_files import write_added_files
from anymri.cli.console import console, print_lane
from anymri.cli.problems import noted
from anymri.cli.progress import progress_of, working
from anymri.cli.results.cases import CaseSegmentation
from anymri.cli.used_weights import weights_for

if TYPE_CHECKING:
    from anymri.inference.result import Result
    from anymri.prepare.raw import RawStudy


def segment_one(
    case: Path | None,
    scans: Mapping[str, Path],
    output: Path,
    weights: Sequence[Path] | None,
    reading: Mapping[str, Any],
    computing: Mapping[str, Any],
    options: Mapping[str, Any],
    statistics: bool,
    added: Mapping[str, bool],
) -> CaseSegmentation:
    """Segment one case, print what was read and found, and return it.

    scans       option -> file, for the scans that the user names
    reading     further arguments of `read_raw`
    computing   arguments of `load_model`
    options     arguments of `Segmenter.segment`
    statistics  write the statistics of TotalSegmentator
    added       arguments of `write_added_files`
    """
    from anymri.prepare.raw import read_raw

    with noted() as notes:
        with working("reading the scans"):
            raw = read_raw(case, scans, **reading)
        print_scans(raw)
        from anymri.inference.assembly import chosen_subset
        from anymri.inference.ensemble import load_model
        from anymri.inference.result_files import FILES, SEGMENTATION

        used = weights_for(weights, chosen_subset(raw, options["subset"]))
        with working("loading the weights"):
            model = load_model(used, **computing)
        print_lane(computing["lane"], model)
        with progress_of("segmenting", seconds_per_line=5) as progress:
            result = model.segment(raw, output=output, progress=progress, **options)
    if statistics:
        result.save(output, statistics=True)
    print_result(result, output)
    further = write_added_files(result, output, **added, notes=notes)
    for path in further:
        console.print(f"{path}", soft_wrap=True)
    written = [output / name for name in FILES if (output / name).exists()]
    return CaseSegmentation(
        folder=output,
        segmentation=output / SEGMENTATION,
        files=[path for path in written if path.name != SEGMENTATION],
        case=result.case.name,
        scans=dict(raw.case.scans),
        modalities=list(result.subset),
        weights=[Path(each["file"]) for each in model.inputs.values()],
        lane=model.lane.name,
        volumes_ml=dict(result.volumes_ml),
    )


def print_scans(raw: RawStudy) -> None:
    """Print which file was read as which modality."""
    for modality, scan in raw.scans.items():
        first, more = scan.files[0], len(scan.files) - 1
        files = f"{first}{f' and {more} more' if more else ''}"
        console.print(f"Read {files} as {modality}", soft_wrap=True)


def print_result(result: Result, output: Path) -> None:
    """Print how long the preparation of a result took, its volumes and the label map."""
    if result.preparation is not None:
        seconds: dict[str, float] = {}
        for step in result.preparation.steps:
            if step.what == "left out":
                console.print(step.why, soft_wrap=True)
            seconds[step.what] = seconds.get(step.what, 0) + step.seconds
        parts = ", ".join(f"{what} {time:.0f} s" for what, time in seconds.items() if time >= 0.5)
        console.print(f"Prepared in {sum(seconds.values()):.0f} s{': ' if parts else ''}{parts}", soft_wrap=True)
    volumes = ", ".join(f"{name} {millilitres:.1f} mL" for name, millilitres in result.volumes_ml.items())
    console.print(f"From {result.subset}: {volumes}", soft_wrap=True)
    console.print(f"{output / 'segmentation.nii.gz'}", soft_wrap=True)
