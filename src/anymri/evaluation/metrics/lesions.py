"""Lesion-wise Dice and HD95 by the rules of BraTS 2023. Source: protocol sheet, section 9.

A lesion is a group of true components that touch once they are dilated. All predicted components that touch the dilated
lesion are its match. Missed lesions and components without a lesion count with Dice 0 and a penalty for HD95; lesions
up to a threshold volume are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.evaluation.metrics.axes import Axes, voxel_mm3
from anymri.evaluation.metrics.overlap import Mask, dice
from anymri.evaluation.metrics.pair import Box, Pair

Groups = NDArray[np.integer[Any]]

NEIGHBOURS_18 = np.abs(np.indices((3, 3, 3)) - 1).sum(axis=0) <= 2
NEIGHBOURS_26 = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Rules:
    """Rules of a challenge.

    dilation        number of times that a lesion is dilated
    threshold_mm3   true lesions up to this volume are ignored
    penalty_mm      HD95 of a missed lesion or a false positive
    tolerances_mm   tolerances of the surface Dice, where the challenge computes it
    """

    dilation: int
    threshold_mm3: float
    penalty_mm: float
    tolerances_mm: tuple[float, ...] = ()


GLI_2023 = Rules(dilation=3, threshold_mm3=50, penalty_mm=374)  # Sub-Saharan Africa and paediatric tumours too
MEN_2023 = Rules(dilation=1, threshold_mm3=50, penalty_mm=374)
MET_2023 = Rules(dilation=1, threshold_mm3=2, penalty_mm=374)


@dataclass(frozen=True)
class LesionMetrics:
    """Lesion-wise metrics of one region of one case.

    dice, hd95_mm    means over lesions and false positives; 1 and 0 if there is neither
    found, missed    number of lesions with and without a match
    false_positives  number of predicted components (2024: groups) that match no lesion, ignored lesions included
    predicted        (X, Y, Z) number of the predicted component (2024: of the group, if it is not small), 0 outside
    lesions          (X, Y, Z) number of the true lesion, 0 outside
    nsd              tolerance in mm -> surface Dice by unweighted voxels, where the rules have tolerances
    """

    dice: float
    hd95_mm: float
    found: int
    missed: int
    false_positives: int
    predicted: Groups
    lesions: Groups
    nsd: dict[float, float] = field(default_factory=dict)


def score_2023(prediction: Mask, truth: Mask, axes: Axes, rules: Rules) -> LesionMetrics:
    """Return the metrics of one region.

    prediction, truth  (X, Y, Z) bool with a margin of `rules.dilation` voxels, unless the image ends there
    axes               axes of the voxels, (3, 3) mm
    """
    from scipy.ndimage import label

    components: Groups = label(prediction, NEIGHBOURS_26)[0]
    return match(components, group(truth, rules.dilation), axes, rules)


def group(mask: Mask, dilation: int) -> Groups:
    """Return the number of the dilated component that each voxel of a mask (X, Y, Z) belongs to, 0 outside the mask.

    Components are numbered in the order of their first voxels, last axis fastest.
    """
    from scipy.ndimage import label

    numbers: Groups = label(dilate(mask, dilation), NEIGHBOURS_26)[0]
    return numbers * mask


def dilate(mask: Mask, times: int) -> Mask:
    """Return a mask (X, Y, Z) dilated `times` times with its 18 neighbours."""
    from scipy.ndimage import binary_dilation

    dilated: Mask = binary_dilation(mask, NEIGHBOURS_18, iterations=times)
    return dilated


def match(predicted: Groups, lesions: Groups, axes: Axes, rules: Rules) -> LesionMetrics:
    """Match predicted groups with lesions and return the metrics over all lesions.

    predicted, lesions  (X, Y, Z) numbers of groups, 0 outside; numbers may have gaps
    axes                axes of the voxels, (3, 3) mm
    """
    from scipy.ndimage import find_objects

    boxes = find_objects(predicted)
    is_free = np.zeros(len(boxes) + 1, dtype=bool)
    is_free[np.unique(predicted)] = True
    is_free[0] = False
    dices, distances, nsds = [], [], []
    missed = 0
    where: Sequence[Box | None] = find_objects(lesions)  # None for a number that no voxel has
    for number, found in enumerate(where, start=1):
        if found is None:
            continue
        near = _grown(found, rules.dilation, lesions.shape)
        touched = np.unique(predicted[near][dilate(lesions[near] == number, rules.dilation)])
        touched = touched[touched > 0]
        is_free[touched] = False
        # Rounded, because headers give 0.99999994 mm and a lesion exactly at the threshold is ignored.
        if round(np.count_nonzero(lesions[found] == number) * voxel_mm3(axes), 2) <= rules.threshold_mm3:
            continue
        if not len(touched):
            missed += 1
            continue
        box = _union([found, *(boxes[n - 1] for n in touched)])
        pair = Pair(np.isin(predicted[box], touched), lesions[box] == number, axes)
        dices.append(dice(pair.prediction, pair.truth))
        distances.append(pair.surfel_gap.area_percentile())
        if rules.tolerances_mm:
            nsds.append([pair.voxel_gap.share_within(tolerance) for tolerance in rules.tolerances_mm])
    false_positives = int(is_free.sum())
    count = len(dices) + missed + false_positives
    penalties = rules.penalty_mm * (missed + false_positives)
    return LesionMetrics(
        dice=sum(dices) / count if count else 1.0,
        hd95_mm=(sum(distances) + penalties) / count if count else 0.0,
        found=len(dices),
        missed=missed,
        false_positives=false_positives,
        predicted=predicted,
        lesions=lesions,
        nsd={t: sum(row[i] for row in nsds) / count if count else 1.0 for i, t in enumerate(rules.tolerances_mm)},
    )


def _grown(box: Box, margin: int, shape: tuple[int, ...]) -> Box:
    return tuple(slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in zip(box, shape, strict=True))


def _union(boxes: Sequence[Box]) -> Box:
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
