"""The result of an evaluation, and its table without pandas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from anymri.evaluation.metrics.printing import format_value, heading
from anymri.evaluation.rows import COLUMNS, SCORED, Row
from anymri.extras import need
from anymri.modalities import SUBSETS

if TYPE_CHECKING:
    import pandas as pd

    from anymri.weights.card import WeightsCard


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation of weights or label maps.

    folder  evaluation folder, for `anymri table`, `plot` and `report`
    rows    rows of its `metrics.csv`: `COLUMNS`, one per case, subset, region and metric. A subset with modalities that
            the case does not have gives rows with a status that says so and no value, never a zero
    card    card of the weights; None for label maps
    """

    folder: Path
    rows: Sequence[Row]
    card: WeightsCard | None = None

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The rows as a table with the columns of `COLUMNS`."""
        need("report", "pandas")
        import pandas as pd

        return pd.DataFrame(self.rows, columns=COLUMNS)

    @cached_property
    def seen_in_training(self) -> list[str]:
        """Names of evaluated cases that the weights were trained on."""
        trained_on = () if self.card is None else self.card.trained_on
        return sorted({row["case"] for row in self.rows} & set(trained_on))

    def plain_table(self) -> str:
        """Return the means over cases of each subset and their mean, as text; `analysis.tables` says more."""
        columns = list(dict.fromkeys((row["metric"], row["region"]) for row in self.rows))
        means = {}
        for subset in map(str, SUBSETS):
            rows = [row for row in self.rows if row["subset"] == subset]
            if rows:
                means[subset] = [_mean(_values(rows, metric, region)) for metric, region in columns]
        means["mean"] = [
            _mean([value for value in column if not isnan(value)]) for column in zip(*means.values(), strict=True)
        ]
        lines = [["subset", *(f"{heading(metric)} {region}" for metric, region in columns)]]
        for name, values in means.items():
            numbers = zip(values, columns, strict=True)
            lines.append([name, *(format_value(value, metric) for value, (metric, _) in numbers)])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        texts = [[first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])] for first, *rest in lines]
        hint = "For tables with footnotes, plots and reports: pip install 'anymri[report]'"
        return "\n".join([*("  ".join(line) for line in texts), "", hint]) + "\n"


def _values(rows: Sequence[Row], metric: str, region: str) -> list[float]:
    return [row["value"] for row in rows if (row["metric"], row["region"], row["status"]) == (metric, region, SCORED)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
