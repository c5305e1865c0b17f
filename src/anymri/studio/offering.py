"""The weights that the studio offers, as the page describes them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from anymri.errors import AnymriError
from anymri.systems.blueprint import blueprint
from anymri.weights.card import WeightsCard
from anymri.weights.choice import choose
from anymri.weights.store import read_card

_NONE = (
    "No weights are installed, so that scans can be shown but not segmented.",
    "Install some with `anymri weights add FILE-OR-URL`, or name some: anymri studio --weights FILE",
)


def describe(weights: Mapping[str, Path], named: bool) -> dict[str, Any]:
    """Return what the page says about weights.

    weights         name -> file, in the order of the page
    named           whether the user named them, so that the first one is used first; otherwise the best is

    weights         those that can be used: `name`, `system`, `reconstructs`, `description`
    weights_in_use  name of those that are used first; None without any
    problem         why there are none, as `what` and `fix`; None if there are some
    scheme          label scheme of the weights that are used first
    """
    found: dict[str, WeightsCard] = {}
    reconstructs: dict[str, bool] = {}
    problem = dict(zip(("what", "fix"), _NONE, strict=True))
    for name, file in weights.items():
        try:
            card = read_card(file)
            reconstructs[name] = bool(blueprint(card.system, card.network).reconstructs)
        except AnymriError as error:
            problem = {"what": error.what, "fix": error.fix}
            continue
        if card.space == "scan":
            found[name] = card
    first = _first(weights, found, named)
    return {
        "weights": [
            {"name": name, "system": card.system, "reconstructs": reconstructs[name], "description": card.summary}
            for name, card in found.items()
        ],
        "weights_in_use": first,
        "problem": None if found else problem,
        "scheme": None if first is None else found[first].label_scheme,
    }


def _first(weights: Mapping[str, Path], found: Mapping[str, WeightsCard], named: bool) -> str | None:
    """Return the weights that are used first."""
    if not named:
        with suppress(AnymriError):
            best = choose().weights.file.absolute()
            return next(name for name in found if weights[name].absolute() == best)
    return next(iter(found), None)
