"""The terminal that every command prints to."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from anymri.evaluation.result import Evaluation

console = Console(highlight=False)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the table of an evaluation and the file that has it; a plain table without the extra `report`."""
    if find_spec("pandas") is None:
        text, file = evaluation.plain_table(), evaluation.folder / "metrics.csv"
    else:
        from anymri.analysis.tables import write_tables

        text, file = write_tables(evaluation.folder, evaluation.metrics), evaluation.folder / "table.md"
    console.print(text, markup=False, soft_wrap=True)
    console.print(f"{file}", soft_wrap=True)
