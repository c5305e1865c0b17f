"""Change of the volume of a tumour between two time points, with the interval in which it depends on choices.

The interval of a change comes from twelve differences of a volume of the second and one of the first time point: with
the region where its probability is above 0.25, in the label map (0.5), or above 0.75, the same at both time points; and
with each case as it is or repositioned (`anymri.inference.repositioning`). It is the range of the twelve. So it
contains how the change depends on the threshold and on the position of the patient. It is not a confidence interval:
errors that the network makes in all of them alike, other scanners and sequences, and effects of therapy are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from anymri.inference.measurements import THRESHOLDS, Measurements, RegionMeasurements

# Name of the volume in the label map among volumes by threshold.
_LABEL_MAP = 0.5


@dataclass(frozen=True)
class Volumes:
    """Volumes of one region at one time point in millilitres.

    at       threshold -> volume, with 0.5 for the label map
    again    the same for the repositioned case
    """

    at: dict[float, float]
    again: dict[float, float]

    @classmethod
    def of(cls, region: str, measured: Measurements, again: Measurements) -> Volumes:
        """Return the volumes of a region in the measurements of a case and of the repositioned case."""
        return cls(_by_threshold(measured.regions[region]), _by_threshold(again.regions[region]))

    @property
    def volume_ml(self) -> float:
        """Volume in the label map."""
        return self.at[_LABEL_MAP]

    @property
    def range_ml(self) -> tuple[float, float]:
        """Smallest and largest of all volumes."""
        values = [*self.at.values(), *self.again.values()]
        return min(values), max(values)

    def as_json(self) -> dict[str, Any]:
        """Return the volumes as plain values."""
        return {
            "volume_ml": round(self.volume_ml, 4),
            **{f"volume_ml_at_{threshold:g}": round(self.at[threshold], 4) for threshold in THRESHOLDS},
            "repositioned_ml": round(self.again[_LABEL_MAP], 4),
            "range_ml": [round(each, 4) for each in self.range_ml],
        }


@dataclass(frozen=True)
class Change:
    """Change of the volume of one region from the first to the second time point."""

    first: Volumes
    second: Volumes

    @property
    def change_ml(self) -> float:
        """Difference of the volumes in the label maps, positive for growth."""
        return self.second.volume_ml - self.first.volume_ml

    @property
    def interval_ml(self) -> tuple[float, float]:
        """Range of the twelve differences, see the module."""
        values = [after - before for before, after in self._pairs()]
        return min(values), max(values)

    @property
    def change_percent(self) -> float | None:
        """Change in percent of the first volume; None if that is 0."""
        return _percent(self.first.volume_ml, self.second.volume_ml)

    @property
    def interval_percent(self) -> tuple[float, float] | None:
        """Range of the twelve relative changes in percent; None if one of the first volumes is 0."""
        values = [_percent(before, after) for before, after in self._pairs()]
        known = [value for value in values if value is not None]
        return (min(known), max(known)) if len(known) == len(values) else None

    @property
    def exceeds_interval(self) -> bool:
        """Whether all twelve differences have one sign: the direction does not depend on the choices."""
        low, high = self.interval_ml
        return low > 0 or high < 0

    def as_json(self) -> dict[str, Any]:
        """Return the change as plain values."""
        percent = self.interval_percent
        return {
            "first": self.first.as_json(),
            "second": self.second.as_json(),
            "change_ml": round(self.change_ml, 4),
            "change_interval_ml": [round(each, 4) for each in self.interval_ml],
            "change_percent": None if self.change_percent is None else round(self.change_percent, 2),
            "change_interval_percent": None if percent is None else [round(each, 2) for each in percent],
            "interval_excludes_zero": self.exceeds_interval,
        }

    def _pairs(self) -> list[tuple[float, float]]:
        """Return pairs of a first and a second volume at the same threshold."""
        return [
            (before[threshold], after[threshold])
            for threshold in self.first.at
            for before, after in product((self.first.at, self.first.again), (self.second.at, self.second.again))
        ]


def _by_threshold(region: RegionMeasurements) -> dict[float, float]:
    low, high = THRESHOLDS
    return {low: region.volumes_at_ml[low], _LABEL_MAP: region.volume_ml, high: region.volumes_at_ml[high]}


def _percent(before: float, after: float) -> float | None:
    return 100 * (after - before) / before if before > 0 else None
