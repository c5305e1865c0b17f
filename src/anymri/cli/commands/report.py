"""`anymri report`: one page about evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from anymri.cli.console import console
from anymri.cli.options import Device, Evaluations, Quote
from anymri.cli.results.studies import Page
from anymri.errors import ConfigurationError


def report(
    evaluations: Evaluations,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The .html file; default: EVALUATION/report.html.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    quote: Quote = None,
    pictures: Annotated[
        bool,
        typer.Option("--pictures/--no-pictures", help="Pictures of the worst and the median case."),
    ] = True,
    device: Device = "auto",
) -> Page:
    """Write one self-contained page about evaluations.

    Data, protocol, tables, plots, worst cases, statistics, provenance. The page opens offline.
    """
    from anymri.extras import need

    need("report", "pandas", "matplotlib", "jinja2", purpose="A report")
    page = make_report(evaluations, output, title, quote or [], pictures, device)
    console.print(f"{page}", soft_wrap=True)
    return Page(page)


def make_report(
    evaluations: Sequence[Path],
    output: Path | None,
    title: str | None,
    quoted: Sequence[str],
    pictures: bool,
    device: str,
) -> Path:
    """Write the page of one or several evaluations, and return its path."""
    if output is None and len(evaluations) > 1:
        raise ConfigurationError(
            "A report of several evaluations needs the name of its file.", "Name it, as in: -o report.html"
        )
    from anymri.analysis.published import quote
    from anymri.analysis.reading import read_evaluations
    from anymri.cli.progress import progress_of, working
    from anymri.evaluation.folder import refuse_overwriting_evaluations
    from anymri.report.pages import write_report

    published = [quote(name) for name in quoted]
    found = read_evaluations(evaluations)
    path = evaluations[0] / "report.html" if output is None else output
    refuse_overwriting_evaluations(path, evaluations)
    examples = []
    if pictures:
        from anymri.evaluation.originals import Originals
        from anymri.report.examples import examples as make_examples

        with progress_of("segmenting examples") as progress:
            examples = make_examples(found, Originals(device), progress)
    names = ", ".join(found) if len(found) <= 3 else f"{len(found)} systems"
    with working("writing the page"):
        return write_report(path, title or f"Evaluation of {names}", found, examples=examples, quoted=published)
