"""Wilcoxon's signed-rank test of paired differences, exact for small samples also where differences tie."""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

# Largest number of differences with an exact p-value, as in scipy; sums of sign assignments are exact in a float64.
EXACT_CASES = 50


def signed_rank(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the two-sided p-value of paired differences, (n,), and their rank-biserial correlation.

    Zeros are dropped and equal magnitudes share their mean rank. Above `EXACT_CASES` differences the p-value is that
    of a normal distribution, corrected for ties. Without any difference it is 1, and the correlation 0.
    """
    nonzero = differences[differences != 0]
    n = len(nonzero)
    if not n:
        return 1.0, 0.0
    _, place, ties = np.unique(np.abs(nonzero), return_inverse=True, return_counts=True)
    # Twice the ranks: the mean of ranks that tie may end in one half.
    ranks = (2 * np.cumsum(ties) - ties + 1)[place]
    total, positive = n * (n + 1), int(ranks[nonzero > 0].sum())
    correlation = (2 * positive - total) / total
    if n <= EXACT_CASES:
        return min(1.0, 2 * _probability_up_to(min(positive, total - positive), ranks)), correlation
    variance = total * (2 * n + 1) / 24 - float((ties.astype(float) ** 3 - ties).sum()) / 48
    return erfc(abs(positive / 2 - total / 4) / sqrt(2 * variance)), correlation


def _probability_up_to(largest: int, ranks: NDArray[np.int64]) -> float:
    """Return the probability that ranks with random signs have a positive sum of at most `largest`."""
    ways = np.zeros(largest + 1)  # number of sign assignments of the ranks so far, by their positive sum
    ways[0] = 1
    for rank in ranks:
        if rank <= largest:
            ways[rank:] += ways[: largest + 1 - rank].copy()
    return float(ways.sum() / 2.0 ** len(ranks))
