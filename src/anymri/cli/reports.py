"""`anymri report` and `anymri plot`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from anymri.analysis.published import quote
from anymri.analysis.reading import read_evaluations
from anymri.cli.progress import case_progress
from anymri.errors import ConfigurationError
from anymri.files import output_folder
from anymri.report.figures import save
from anymri.report.plots import all_plots


def make_report(
    console: Console,
    evaluations: Sequence[Path],
    output: Path | None,
    title: str | None,
    quoted: Sequence[str],
    pictures: bool,
    device: str,
) -> Path:
    """Writes the page of one or several evaluations, and returns where."""
    if output is None and len(evaluations) > 1:
        raise ConfigurationError(
            "A report of several evaluations belongs into none of their folders.", "Name its file: -o report.html"
        )
    from anymri.report.pages import write_report

    published = [quote(name) for name in quoted]
    found = read_evaluations(evaluations)
    path = evaluations[0] / "report.html" if output is None else output
    examples = []
    if pictures:
        from anymri.report.examples import examples as make_examples

        with case_progress(console, "segmenting examples") as progress:
            examples = make_examples(found, device, progress)
    names = ", ".join(found) if len(found) <= 3 else f"{len(found)} systems"
    return write_report(path, title or f"Evaluation of {names}", found, examples=examples, quoted=published)


def write_plots(evaluations: Sequence[Path], output: Path, quoted: Sequence[str]) -> list[Path]:
    """Writes every plot that the evaluations allow as PNG and SVG, and returns the files."""
    published = [quote(name) for name in quoted]
    found = read_evaluations(evaluations)
    output_folder(output)
    return [file for plot in all_plots(found, published) for file in save(plot.figure, output / plot.name)]
