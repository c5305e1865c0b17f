"""Published results, quoted: numbers of papers as they stand in the sheets, with their source and caveats."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from anymri.analysis.tables import MEAN, unit
from anymri.errors import ConfigurationError

_FILE = Path(__file__).parent / "published.json"
# Rounding of printed rows and means, some to one decimal, leaves no more than this between them.
_ROUNDING = 0.06


@dataclass(frozen=True)
class Published:
    """Results of one system in one paper: Dice in percent, HD95 in mm.

    name           system and year of the data
    rows           metric -> subset -> region -> value; empty where only means are known
    printed_means  metric -> region -> mean over the 15 subsets as printed, which may not be that of the rows
    overall_dice   mean over subsets and regions, where nothing else is known
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
        """The name as tables and figures print it: nobody should take the numbers for measured ones."""
        return f"{self.name} (quoted)"

    def knows(self, metric: str) -> bool:
        return metric in self.rows or metric in self.printed_means

    def value(self, metric: str, row: str, region: str) -> float:
        """Of a subset, or of the row `mean`, in the units of our own metrics: fractions or mm; NaN if unknown."""
        printed = self.mean(metric, region) if row == MEAN else self._printed(metric, row, region)
        return printed / 100 if unit(metric) == "fraction" else printed

    def mean(self, metric: str, region: str) -> float:
        """Of the rows, or as printed where there are none; NaN if neither is known."""
        if metric in self.rows:
            values = [row[region] for row in self.rows[metric].values() if region in row]
            return sum(values) / len(values) if values else float("nan")
        return self.printed_means.get(metric, {}).get(region, float("nan"))

    def _printed(self, metric: str, row: str, region: str) -> float:
        return self.rows.get(metric, {}).get(row, {}).get(region, float("nan"))

    def notes(self, metric: str) -> list[str]:
        """Where the numbers come from, and why they cannot simply be compared."""
        sentences = [f"{self.name} is quoted, not measured: {self.source}, {self.cohort}."]
        sentences += [f"{caveat[0].upper()}{caveat[1:]}." for caveat in self.caveats]
        for region, printed in self.printed_means.get(metric, {}).items():
            own = self.mean(metric, region)
            if metric in self.rows and abs(own - printed) > _ROUNDING:
                sentences.append(f"The paper prints {printed:g} as mean of {region}, its rows give {own:.2f}.")
        if self.overall_dice is not None and metric == "dice":
            sentences.append(f"Known of it is one mean over subsets and regions: {self.overall_dice:g}.")
        return [" ".join(sentences)]


@cache
def published() -> Mapping[str, Published]:
    """All quoted results by name."""
    entries: list[dict[str, Any]] = json.loads(_FILE.read_text(encoding="utf-8"))
    return {entry["name"]: _read(entry) for entry in entries}


def quote(name: str) -> Published:
    """Quoted results by name; raises `ConfigurationError` with the closest name for an unknown one."""
    if name not in published():
        close = difflib.get_close_matches(name, published(), n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
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
