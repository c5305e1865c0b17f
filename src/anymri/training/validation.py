"""Validation: the validation cases through the network, to choose the best weights. Rules: `ValidationRules`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymri.data.cache import CachedCase
from anymri.inference.segmenter import Segmenter
from anymri.inference.windows import VolumePrediction
from anymri.modalities import SUBSETS, Subset
from anymri.regions import REGIONS, region_mask
from anymri.systems.recipes.stage import Stage
from anymri.systems.recipes.validation import ValidationRules
from anymri.systems.spec import SegmentationLosses
from anymri.training.cohort.missing import random_subset
from anymri.training.sampling import random_start

_REGIONS = ("WT", "TC", "ET")


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
    rules: ValidationRules,
    stage: Stage,
    seed: int,
) -> Validation:
    """Return Dice and segmentation loss over the cases; the system stays in evaluation mode.

    losses  segmentation losses of the system
    stage   stage of the training, for its only subset, where it has one, and its patches
    seed    seed of what is random in this validation
    """
    segmenter.system.eval()
    if rules.window_values:
        segmenter.windows = segmenter.windows._replace(values=rules.window_values)
    values, agreements = [], []
    device = segmenter.device.type
    half = torch.float16 if device == "cuda" else torch.bfloat16
    with torch.autocast(device, half, enabled=rules.half_precision):
        for prediction, classes in _predictions(segmenter, cases, rules, stage, seed):
            supervised = prediction.logits if rules.loss_of == "logits" else prediction.probabilities
            assert supervised is not None
            named = losses(supervised[None].float(), classes[None].long())
            values.append(float(torch.stack(list(named.values())).sum()))
            agreements.append([_agreement(prediction, classes, region, rules.dice) for region in _REGIONS])
    table = np.array(agreements, dtype=float)
    overlap, size = np.moveaxis(table.sum(0, keepdims=True) if rules.dice == "pooled" else table, 2, 0)
    means = np.divide(overlap, size, out=np.ones_like(size), where=size > 0).mean(0)
    dice = dict(zip(_REGIONS, means.tolist(), strict=True))
    return Validation(dice | {"mean": float(means.mean())}, float(np.mean(values)))


def _predictions(
    segmenter: Segmenter, cases: Sequence[CachedCase], rules: ValidationRules, stage: Stage, seed: int
) -> Iterator[tuple[VolumePrediction, Tensor]]:
    """Yield each prediction with its true classes, (X, Y, Z) uint8."""
    # The authors' validation patches have nothing around them, because they are not augmented.
    stage = stage.model_copy(update={"augmented_from": None})
    for number in range(rules.patches or len(cases)):
        cached = cases[number % len(cases)]
        rng = np.random.default_rng([seed, number])
        case = cached.read_patch(random_start(cached, stage, rng), stage.crop) if rules.patches else cached.read()
        assert case.classes is not None
        if stage.single_subset:
            subsets = [stage.single_subset]
        elif rules.subsets == "in_turn" or cached.kept is not None:
            subsets = subsets_for(cached, number % len(cases), len(cases))
        else:
            drawn = random_subset(case.present.numpy(), rng, rules.subsets.removesuffix("_and_all"))
            subsets = [Subset.from_flags(drawn.tolist())]
            if rules.subsets == "bernoulli_and_all":
                subsets.append(case.subset)
        for prediction in segmenter.predict(case, subsets):
            yield prediction, case.classes


def _agreement(prediction: VolumePrediction, classes: Tensor, region: str, rule: str) -> tuple[float, float]:
    """Return numerator and denominator of the Dice of one region."""
    truth = region_mask(classes.numpy(), region)
    if rule == "probabilities":
        probability = _probability(prediction, region)
        return 2 * float(probability[truth].sum()), float(probability.sum() + np.count_nonzero(truth)) + 1
    found = (
        region_mask(prediction.label_map(), region)
        if rule == "label_maps"
        else np.asarray(_probability(prediction, region) > 0.5)
    )
    return 2.0 * np.count_nonzero(found & truth), float(np.count_nonzero(found)) + np.count_nonzero(truth)


def _probability(prediction: VolumePrediction, region: str) -> NDArray[np.float64]:
    """Return the probability of a region, (X, Y, Z)."""
    chosen = [_REGIONS.index(region)] if prediction.kind == "regions" else sorted(REGIONS[region])
    probability: NDArray[np.float64] = prediction.probabilities[chosen].sum(0, dtype=torch.float64).numpy()
    return probability
