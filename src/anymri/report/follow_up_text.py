"""Sentences and tables of the page of two time points, from the content of follow-up.json (`compared`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anymri.analysis.grid import Cell, Grid, Group
from anymri.evaluation.metrics.printing import NOTHING
from anymri.report.case_text import REGION_NAMES
from anymri.text import count

Compared = Mapping[str, Any]


def findings(compared: Compared) -> list[str]:
    """Return the change of the whole and of the enhancing tumour as sentences."""
    used = "+".join(compared["modalities"])
    days = compared["days"]
    apart = "at two time points" if days is None else f"at two time points {count(abs(days), 'day')} apart"
    sentences = [f"The tumour was segmented {apart}, both times from {used} by the same network."]
    for region, name in (("WT", "The whole tumour with oedema"), ("ET", "The enhancing tumour")):
        values = compared["regions"][region]
        before, after = values["first"]["volume_ml"], values["second"]["volume_ml"]
        if not before and not after:
            sentences.append(f"{name} was not found at either time point.")
            continue
        low, high = values["change_interval_ml"]
        text = f"{name} has {before:.1f} mL at the first and {after:.1f} mL at the second time point"
        percent = "" if values["change_percent"] is None else f", {values['change_percent']:+z.0f} %"
        text += (
            f": a change of {values['change_ml']:+z.1f} mL{percent}, in an interval of {low:+z.1f} to {high:+z.1f} mL."
        )
        if not values["interval_excludes_zero"]:
            text += " The interval contains 0: the direction depends on the threshold or on how the patient lay."
        sentences.append(text)
    return sentences


def regions_grid(compared: Compared) -> Grid:
    """Return one row per region: volumes with their ranges, and the change with its interval."""
    columns = [
        Group("first, mL", ["volume", "range"]),
        Group("second, mL", ["volume", "range"]),
        Group("change", ["mL", "interval, mL", "%", "interval, %"]),
    ]
    rows = []
    for region, values in compared["regions"].items():
        cells = [REGION_NAMES.get(region, region)]
        for name in ("first", "second"):
            cells += [f"{values[name]['volume_ml']:.1f}", _interval(values[name]["range_ml"], "")]
        cells += [f"{values['change_ml']:+z.1f}", _interval(values["change_interval_ml"])]
        percent = values["change_percent"]
        cells.append(NOTHING if percent is None else f"{percent:+z.0f}")
        cells.append(_interval(values["change_interval_percent"], digits=0))
        rows.append([Cell(text) for text in cells])
    notes = (
        "Range and interval: with thresholds of 0.25, 0.5 and 0.75 on the probability, the same at both time points, "
        "and with each case as it is and as if the patient lay differently. They are not confidence intervals.",
    )
    return Grid("Volumes and their change", ("region",), columns, rows, notes=notes)


def places_grid(compared: Compared) -> Grid | None:
    """Return one row per region: its volume at both time points, at the first only and at the second only.

    None if the time points were not registered.
    """
    if compared["registration"] is None:
        return None
    names = ("in_both_ml", "only_first_ml", "only_second_ml")
    rows = [
        [Cell(REGION_NAMES.get(region, region)), *(Cell(f"{values[name]:.1f}") for name in names)]
        for region, values in compared["regions"].items()
    ]
    notes = (
        "The registration is rigid: where a growing or shrinking tumour moves the brain around it, the edges of both "
        "label maps differ by that too.",
    )
    heads = [Group("", ["both times, mL", "first only, mL", "second only, mL"])]
    return Grid("Where it changed", ("region",), heads, rows, notes=notes)


def registration(compared: Compared) -> dict[str, str]:
    """Return name -> value of how the time points were aligned."""
    found = compared["registration"]
    if found is None:
        return {"Registration": "none, as requested: the headers are trusted"}
    return {
        "Registration": found["reason"],
        "Residual": f"{found['residual_mm']:.2f} mm at the edge of the brain",
        "Overlap of the brains": f"{found['overlap']:.3f} (Dice)",
    }


def limits() -> list[str]:
    """Return what the comparison does not show, as sentences."""
    return [
        "A change of volume has many causes beside growth: surgery, radiation, steroids, antiangiogenic agents, "
        "another scanner, another sequence or dose of contrast agent. The page does not distinguish them, and it "
        "states no response by RANO.",
        "The interval shows how the change depends on the threshold and on the position of the patient. Errors that "
        "the network makes at both time points, and errors that it makes at one of them alone, are not in it.",
        "Lesions are not matched one by one.",
    ]


def _interval(values: list[float] | None, sign: str = "+", digits: int = 1) -> str:
    if values is None:
        return NOTHING
    low, high = (f"{value:{sign}z.{digits}f}" for value in values)
    return f"{low} to {high}"
