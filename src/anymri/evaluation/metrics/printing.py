"""Printed form of metrics and their values: names, units, decimals."""

from __future__ import annotations

import math

from anymri.evaluation.metrics import METRICS

# Printed where there is no value.
NOTHING = "-"


def heading(metric: str) -> str:
    """Return the printed name of a metric."""
    return METRICS[metric].title if metric in METRICS else metric


def unit(metric: str) -> str:
    """Return `fraction` (printed in percent), `mm`, `mL`, `dB` or `ratio`."""
    return METRICS[metric].unit if metric in METRICS else "fraction"


def published_name(metric: str) -> str:
    """Return the name under which papers print a metric; those of Dice are all printed as `dice`."""
    return (METRICS[metric].published_as if metric in METRICS else "") or metric


def lower_is_better(metric: str) -> bool:
    """Return whether smaller values of a metric are better."""
    return metric in METRICS and not METRICS[metric].higher_is_better


def explain(metric: str) -> str:
    """Return how to read the numbers of a metric, as in `HD95 in mm (lower is better)`."""
    better = "lower is better" if lower_is_better(metric) else "higher is better"
    special = {"fraction": f"in percent (0 to 100, {better})", "ratio": f"as a ratio ({better})"}
    return f"{heading(metric)} {special.get(unit(metric), f'in {unit(metric)} ({better})')}"


def format_value(value: float, metric: str) -> str:
    """Return a value as printed: percent, mm, mL or dB with one decimal, ratios with three, a dash for NaN."""
    if math.isnan(value):
        return NOTHING
    if unit(metric) == "ratio":
        return f"{value:z.3f}"
    return f"{100 * value if unit(metric) == 'fraction' else value:z.1f}"
