"""Lesion-wise scores by the glioma rules of BraTS 2024. Source: protocol sheet, section 9.

As in 2023, with a dilation and threshold for each region, and three steps before the matching: predicted pieces are
grouped by dilation as the truth is, small predicted groups are removed, and groups of one tissue that touch the same
group of another become one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from anymri.evaluation.lesions import NEIGHBOURS_18, Groups, LesionScores, Rules, dilate, group, match
from anymri.evaluation.overlap import Mask

_PENALTY_MM = 337
_TOLERANCES_MM = (0.5, 1.0)

# The organisers' code means 5 for SNFH too, but a misspelt name leaves it at 3.
RULES_2024: Mapping[str, Rules] = {
    "WT": Rules(3, 20, _PENALTY_MM, _TOLERANCES_MM),
    "TC": Rules(3, 20, _PENALTY_MM, _TOLERANCES_MM),
    "NETC": Rules(5, 20, _PENALTY_MM, _TOLERANCES_MM),
    "SNFH": Rules(3, 20, _PENALTY_MM, _TOLERANCES_MM),
    "ET": Rules(3, 10, _PENALTY_MM, _TOLERANCES_MM),
    "RC": Rules(5, 20, _PENALTY_MM, _TOLERANCES_MM),
}
# Whose groups join the groups of a tissue, one partner after the other.
_PARTNERS = {"NETC": ("ET", "RC"), "ET": ("NETC", "RC"), "RC": ("ET", "NETC"), "SNFH": ("ET", "RC", "NETC")}


def score_2024(
    prediction: Mapping[str, Mask], truth: Mapping[str, Mask], spacing_mm: Sequence[float]
) -> dict[str, LesionScores]:
    """Region -> its scores. The masks need a margin of 6 voxels, unless the image ends there."""
    lesions = {region: group(truth[region], rules.dilation) for region, rules in RULES_2024.items()}
    # Voxels, where the threshold of lesions is in mm³: the organisers' code counts so.
    predicted = {
        region: _without_small(group(prediction[region], rules.dilation), int(rules.threshold_mm3))
        for region, rules in RULES_2024.items()
    }
    return {
        region: match(_merged(predicted, region), _merged(lesions, region), spacing_mm, rules)
        for region, rules in RULES_2024.items()
    }


def _without_small(groups: Groups, threshold: int) -> Groups:
    """Groups of more than `threshold` voxels, with their numbers."""
    sizes = np.bincount(groups.ravel())
    return np.where(sizes > threshold, np.arange(len(sizes), dtype=groups.dtype), 0)[groups]


def _merged(groups: Mapping[str, Groups], tissue: str) -> Groups:
    """The groups of a tissue after the merging; partners are looked at as they were before any."""
    own = groups[tissue]
    for partner in _PARTNERS.get(tissue, ()):
        own = _merge(own, groups[partner])
    return own


def _merge(own: Groups, partner: Groups) -> Groups:
    """Own groups whose lowest-numbered touching partner is the same become one, under the lowest of their numbers.

    Groups touch that share a face or an edge. In a chain own-partner-own-partner-own the middle group goes with its
    lowest partner only.
    """
    contacts = np.argwhere((own > 0) & dilate(partner > 0, 1))
    around = np.argwhere(NEIGHBOURS_18)  # offsets -1..1 as indices 0..2 of the padded partner
    touched = np.pad(partner, 1)[tuple(np.moveaxis(contacts[:, None] + around, -1, 0))]
    none = int(partner.max(initial=0)) + 1
    lowest = np.full(int(own.max(initial=0)) + 1, none)
    np.minimum.at(lowest, own[tuple(contacts.T)], np.where(touched > 0, touched, none).min(axis=1, initial=none))
    names = np.arange(len(lowest), dtype=own.dtype)
    joined: dict[int, int] = {}
    for number in np.flatnonzero(lowest < none).tolist():
        names[number] = joined.setdefault(int(lowest[number]), number)
    return names[own]
