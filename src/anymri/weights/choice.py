"""Choice among the installed weights, and cautions about weights for the scans at hand."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from statistics import median

from anymri.errors import InputWarning, WeightsError
from anymri.modalities import Subset
from anymri.text import listed
from anymri.weights.card import WeightsCard
from anymri.weights.catalogue import Installed, installed

# Median Dice of WT over the tables of a card below which a subset finds too little of a tumour.
LOWEST_DICE = 0.6


@dataclass(frozen=True)
class Choice:
    """Installed weights that were chosen.

    weights  the weights
    why      the reason, as a part of a sentence
    """

    weights: Installed
    why: str


def choose(subset: Subset | None = None) -> Choice:
    """Return the installed weights for a subset: added ones before starters, then those with the highest mean Dice.

    subset  modalities at hand; None for weights that are used for any subset

    Weights that did not see the subset in training, or that want scans in the space of an atlas, are not considered.
    Those without a table for the subset come last, and equal ones are taken by name. Raises `WeightsError` if there
    are none; an `InputWarning` names weights whose card cannot be read.
    """
    every = installed()
    if not every:
        raise WeightsError(
            "No weights are installed, and none are named.",
            "Name some with --weights, or install some: anymri weights add FILE-OR-URL",
        )
    cards = [(each, card) for each in every if (card := _card(each)) is not None]
    fitting = [(each, card) for each, card in cards if card.space == "scan" and card.saw(subset)]
    if not fitting:
        raise WeightsError(
            f"None of the installed weights is for {subset or 'all subsets'}.",
            "Name weights with --weights, or add some: anymri weights add FILE-OR-URL",
        )
    first, _ = fitting[0]
    group = [(each, card) for each, card in fitting if each.is_starter == first.is_starter]
    dice = {each.name: card.mean_dice(subset) for each, card in group}
    chosen, card = min(group, key=lambda pair: (dice[pair[0].name] is None, -(dice[pair[0].name] or 0), pair[0].name))
    return Choice(chosen, _why(chosen, card, len(group), subset))


def _card(weights: Installed) -> WeightsCard | None:
    """Return the card of weights; None with an `InputWarning` if it cannot be read."""
    try:
        return weights.card()
    except WeightsError as error:
        warnings.warn(f"The installed weights {weights.name} are not considered: {error.what}", InputWarning, 3)
        return None


def _why(chosen: Installed, card: WeightsCard, count: int, subset: Subset | None) -> str:
    """Return the reason for a choice among `count` starters, or among as many that the user added."""
    kind = "weights of anymri" if chosen.is_starter else "added weights"
    dice = card.mean_dice(subset)
    rank = "only" if count == 1 else f"{'first by name' if dice is None else 'best'} of {count}"
    known = "" if dice is None else f", mean Dice {100 * dice:.1f} % on {card.measured_on(subset)}"
    return f"the {rank} {kind} for {subset or 'all subsets'}{known}"


def caution(card: WeightsCard, name: str, subset: Subset | None = None) -> None:
    """Issue an `InputWarning` for each thing that weights are known not to have seen in training, or to do badly.

    name    name of the weights
    subset  modalities at hand; None for a cohort, in which they differ
    """
    if card.synthetic_only:
        warnings.warn(
            f"The weights {name} were trained on synthetic images only: check every mask of a patient by eye.",
            InputWarning,
            stacklevel=3,
        )
    if not card.saw(subset):
        other = "other subsets" if subset is None else str(subset)
        seen = listed(card.subsets or [], 4)
        warnings.warn(
            f"The weights {name} saw only {seen} in training: expect errors with {other}.", InputWarning, stacklevel=3
        )
    measured = [] if subset is None else [table.dice.get(str(subset), {}).get("WT") for table in card.tables]
    found = [dice for dice in measured if dice is not None]
    if found and median(found) < LOWEST_DICE:
        warnings.warn(
            f"From {subset} the weights {name} find little of a tumour: the Dice of WT is {min(found):.2f} to "
            f"{max(found):.2f} on the data of their card. Add another scan if there is one.",
            InputWarning,
            stacklevel=3,
        )
