"""Terminal that every command prints to; text from files cannot control it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from anymri.text import visible

if TYPE_CHECKING:
    from anymri.evaluation.result import Evaluation
    from anymri.inference.ensemble import Model


class PlainConsole(Console):
    """Console without markup: brackets are printed, and control characters are escaped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text to print, in which only line feeds and tabs control the terminal."""
        return super().render_str(visible(text), **options)


console = PlainConsole()


def print_lane(asked: str, model: Model) -> None:
    """Print which lane a model computes in and why, if it was chosen automatically."""
    if asked == "auto":
        console.print(f"Lane: {model.lane.name} ({model.lane.why})", soft_wrap=True)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the table of an evaluation and the file that has it; a plain table without the extra `report`."""
    if find_spec("pandas") is None:
        text, file = evaluation.plain_table(), evaluation.folder / "metrics.csv"
    else:
        from anymri.analysis.tables import write_tables

        text, file = write_tables(evaluation.folder, evaluation.metrics), evaluation.folder / "table.md"
    console.print(text, soft_wrap=True)
    console.print(f"{file}", soft_wrap=True)
