"""The steps of a preparation, as the page of a case lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from anymri.prepare.steps import STUDY
from anymri.report.redaction import without_folders

# Kind of a step -> figures that its sentence has too.
_REPEATED = {
    "found": ("shape", "spacing_mm"),
    "brain": ("method",),
    "reference": ("spacing_mm",),
    "registration": ("kept", "shift_mm", "angle_degrees"),
}
_UNITS = {"mm": " mm", "ml": " mL", "degrees": " degrees", "share": " %"}


def steps(record: Iterable[Mapping[str, Any]], inputs: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the steps as texts: scan, what, why and figures; one for scans with which the same was done in succession.

    record  steps as in provenance.json
    inputs  role -> `file`, as there, for which texts have the role
    """
    groups = groupby(record, key=lambda step: (step.get("what", ""), step.get("why", "")))
    return [_texts(list(group), inputs) for _, group in groups]


def _texts(group: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> dict[str, str]:
    first = group[0]
    repeated = _REPEATED.get(str(first.get("what")), ())
    names = [name for name in first.get("figures") or {} if name not in repeated]
    figures = [_figure(name, [(step.get("figures") or {}).get(name) for step in group]) for name in names]
    texts = {
        "scan": ", ".join("all scans" if step.get("scan") == STUDY else str(step.get("scan", "")) for step in group),
        "what": str(first.get("what", "")),
        "why": str(first.get("why", "")),
        "figures": ", ".join(figures),
    }
    return {name: without_folders(text, inputs) for name, text in texts.items()}


def _figure(name: str, values: Sequence[object]) -> str:
    """Return the values of a figure with its name and unit: "volume 1252 mL"; once if they are equal."""
    words, _, unit = name.rpartition("_")
    if unit not in _UNITS:
        words, unit = name, ""
    shown = list(dict.fromkeys(_plain(value, unit) for value in values))
    listed = shown[0] if len(shown) == 1 else " / ".join(_plain(value, unit) for value in values)
    return f"{words.replace('_', ' ')} {listed}{_UNITS.get(unit, '')}"


def _plain(value: object, unit: str) -> str:
    if isinstance(value, list | tuple):
        return " x ".join(_plain(each, unit) for each in value)
    if not isinstance(value, int | float):
        return str(value)
    if unit == "share":
        return f"{100 * value:.0f}"
    return f"{value:.0f}" if unit == "ml" else f"{value:.2f}".rstrip("0").rstrip(".")
