"""Wilcoxon's signed-rank test against scipy and against the enumeration of all signs."""

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from anymri.analysis.signed_rank import EXACT_CASES, signed_rank


@pytest.mark.parametrize("n", [1, 2, 5, 13, 14, 25, EXACT_CASES])
def test_p_value_without_ties_is_scipys_exact_one(n):
    for seed in range(5):
        differences = np.random.default_rng(seed).normal(0.2, 1, n)
        assert signed_rank(differences)[0] == pytest.approx(wilcoxon(differences, method="exact").pvalue, rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_p_value_with_ties_is_the_share_of_all_signs(values):
    differences = np.array(values, dtype=float)
    nonzero = differences[differences != 0]
    ranks = rankdata(np.abs(nonzero))
    sums = np.array([ranks[np.array(signs, dtype=bool)].sum() for signs in product((0, 1), repeat=len(nonzero))])
    found = ranks[nonzero > 0].sum()
    assert signed_rank(differences)[0] == pytest.approx(min(1, 2 * min((sums <= found).mean(), (sums >= found).mean())))


def test_p_value_with_ties_is_that_of_scipys_permutations():
    differences = np.array([1.0, 1, -1, 2, 2, 2, -3, 4, 4, 4])
    assert signed_rank(differences)[0] == pytest.approx(wilcoxon(differences).pvalue)


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_large_samples_use_the_normal_distribution_corrected_for_ties(digits):
    differences = np.random.default_rng(0).normal(0.1, 1, 300).round(digits)
    expected = wilcoxon(differences, method="asymptotic")
    p_value, correlation = signed_rank(differences)
    assert p_value == pytest.approx(expected.pvalue, rel=1e-9)
    ranks = rankdata(np.abs(differences[differences != 0]))
    assert abs(correlation) == pytest.approx(1 - 2 * expected.statistic / ranks.sum())


@pytest.mark.parametrize("differences", [[], [0.0, 0.0]])
def test_without_differences_p_is_1_and_the_effect_0(differences):
    assert signed_rank(np.array(differences)) == (1, 0)


@pytest.mark.parametrize("n", [0, 1, 9, EXACT_CASES, EXACT_CASES + 1, 200])
@pytest.mark.parametrize("digits", [0, 9])
def test_tests_at_once_equal_each_alone(n, digits):
    differences = np.random.default_rng(n).normal(0.2, 1, (3, 2, n)).round(digits)
    p_values, correlations = signed_rank(differences)
    for test in np.ndindex(3, 2):
        assert signed_rank(differences[test]) == (p_values[test], correlations[test])


def test_exact_test_with_ties_takes_milliseconds():
    differences = np.repeat([1.0, -1, 2, 3, 4], [2, 1, 3, 4, 3])
    start = time.perf_counter()
    for _ in range(50):
        signed_rank(differences)
    assert time.perf_counter() - start < 1
