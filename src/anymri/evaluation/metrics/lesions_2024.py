"""Lesion-wise metrics by the glioma rules of BraTS 2024. Source: protocol sheet, section 9.

As in 2023, with a dilation and threshold for each region, and three steps before the matching: predicted components are
grouped by dilation as the truth is, small predicted groups are removed, and groups of one tissue that touch the same
group of another become one. The final numbers of the groups matter for `legacy_hd95` only.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from anymri.evaluation.metrics.axes import Axes
from anymri.evaluation.metrics.lesions import NEIGHBOURS_18, Groups, LesionMetrics, Rules, dilate, group, match
from anymri.evaluation.metrics.overlap import Mask
from anymri.evaluation.metrics.surface import Gap, surfel_surface

_PENALTY_MM = 337
_TOLERANCES_MM = (0.5, 1.0)

# The organisers' code intends 5 for SNFH too, but a misspelt name keeps it at 3.
RULES_2024: Mapping[str, Rules] = {
    "WT": Rules(3, 20, _PENALTY_MM, _TOLERANCES_MM),
    "TC": Rules(3, 20, _PENALTY_MM, _TOLERANCES_MM),
    "NETC": Rules(5, 20, _PENALTY_MM, _TOLERANCES_MM),
    "SNFH": Rules(3, 20, _PENALTY_MM, _TOLERANCES_MM),
    "ET": Rules(3, 10, _PENALTY_MM, _TOLERANCES_MM),
    "RC": Rules(5, 20, _PENALTY_MM, _TOLERANCES_MM),
}
# Tissue -> partners whose groups merge the groups of the tissue, one partner after the other.
_PARTNERS = {"NETC": ("ET", "RC"), "ET": ("NETC", "RC"), "RC": ("ET", "NETC"), "SNFH": ("ET", "RC", "NETC")}


def score_2024(prediction: Mapping[str, Mask], truth: Mapping[str, Mask], axes: Axes) -> dict[str, LesionMetrics]:
    """Return region -> metrics.

    prediction, truth  region -> (X, Y, Z) bool with a margin of 6 voxels, unless the image ends there
    axes               axes of the voxels, (3, 3) mm
    """
    lesions = {region: group(truth[region], rules.dilation) for region, rules in RULES_2024.items()}
    # The threshold of lesions is in mm³, but that of predicted groups in voxels, as in the organisers' code.
    predicted = {
        region: _without_small(group(prediction[region], rules.dilation), int(rules.threshold_mm3))
        for region, rules in RULES_2024.items()
    }
    return {
        region: match(_merged(predicted, region), _merged(lesions, region), axes, rules)
        for region, rules in RULES_2024.items()
    }


def legacy_hd95(metrics: LesionMetrics, region: str, axes: Axes) -> float:
    """Return the HD95 of the whole region, mm, as the organisers' code prints it; both empty 0, one empty the penalty.

    Their code takes the surface of group numbers where a mask is expected, so that the inside of the second group is
    surface too.
    """
    surfaces = [surfel_surface(groups, axes) for groups in (metrics.predicted, metrics.lesions)]
    if not all(len(surface.points) for surface in surfaces):
        return 0.0 if not any(len(surface.points) for surface in surfaces) else RULES_2024[region].penalty_mm
    return Gap.between(*surfaces).area_percentile()


def _without_small(groups: Groups, threshold: int) -> Groups:
    """Return the groups of more than `threshold` voxels, with their numbers."""
    sizes = np.bincount(groups.ravel())
    return np.where(sizes > threshold, np.arange(len(sizes), dtype=groups.dtype), 0)[groups]


def _merged(groups: Mapping[str, Groups], tissue: str) -> Groups:
    """Return the groups of a tissue after merging, numbered without gaps; all partners are taken as they were before.

    Regions that are not a tissue stay as they are.
    """
    merged = groups[tissue]
    if tissue not in _PARTNERS:
        return merged
    for partner in _PARTNERS[tissue]:
        merged = _merge(merged, groups[partner])
    ranks = np.cumsum(np.bincount(merged.ravel(), minlength=1)[1:] > 0)
    return np.concatenate([[0], ranks]).astype(merged.dtype)[merged]


def _merge(groups: Groups, partner: Groups) -> Groups:
    """Return the groups with those merged whose lowest-numbered touching partner is the same.

    All groups that touch a partner get numbers above the others, in the order of their partners in the sorted pairs.
    Groups touch if they share a face or an edge. In a chain group-partner-group-partner-group the middle group is
    merged by its lowest partner only.
    """
    contacts = np.argwhere((groups > 0) & dilate(partner > 0, 1))
    around = np.argwhere(NEIGHBOURS_18)  # offsets -1..1 as indices 0..2 of the padded partner
    touched = np.pad(partner, 1)[tuple(np.moveaxis(contacts[:, None] + around, -1, 0))]
    count = int(partner.max(initial=0)) + 1
    coded = groups[tuple(contacts.T)].astype(np.int64)[:, None] * count + touched
    pairs = np.stack(np.divmod(np.unique(coded[touched > 0]), count), axis=1)
    if len(pairs) < 2:  # the organisers' code does not merge a single pair
        return groups
    names = np.arange(int(groups.max()) + 1, dtype=groups.dtype)
    by_partner: dict[int, int] = {}
    lowest: dict[int, int] = {}
    for number, other in pairs.tolist():
        by_partner.setdefault(other, len(names) + len(by_partner))
        lowest.setdefault(number, other)
    for number, other in lowest.items():
        names[number] = by_partner[other]
    return names[groups]
