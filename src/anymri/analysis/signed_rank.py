"""Wilcoxon's signed-rank test of paired differences, exact for small samples also where differences tie."""

from __future__ import annotations

from math import erfc, sqrt

import numpy as np
from numpy.typing import NDArray

# Largest number of differences with an exact p-value, as in scipy; sums of sign assignments are exact in a float64.
EXACT_CASES = 50

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def signed_rank(differences: Floats) -> tuple[Floats, Floats]:
    """Return the two-sided p-values of tests of n paired differences, (..., n), and their rank-biserial correlations.

    Zeros are dropped and equal magnitudes share their mean rank. Above `EXACT_CASES` differences the p-value is that
    of a normal distribution, corrected for ties. Without any difference it is 1, and the correlation 0.

    returns  two arrays of shape (...)
    """
    order = np.argsort(np.abs(differences), axis=-1)
    ascending = np.take_along_axis(differences, order, axis=-1)
    n = np.count_nonzero(ascending, axis=-1)
    number, firsts, lasts = _ties(np.abs(ascending))
    # Twice the ranks: the mean of ranks that tie may end in one half. Zeros come first and have no rank.
    zeros = (differences.shape[-1] - n)[..., None]
    ranks = np.where(ascending != 0, (firsts + lasts + 2)[number] - 2 * zeros, 0)
    total, positive = n * (n + 1), np.sum(ranks * (ascending > 0), axis=-1)
    ties = np.sum(((lasts - firsts + 1) ** 2 - 1)[number] * (ascending != 0), axis=-1)
    p_values = np.ones(n.shape)
    for test in np.ndindex(n.shape):
        count, largest = int(n[test]), int(total[test])
        if 0 < count <= EXACT_CASES:
            smaller = min(int(positive[test]), largest - int(positive[test]))
            p_values[test] = min(1.0, 2 * _probability_up_to(smaller, ranks[test][-count:]))
        elif count:
            variance = largest * (2 * count + 1) / 24 - int(ties[test]) / 48
            p_values[test] = erfc(abs(int(positive[test]) / 2 - largest / 4) / sqrt(2 * variance))
    return p_values, (2 * positive - total) / np.maximum(total, 1)


def _ties(ascending: Floats) -> tuple[Integers, Integers, Integers]:
    """Return the number of the tie of each of the ascending values, (..., n), and the ties' first and last positions.

    Ties are numbered through all tests; a value that equals no other is a tie of one.
    """
    begins = np.ones(ascending.shape, dtype=bool)
    begins[..., 1:] = ascending[..., 1:] != ascending[..., :-1]
    starts = np.flatnonzero(begins)
    number = np.cumsum(begins).reshape(begins.shape) - 1
    firsts = starts % max(ascending.shape[-1], 1)
    return number, firsts, firsts + np.diff(starts, append=begins.size) - 1


def _probability_up_to(largest: int, ranks: Integers) -> float:
    """Return the probability that ranks with random signs have a positive sum of at most `largest`."""
    ways = np.zeros(largest + 1)  # number of sign assignments of the ranks so far, by their positive sum
    ways[0] = 1
    for rank in ranks:
        if rank <= largest:
            ways[rank:] += ways[: largest + 1 - rank].copy()
    return float(ways.sum() / 2.0 ** len(ranks))
