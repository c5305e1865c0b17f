"""Validation: whole volumes of the validation cases through the network, to choose the best weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch

from anymri.data.cache import CachedCase
from anymri.evaluation.metrics import dice
from anymri.inference.segmenter import Segmenter
from anymri.modalities import SUBSETS, Subset
from anymri.regions import region_mask
from anymri.systems.spec import SegmentationLosses


@dataclass
class Validation:
    """Means over cases and their subsets in one validation.

    dice  Dice by region in 0..1, and `mean` of WT, TC and ET
    loss  segmentation loss
    """

    dice: dict[str, float]
    loss: float


def subsets_for(case: CachedCase, number: int, cases: int) -> list[Subset]:
    """Return the subsets that case `number` of `cases` is validated on.

    All 15 are dealt out in table order, as in the protocol's lists (section 5), several per case where there are fewer
    than 15 cases, and cut to the modalities that exist. A case that keeps one subset is validated on that.
    """
    if case.kept is not None:
        return [Subset.from_flags(case.kept.tolist())]
    hand = ceil(len(SUBSETS) / cases)
    dealt = [SUBSETS[(number * hand + i) % len(SUBSETS)] for i in range(hand)]
    existing = Subset.from_flags(case.present.tolist())
    cut = [tuple(m for m in subset if m in existing) for subset in dealt]
    return list(dict.fromkeys(Subset(names) for names in cut if names))


def validate(
    segmenter: Segmenter,
    cases: Sequence[CachedCase],
    losses: SegmentationLosses,
    single: Subset | None = None,
) -> Validation:
    """Return Dice and segmentation loss over the cases; the system stays in evaluation mode.

    losses  segmentation losses of the system
    single  the only subset to validate on; by default each case has its own, see `subsets_for`
    """
    segmenter.system.eval()
    dice_of: dict[str, list[float]] = {"WT": [], "TC": [], "ET": []}
    values = []
    for number, cached in enumerate(cases):
        case = cached.read()
        assert case.classes is not None
        subsets = [single] if single else subsets_for(cached, number, len(cases))
        for prediction in segmenter.predict(case, subsets):
            named = losses(prediction.probabilities[None], case.classes[None].long())
            values.append(float(torch.stack(list(named.values())).sum()))
            classes = prediction.label_map()
            for region, found in dice_of.items():
                found.append(dice(region_mask(classes, region), region_mask(case.classes.numpy(), region)))
    means = {region: float(np.mean(found)) if found else float("nan") for region, found in dice_of.items()}
    return Validation(means | {"mean": float(np.mean(list(means.values())))}, float(np.mean(values)))
