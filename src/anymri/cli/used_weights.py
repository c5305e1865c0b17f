"""Weights that a command uses: those that the user names, or the best installed ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anymri.cli.console import console
from anymri.modalities import Subset
from anymri.provenance import name_of_weights


def weights_for(named: Sequence[Path] | None, subset: Subset | None) -> list[Path]:
    """Return the weights that the user names, or else the best installed ones; print which, and what they are.

    subset  modalities at hand; None for a cohort, in which they differ

    Raises `WeightsError` if there are none. An `InputWarning` names what they have not seen in training.
    """
    from anymri.weights.choice import caution, choose
    from anymri.weights.locate import find_weights
    from anymri.weights.store import read_card

    used = list(named or [])
    if not used:
        choice = choose(subset)
        console.print(f"Weights: {choice.weights.name} ({choice.why})", soft_wrap=True)
        used = [choice.weights.file]
    for path in used:
        file = find_weights(path).absolute()
        card, name = read_card(file), name_of_weights(file)
        if card.summary:
            console.print(f"{name}: {card.summary}", soft_wrap=True)
        caution(card, name, subset)
    return used
