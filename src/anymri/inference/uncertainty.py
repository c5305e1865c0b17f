"""Uncertainty of a segmentation per voxel: entropy of one prediction, and disagreement of several.

Both are defined on the nested regions WT, TC and ET, so that networks that predict regions and networks that predict
classes can be compared and combined. They describe the networks, not the chance that a voxel is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.regions import ED, ET, NCR, OutputKind

Probabilities = NDArray[np.floating[Any]]


def region_probabilities(probabilities: Probabilities, kind: OutputKind) -> NDArray[np.float32]:
    """Return the probabilities of WT, TC and ET, (3, X, Y, Z) float32, that of an inner region at most the outer one's.

    probabilities  (K, X, Y, Z) in 0..1. `classes`: one channel per class of `anymri.regions.CLASSES`, of which regions
                   are sums. `regions`: WT, TC, ET and perhaps RC, of which an inner one counts only inside the outer
                   one, as in the label map
    """
    if kind == "classes":
        enhancing = probabilities[ET].astype(np.float32)
        core = enhancing + probabilities[NCR]
        return np.stack([core + probabilities[ED], core, enhancing])
    return np.minimum.accumulate(probabilities[:3].astype(np.float32), axis=0)


def entropy(regions: Probabilities) -> NDArray[np.float16]:
    """Return the entropy of the four tissues of a voxel, (X, Y, Z) float16 in 0..1.

    The tissues are background, oedema, necrotic core and enhancing tumour; their probabilities are 1 - WT, WT - TC,
    TC - ET and ET. The entropy is -sum(p log p) / log 4: 0 where one tissue is certain, 0.5 where two are equally
    likely, 1 where all four are. A resection cavity counts as background.

    regions  (3, X, Y, Z) probabilities of WT, TC and ET, see `region_probabilities`
    """
    whole, core, enhancing = np.minimum.accumulate(np.clip(regions, 0, 1).astype(np.float32), axis=0)
    total = np.zeros(whole.shape, dtype=np.float32)
    for tissue in (1 - whole, whole - core, core - enhancing, enhancing):
        # p log p is 0 for a tissue that is impossible.
        total -= tissue * np.log(tissue, where=tissue > 0, out=np.zeros_like(tissue))
    return _half(total / np.log(4))


def disagreement(members: Iterable[Probabilities]) -> NDArray[np.float16]:
    """Return how much several predictions of one case disagree, (X, Y, Z) float16 in 0..1.

    It is twice the standard deviation over the predictions of the probability of the region, WT, TC or ET, in which
    it is largest: 0 where all agree, 1 where half of them are certain of a region and half of its absence.

    members  (3, X, Y, Z) probabilities of WT, TC and ET, one per prediction: of several weights, or of flipped scans.
             They are consumed one by one, so that an iterator needs no memory for all of them

    Raises `ValueError` for fewer than two predictions.
    """
    count = 0
    mean: NDArray[np.float32] = np.zeros(1, dtype=np.float32)
    squares: NDArray[np.float32] = mean
    for member in members:
        values = member.astype(np.float32)
        count += 1
        change = values - mean
        mean = mean + change / np.float32(count)
        squares = squares + change * (values - mean)
    if count < 2:
        raise ValueError(f"disagreement needs two predictions or more, not {count}")
    return _half(2 * np.sqrt(squares.max(axis=0) / np.float32(count)))


def _half(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return values in half precision, clipped to 0..1."""
    clipped: NDArray[np.float16] = np.clip(values, 0, 1).astype(np.float16)
    return clipped
