"""What `anymri evaluate` and `anymri score` print and return."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from math import isfinite
from typing import TYPE_CHECKING

from anymri.cli.console import console
from anymri.cli.results.studies import Evaluated, MeanMetric

if TYPE_CHECKING:
    from anymri.evaluation.result import Evaluation
    from anymri.evaluation.rows import Row


def print_evaluation(evaluation: Evaluation) -> Evaluated:
    """Print the table of an evaluation and the file that has it; a plain table without the extra `report`."""
    metrics, table = evaluation.folder / "metrics.csv", None
    if find_spec("pandas") is None:
        text = evaluation.plain_table()
    else:
        from anymri.analysis.tables import write_tables

        text, table = write_tables(evaluation.folder, evaluation.metrics), evaluation.folder / "table.md"
    console.print(text, soft_wrap=True)
    console.print(f"{table or metrics}", soft_wrap=True)
    if seen := evaluation.seen_in_training:
        console.print(f"The weights were trained on {len(seen)} of these cases, so the metrics are not test results.")
    cases = len({row["case"] for row in evaluation.rows})
    return Evaluated(evaluation.folder, metrics, table, cases, _means(evaluation.rows), seen)


def _means(rows: Sequence[Row]) -> list[MeanMetric]:
    """Return the mean over cases of each metric, in the order of the rows."""
    from anymri.evaluation.rows import SCORED

    values: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        scored = values.setdefault((row["subset"], row["region"], row["metric"]), [])
        if row["status"] == SCORED and isfinite(row["value"]):
            scored.append(float(row["value"]))
    return [MeanMetric(*key, sum(each) / len(each) if each else None, len(each)) for key, each in values.items()]
