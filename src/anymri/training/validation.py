"""Whole volumes of the held-out cases through the network, to choose the best weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anymri.data.cache import CachedCase
from anymri.evaluation.metrics import dice
from anymri.inference.windows import Volume, Windows, predict
from anymri.modalities import MODALITIES, SUBSETS, Subset
from anymri.regions import region_mask, to_label_map
from anymri.systems.base import System


@dataclass
class Validation:
    """dice: mean by region, and `mean` of WT, TC and ET, over cases and their subsets; loss: mean segmentation loss."""

    dice: dict[str, float]
    loss: float


def subsets_for(case: CachedCase, number: int, cases: int) -> list[Subset]:
    """The subsets that case `number` of `cases` is judged on: all 15 dealt out in table order, as in the protocol's
    lists (section 5), several a case where there are fewer than 15 cases; cut to the scans that exist. A case that
    keeps one subset is judged on that."""
    if case.kept is not None:
        return [Subset(tuple(m for m, kept in zip(MODALITIES, case.kept.tolist(), strict=True) if kept))]
    hand = ceil(len(SUBSETS) / cases)
    dealt = [SUBSETS[(number * hand + i) % len(SUBSETS)] for i in range(hand)]
    existing = [m for m, exists in zip(MODALITIES, case.present.tolist(), strict=True) if exists]
    cut = [tuple(m for m in subset if m in existing) for subset in dealt]
    return list(dict.fromkeys(Subset(names) for names in cut if names))


def validate(
    system: System[Any],
    cases: Sequence[CachedCase],
    windows: Windows,
    losses: Callable[[Tensor, Tensor], dict[str, Tensor]],
    single: Subset | None = None,
) -> Validation:
    """Dice and segmentation loss of `system` (left in evaluation mode) over the cases, each on its subsets, or all on a
    `single` one."""
    system.eval()
    scores: dict[str, list[float]] = {"WT": [], "TC": [], "ET": []}
    values = []
    for number, case in enumerate(cases):
        images, labels = case.read_patch((0, 0, 0), case.shape)
        subsets = [single] if single else subsets_for(case, number, len(cases))
        volume = Volume(images[None], case.present[None], case.background, case.origin)
        for probabilities in predict(system, volume, subsets, windows):
            named = losses(probabilities[None], labels[None].long())
            values.append(float(torch.stack(list(named.values())).sum()))
            classes = to_label_map(probabilities, system.scores).numpy()
            for region, found in scores.items():
                found.append(dice(region_mask(classes, region), region_mask(labels.numpy(), region)))
    means = {region: float(np.mean(found)) if found else float("nan") for region, found in scores.items()}
    return Validation(means | {"mean": float(np.mean(list(means.values())))}, float(np.mean(values)))
