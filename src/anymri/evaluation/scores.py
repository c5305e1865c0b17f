"""The tidy table of an evaluation: one row a case, subset, region and metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anymri.evaluation.comparison import Comparison
from anymri.evaluation.metrics import Metric
from anymri.regions import LabelScheme

COLUMNS = ("case", "subset", "region", "metric", "value", "status")
# The status of a row with a value; any other says why there is none.
SCORED = "scored"

Row = dict[str, Any]


def score_rows(
    case: str, subset: str, metrics: Sequence[Metric], scheme: LabelScheme, compared: Comparison | str
) -> list[Row]:
    """Rows of one case and subset.

    compared  prediction and truth, or why there are none: then rows have that as status and no value, never a zero
    """
    rows = []
    for metric in metrics:
        for region in metric.regions:
            if region == "RC" and not scheme.tells("RC"):
                continue  # most data sets have no cavity, and nobody expects a column for it
            value, status = None, SCORED
            if isinstance(compared, str):
                status = compared
            elif not scheme.tells(region):
                status = f"no {region} in {scheme.name}"
            else:
                value = metric.of(compared, region)
            row = {"case": case, "subset": subset, "region": region, "metric": metric.name}
            rows.append({**row, "value": value, "status": status})
    return rows
