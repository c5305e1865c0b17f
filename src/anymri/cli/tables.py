"""`anymri table`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anymri.errors import ConfigurationError
from anymri.report.comparing import average_grid, read_systems, subset_grid
from anymri.report.grid import FORMATS
from anymri.report.published import quote
from anymri.report.statistics import statistics_grids


def make_table(
    evaluations: Sequence[Path], metric: str, form: str, quoted: Sequence[str], average: bool, statistics: bool
) -> str:
    """The text of one table, or of the tables of statistics one below the other."""
    if form not in FORMATS:
        raise ConfigurationError(f"There is no format named {form!r}.", f"Known: {', '.join(FORMATS)}.")
    if statistics and (average or quoted):
        raise ConfigurationError(
            "--statistics are of measured results, and have tables of their own.",
            "Leave out --average and --quote, or make two tables.",
        )
    published = [quote(name) for name in quoted]
    systems = read_systems(evaluations, metric)
    if statistics:
        grids = statistics_grids(systems)
    else:
        grids = [average_grid(systems, published) if average else subset_grid(systems, published)]
    return "\n".join(FORMATS[form](grid) for grid in grids)
