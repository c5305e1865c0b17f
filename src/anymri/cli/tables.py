"""`anymri table`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anymri.analysis.comparison import average_grid, read_comparison, subset_grid
from anymri.analysis.grid import FORMATS
from anymri.analysis.published import quote
from anymri.analysis.statistics_tables import statistics_grids
from anymri.errors import ConfigurationError


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
    comparison = read_comparison(evaluations, metric)
    if statistics:
        grids = statistics_grids(comparison)
    else:
        grids = [average_grid(comparison, published) if average else subset_grid(comparison, published)]
    return "\n".join(FORMATS[form](grid) for grid in grids)
