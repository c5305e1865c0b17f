"""`anymri doctor`: what raw scans are, how they fit together, and what `anymri segment` will do with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anymri.cli.commands.segment import T1, T2, Brain, DicomStudy, Flair, Registration, T1c
from anymri.cli.console import output
from anymri.cli.results.cases import Examined
from anymri.text import visible

if TYPE_CHECKING:
    from rich.table import Table

    from anymri.prepare.findings import Examination, ScanReport

# Background, NCR, ED, ET; networks for scans after surgery have one class more.
MOST_CLASSES_BEFORE_SURGERY = 4
# Scans side by side in a table.
_COLUMNS = 4
_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold"}


def doctor(
    case: Annotated[
        Path | None, typer.Argument(help="Folder, file or zip archive of images or DICOM; or name scans by options.")
    ] = None,
    *,
    t1: T1 = None,
    t1c: T1c = None,
    t2: T2 = None,
    flair: Flair = None,
    brain: Brain = "auto",
    registration: Registration = True,
    dicom_study: DicomStudy = None,
    weights: Annotated[Path | None, typer.Option(help="Weights, to see whether the scans suit them.")] = None,
) -> Examined:
    """Examine the scans of a case before segmentation.

    Grids, positions, brains, alignment, swapped and doubled scans, and what anymri segment will do. Nothing is written.
    """
    from anymri.cli.progress import progress_of
    from anymri.errors import ModalityError
    from anymri.prepare.brain_methods import check_brain_method
    from anymri.prepare.doctor import examine

    given = {"t1": t1, "t1c": t1c, "t2": t2, "flair": flair}
    scans = {name: path for name, path in given.items() if path is not None}
    if case is None and not scans:
        raise ModalityError(
            "No scan was given.", "Give a case folder, or at least one of --t1, --t1c, --t2 and --flair."
        )
    check_brain_method(brain)
    expectations = [] if weights is None else expected_by(weights)
    with progress_of("examining") as progress:
        found = examine(case, scans, brain, registration, dicom_study, progress)
    found.plan += expectations
    print_examination(found)
    return Examined(**found.as_dict())


def expected_by(weights: Path) -> list[str]:
    """Return what weights expect of scans, as sentences; raise `WeightsError` if they cannot be used."""
    from anymri.weights.locate import find_weights
    from anymri.weights.store import load_weights

    _, card = load_weights(find_weights(weights))
    is_atlas = card.space == "atlas"
    where = "the space of an atlas, to which scans are not brought" if is_atlas else "the space of the scan"
    sentences = [f"The weights ({card.system}) expect scans in {where}."]
    if card.network["num_classes"] > MOST_CLASSES_BEFORE_SURGERY:
        sentences.append("The resection cavity is one of their classes: they are for scans after surgery.")
    elif card.label_scheme is not None:
        sentences.append("They have no class for the resection cavity: expect errors around one.")
    return sentences


def print_examination(found: Examination) -> None:
    """Print the tables, the findings and the plan of an examination."""
    from rich.text import Text

    output.print(Text(visible(found.case), style="bold"))
    for scans in batched(found.scans, _COLUMNS):
        output.print(_scans(scans))
    if found.pairs:
        output.print(_pairs(found))
    for each in found.findings:
        subject = f"{each.scan}: " if each.scan else ""
        line = Text(f"{each.level}: ", style=_STYLES[each.level]) + Text(
            visible(f"{subject}{each.text} {each.advice}".strip()), style="default"
        )
        output.print(line, soft_wrap=True)
    for sentence in found.left_out:
        output.print(f"left out: {sentence}", soft_wrap=True)
    for number, sentence in enumerate(found.plan, 1):
        output.print(f"{number}. {sentence}", soft_wrap=True)


def _scans(scans: Sequence[ScanReport]) -> Table:
    """Return a table with one column per scan."""
    table = _table(("", *(visible(scan.label) for scan in scans)))
    columns = [_figures(scan) for scan in scans]
    for name in columns[0]:
        table.add_row(name, *(visible(column[name]) for column in columns))
    return table


def _figures(scan: ScanReport) -> dict[str, str]:
    """Return what the table shows of a scan: name -> text."""
    values, seen, brain = scan.intensities, scan.recognised, scan.brain
    background = values["background"]
    angle = f"{scan.oblique_degrees:.1f}°"
    return {
        "file": f"{scan.file.name} ({scan.format})",
        "voxels": "x".join(map(str, scan.shape)),
        "spacing, mm": "x".join(f"{mm:.2f}" for mm in scan.spacing_mm),
        "axes, oblique by": f"{scan.orientation}, {angle}",
        "position": scan.position,
        "intensities": f"{values['percentile_1']:.4g} to {values['percentile_99']:.4g}",
        "background": "not constant" if background is None else f"{background:g}",
        "skull": {None: "", True: "yes", False: "no"}[scan.skull],
        "brain": "" if brain is None else f"{brain['volume_ml']:.0f} mL, {brain['method']}",
        "looks like": "" if seen is None else f"{seen['modality'] or 'none of the four'}, {seen['confidence']:.2f}",
    }


def _pairs(found: Examination) -> Table:
    table = _table(("scan", "onto", "overlap before", "after", "residual", "shift", "angle", "accepted"))
    for pair in found.pairs:
        accepted = {None: "", True: "yes", False: "no"}[pair.accepted]
        row = (
            pair.scan,
            pair.onto,
            _number(pair.overlap_by_header, ".2f"),
            _number(pair.overlap, ".2f"),
            _number(pair.residual_mm, ".1f", " mm"),
            _number(pair.shift_mm, ".1f", " mm"),
            _number(pair.angle_degrees, ".1f", "°"),
            accepted,
        )
        table.add_row(*row)
    return table


def batched(scans: Sequence[ScanReport], size: int) -> Iterator[Sequence[ScanReport]]:
    """Yield scans in groups of at most `size`."""
    yield from (scans[first : first + size] for first in range(0, len(scans), size))


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def _table(columns: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
