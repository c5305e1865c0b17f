"""What is missing from a case, and what it would bring by the evaluation of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anymri.modalities import MODALITIES, Subset

# Subset, "T1c+FLAIR" -> region -> mean Dice in 0..1.
DiceBySubset = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Gain:
    """Expected change of the mean Dice if one missing modality were added.

    It is the difference of two means over the cases on which the weights were evaluated, not a prediction for a
    patient.

    modality  the missing modality
    before    region -> mean Dice of the subset, in 0..1
    after     region -> mean Dice of the subset with the modality
    """

    modality: str
    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def change(self) -> dict[str, float]:
        """Region -> change of the mean Dice."""
        return {region: self.after[region] - self.before[region] for region in self.before}

    def as_json(self) -> dict[str, Any]:
        """Return the change as plain values, `{"ET": {"before": 0.41, "after": 0.72, "change": 0.31}}` by region."""
        return {
            region: {
                "before": round(self.before[region], 4),
                "after": round(self.after[region], 4),
                "change": round(change, 4),
            }
            for region, change in self.change.items()
        }


def expected_gains(subset: Subset, table: DiceBySubset | None) -> tuple[Gain, ...] | None:
    """Return one `Gain` per missing modality, in the order of `MODALITIES`; None without values for the subset.

    table  mean Dice by subset, of the evaluation of the weights; names of subsets in any order of modalities. Regions
           and modalities without a finite value are left out
    """
    if table is None:
        return None
    means = {Subset.parse(name): values for name, values in table.items()}
    before = _finite(means.get(subset, {}))
    if not before:
        return None
    gains = []
    for modality in MODALITIES:
        if modality in subset:
            continue
        after = _finite(means.get(Subset.of([*subset, modality]), {}))
        regions = [region for region in before if region in after]
        if regions:
            gains.append(Gain(modality, {r: before[r] for r in regions}, {r: after[r] for r in regions}))
    return tuple(gains)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {region: float(value) for region, value in values.items() if math.isfinite(value)}
