"""Published results: numbers that papers print, with their source and caveats. Source: sheets of the systems."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from anymri.analysis.tables import MEAN
from anymri.errors import ConfigurationError, did_you_mean
from anymri.evaluation.metrics.printing import published_name, unit

_FILE = Path(__file__).parent / "published.json"
# Largest difference of a printed mean from the mean of printed rows that rounding explains, some to one decimal.
_ROUNDING = 0.06


@dataclass(frozen=True)
class Published:
    """Results of one system in one paper: Dice in percent, HD95 in mm.

    name           system and year of the data
    system         name of the system in anymri
    cohort         data that they were measured on
    source         paper and table
    caveats        reasons why they are not comparable
    rows           metric -> subset -> region -> value; empty where only means are published
    printed_means  metric -> region -> mean over the 15 subsets as printed, which may differ from that of the rows
    overall_dice   mean over subsets and regions, where only this is published
    """

    name: str
    system: str
    cohort: str
    source: str
    caveats: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Mapping[str, float]]]
    printed_means: Mapping[str, Mapping[str, float]]
    overall_dice: float | None

    @property
    def label(self) -> str:
        """Name in tables and figures, which shows that the numbers are not measured."""
        return f"{self.name} (quoted)"

    def has(self, metric: str) -> bool:
        """Return whether there are values of a metric."""
        name = published_name(metric)
        return name in self.rows or name in self.printed_means

    def value(self, metric: str, row: str, region: str) -> float:
        """Return the value of a subset or of the row `mean`, as a fraction or in mm; NaN if it is not published."""
        printed = self.mean(metric, region) if row == MEAN else self._printed(metric, row, region)
        return printed / 100 if unit(metric) == "fraction" else printed

    def mean(self, metric: str, region: str) -> float:
        """Return the mean of the rows, or the printed one if there are no rows, in percent or mm; NaN without both."""
        name = published_name(metric)
        if name in self.rows:
            values = [row[region] for row in self.rows[name].values() if region in row]
            return sum(values) / len(values) if values else float("nan")
        return self.printed_means.get(name, {}).get(region, float("nan"))

    def _printed(self, metric: str, row: str, region: str) -> float:
        return self.rows.get(published_name(metric), {}).get(row, {}).get(region, float("nan"))

    def notes(self, metric: str) -> list[str]:
        """Return where the numbers come from, and why they are not simply comparable."""
        name = published_name(metric)
        sentences = [f"{self.name} is quoted, not measured: {self.source}, {self.cohort}."]
        sentences += [f"{caveat[0].upper()}{caveat[1:]}." for caveat in self.caveats]
        for region, printed in self.printed_means.get(name, {}).items():
            of_rows = self.mean(metric, region)
            if name in self.rows and abs(of_rows - printed) > _ROUNDING:
                sentences.append(f"The paper prints {printed:g} as mean of {region}, its rows give {of_rows:.2f}.")
        if self.overall_dice is not None and name == "dice":
            sentences.append(f"It publishes only one mean over subsets and regions: {self.overall_dice:g}.")
        return [" ".join(sentences)]


@cache
def published() -> Mapping[str, Published]:
    """Return all published results by name."""
    entries: list[dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return {entry["name"]: _read(entry) for entry in entries}


def quote(name: str) -> Published:
    """Return published results by name; raise `ConfigurationError` with the closest name for an unknown one."""
    if name not in published():
        hint = did_you_mean(name, published())
        raise ConfigurationError(
            f"There are no published results named {name!r}.", f"{hint}Known: {', '.join(published())}."
        )
    return published()[name]


def _read(entry: Mapping[str, Any]) -> Published:
    return Published(
        name=entry["name"],
        system=entry["system"],
        cohort=entry["cohort"],
        source=entry["source"],
        caveats=tuple(entry["caveats"]),
        rows={metric: entry[metric] for metric in ("dice", "hd95") if metric in entry},
        printed_means={m: entry[f"{m}_mean_as_printed"] for m in ("dice", "hd95") if f"{m}_mean_as_printed" in entry},
        overall_dice=entry.get("dice_mean_of_regions"),
    )
