"""`anymri table`: evaluations side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from anymri.cli import console
from anymri.cli.options import Evaluations, Quote
from anymri.cli.results.studies import MadeTable
from anymri.errors import ConfigurationError, did_you_mean


def table(
    evaluations: Evaluations,
    *,
    metric: Annotated[
        str | None, typer.Option(help="Metric that was evaluated; default: Dice, as all of them have it.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="markdown, latex (booktabs), csv or html.")] = "markdown",
    quote: Quote = None,
    average: Annotated[bool, typer.Option("--average", help="One row per system, as for ablations.")] = False,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Intervals, paired tests and modality contributions.")
    ] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: print.")] = None,
) -> MadeTable:
    """Make the table of 15 subsets, evaluations side by side.

    The best value of a row is bold; a significant difference from it is marked.
    """
    from anymri.cli.progress import working
    from anymri.extras import need

    need("report", "pandas", purpose="A table")
    with working("computing the table"):
        text = make_table(evaluations, metric, form, quote or [], average, statistics)
    if output is None:
        console.output.write(text)
        return MadeTable(form, None, text)
    from anymri.evaluation.folder import refuse_overwriting_evaluations
    from anymri.files import write_text

    refuse_overwriting_evaluations(output, evaluations)
    write_text(output, text)
    console.console.print(f"{output}", soft_wrap=True)
    return MadeTable(form, output, None)


def make_table(
    evaluations: Sequence[Path], metric: str | None, form: str, quoted: Sequence[str], average: bool, statistics: bool
) -> str:
    """Return the text of one table, or the tables of statistics one below the other."""
    from anymri.analysis.comparison import average_grid, read_comparison, subset_grid
    from anymri.analysis.grid import FORMATS
    from anymri.analysis.published import quote
    from anymri.analysis.statistics_tables import statistics_grids

    if form not in FORMATS:
        hint = did_you_mean(form, FORMATS)
        raise ConfigurationError(f"There is no format named {form!r}.", f"{hint}Known: {', '.join(FORMATS)}.")
    if statistics and (average or quoted):
        raise ConfigurationError(
            "--statistics does not combine with --average or --quote: it needs measured values, in tables of its own.",
            "Run anymri table twice.",
        )
    published = [quote(name) for name in quoted]
    comparison = read_comparison(evaluations, metric)
    if statistics:
        grids = statistics_grids(comparison)
    else:
        grids = [average_grid(comparison, published) if average else subset_grid(comparison, published)]
    return "\n".join(FORMATS[form](grid) for grid in grids)
