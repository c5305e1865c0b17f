"""The tidy tables of an evaluation: one row per case, subset, region and metric, and the bins of calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, isnan
from typing import Any

from anymri.evaluation.metrics import Metric
from anymri.evaluation.metrics.comparison import Comparison
from anymri.modalities import MODALITIES, Subset
from anymri.regions import REGIONS, LabelScheme

COLUMNS = ("case", "subset", "region", "metric", "value", "status")
CURVE_COLUMNS = ("case", "subset", "region", "bin", "voxels", "confidence", "frequency")
# Values of the column `region`: a region, or the modality that was reconstructed.
PLACES = (*REGIONS, *MODALITIES)
# Status of a row with a value; any other status is the reason why there is none.
SCORED = "scored"
# End of the status of a subset with modalities that the case does not have.
MISSING_STATUS = " missing"

Row = dict[str, Any]


@dataclass
class CaseMetrics:
    """Rows of one case: `COLUMNS`, and `CURVE_COLUMNS` where a calibration error was chosen."""

    rows: list[Row] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)

    def add(
        self, case: str, subset: Subset, metrics: Sequence[Metric], scheme: LabelScheme, compared: Comparison | str
    ) -> None:
        """Add the rows of one subset.

        compared  prediction and truth; or the reason why there are none, which becomes the status of rows without a
                  value (never a zero)
        """
        for metric in metrics:
            for region in metric.regions:
                if region == "RC" and not scheme.defines("RC"):
                    continue  # most data sets have no cavity, and nobody expects a column for it
                if region in subset:
                    continue  # a modality that is given is not reconstructed
                key = {"case": case, "subset": str(subset), "region": region}
                value, status = _value(metric, region, scheme, compared)
                self.rows.append({**key, "metric": metric.name, "value": value, "status": status})
                if metric.name == "ece" and value is not None:
                    assert isinstance(compared, Comparison)
                    self.curves += [{**key, **each} for each in _bins(compared, region)]


def _value(metric: Metric, region: str, scheme: LabelScheme, compared: Comparison | str) -> tuple[float | None, str]:
    """Return value and status."""
    if isinstance(compared, str):
        return None, compared
    if metric.needs == "reconstructed scans":
        assert compared.reconstructed is not None
        if region not in compared.reconstructed.real:
            return None, f"no {region} to compare with"
    elif not scheme.defines(region):
        return None, f"no {region} in {scheme.name}"
    value = float(metric.of(compared, region))
    if not isfinite(value):  # a mean with one infinite value would be infinite
        return None, f"{metric.title} is {'not defined' if isnan(value) else 'infinite'}"
    return value, SCORED


def _bins(comparison: Comparison, region: str) -> list[Row]:
    """Return the bins that hold voxels: how many, their mean probability, and the share of them in the region."""
    curve = comparison.reliability(region)
    columns = (curve.voxels.tolist(), curve.predicted.tolist(), curve.observed.tolist())
    return [
        {"bin": number, "voxels": voxels, "confidence": confidence, "frequency": frequency}
        for number, (voxels, confidence, frequency) in enumerate(zip(*columns, strict=True))
        if voxels
    ]
