"""Statistics of metrics over cases: intervals, paired tests, effect sizes, contribution of each modality.

Cases are the unit: they are resampled and paired, never the rows of one case. Rows of `metrics.csv` that are not scored
are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anymri.analysis.signed_rank import signed_rank
from anymri.errors import RunError
from anymri.evaluation.rows import SCORED
from anymri.modalities import MODALITIES, SUBSETS, Subset
from anymri.text import count

RESAMPLES = 2000
CONFIDENCE = 0.95
SIGNIFICANT = 0.05
# With fewer cases, no two-sided signed-rank test can reach `SIGNIFICANT`: its smallest p-value is 2 / 2^cases.
FEWEST_CASES = 6
_SEED = 0
# Number of decimals of differences: sums of floats make equal values differ in the last digits.
DECIMALS = 9
_SUBSET_NAMES = [str(subset) for subset in SUBSETS]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Mean over cases and its percentile bootstrap interval, in the unit of the metric."""

    value: float
    low: float
    high: float
    cases: int


@dataclass(frozen=True)
class PairedTest:
    """Paired test of two systems on the same cases.

    first, second  names of the systems
    group, region  what was compared: a subset, or all subsets with one number of modalities
    cases          number of cases that both have
    difference     mean of first minus second
    p_value        Wilcoxon's signed-rank test, two-sided, uncorrected
    p_adjusted     p-value after Holm's correction over all tests of one call
    rank_biserial  matched-pairs rank-biserial correlation: 1 if first is larger in every case, -1 if in none
    cohens_dz      mean difference over its standard deviation; NaN if that is 0
    """

    first: str
    second: str
    group: str
    region: str
    cases: int
    difference: float
    p_value: float
    p_adjusted: float
    rank_biserial: float
    cohens_dz: float


def case_table(metrics: pd.DataFrame, metric: str, region: str) -> pd.DataFrame:
    """Return the scored values of a region in rows of `metrics.csv`: one row per case, one column per subset."""
    rows = metrics[(metrics["metric"] == metric) & (metrics["region"] == region) & (metrics["status"] == SCORED)]
    return rows.pivot(index="case", columns="subset", values="value").sort_index()


def case_values(table: pd.DataFrame, region: str, subsets: Iterable[str]) -> pd.Series:
    """Return case -> mean over `subsets`, for the cases of a `case_table` that are scored on all of them.

    region  a region; or a modality: then only subsets without it count, because given modalities are not reconstructed
    """
    means = _means(table.reindex(columns=_SUBSET_NAMES).to_numpy(dtype=float), region, subsets)
    scored = ~np.isnan(means)
    return pd.Series(means[scored], index=table.index[scored])


def bootstrap_mean(values: Floats, resamples: int = RESAMPLES) -> Interval:
    """Return the mean of the values of n cases, (n,), with its interval; NaN without cases."""
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    return _interval(np.asarray(values, dtype=np.float64).tobytes(), resamples)


# A page shows the same interval in tables and in plots.
@lru_cache(maxsize=4096)
def _interval(values: bytes, resamples: int) -> Interval:
    """Return the mean of float64 numbers with its interval."""
    numbers = np.frombuffer(values)
    low, high = _limits(_weights(len(numbers), resamples) @ numbers)
    return Interval(float(numbers.mean()), float(low), float(high), len(numbers))


def caution(cases: int) -> list[str]:
    """Return the sentence that statistics of so few cases need; none from `FEWEST_CASES` on."""
    if cases >= FEWEST_CASES:
        return []
    return [
        f"Caution: statistics of {count(cases, 'case')}. Intervals of fewer than {FEWEST_CASES} cases are too narrow, "
        f"and no paired test of them reaches p < {SIGNIFICANT}."
    ]


def by_number_of_modalities(subsets: Iterable[str]) -> dict[str, list[str]]:
    """Return `1 modality`, `2 modalities`, ... -> the subsets with that number of modalities."""
    groups: dict[str, list[str]] = {}
    for name in sorted(subsets, key=lambda name: len(Subset.parse(name))):
        count = len(Subset.parse(name))
        groups.setdefault(f"{count} modalit{'y' if count == 1 else 'ies'}", []).append(name)
    return groups


def compare_systems(
    tables: Mapping[tuple[str, str], pd.DataFrame], groups: Mapping[str, Iterable[str]]
) -> list[PairedTest]:
    """Compare every two systems in every group of subsets and region, paired over the cases that both have.

    tables  system, region -> `case_table`; every system has all regions
    groups  name -> subsets whose mean is compared

    Holm's correction covers all tests of this call. Raises `RunError` if two systems do not share any case.
    """
    systems, regions = (list(dict.fromkeys(names)) for names in zip(*tables, strict=True))
    _check_shared({name: set().union(*(tables[name, region].index for region in regions)) for name in systems})
    pairs = list(combinations(systems, 2))
    first, second = np.triu_indices(len(systems), 1)
    tests: list[PairedTest] = []
    for region in regions:
        values = _aligned([tables[name, region] for name in systems])
        for group, subsets in groups.items():
            means = _means(values, region, subsets)
            tests += _paired(pairs, group, region, means[first] - means[second])
    adjusted = holm([test.p_value for test in tests])
    return [PairedTest(**{**vars(test), "p_adjusted": p}) for test, p in zip(tests, adjusted, strict=True)]


def holm(p_values: list[float]) -> list[float]:
    """Return the p-values of one family after Holm's step-down adjustment."""
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def modality_contributions(table: pd.DataFrame) -> dict[str, Interval]:
    """Return the Shapley value of each modality: its mean gain over all orders in which the four can be added.

    The value of a subset is the mean over the cases of a `case_table` that are scored on all 15 subsets, and that of no
    modality is 0; so the four Shapley values add up to the mean with all modalities.
    """
    values = table.reindex(columns=[str(subset) for subset in SUBSETS]).dropna()
    by_case = values.to_numpy(dtype=float)
    weights = shapley_weights()
    return {modality: bootstrap_mean(by_case @ weights[modality]) for modality in MODALITIES}


def shapley_weights() -> dict[str, Floats]:
    """Return modality -> weights of `SUBSETS` in its Shapley value, (15,)."""
    n = len(MODALITIES)
    weights = {modality: np.zeros(len(SUBSETS)) for modality in MODALITIES}
    for i, subset in enumerate(SUBSETS):
        size = len(subset)
        for modality in MODALITIES:
            if modality in subset:
                weights[modality][i] = factorial(size - 1) * factorial(n - size) / factorial(n)
            else:
                weights[modality][i] = -factorial(size) * factorial(n - size - 1) / factorial(n)
    return weights


def _aligned(tables: Sequence[pd.DataFrame]) -> Floats:
    """Return the values of `case_table`s, (table, case, subset of `SUBSETS`), for the cases of any; NaN without one."""
    cases = pd.Index(sorted(set().union(*(table.index for table in tables))))
    return np.stack([table.reindex(index=cases, columns=_SUBSET_NAMES).to_numpy(dtype=float) for table in tables])


def _means(values: Floats, region: str, subsets: Iterable[str]) -> Floats:
    """Return the means over `subsets` of values (..., subset of `SUBSETS`), NaN unless all have one; see `case_values`.

    NaN too if no subset counts.
    """
    wanted = [_SUBSET_NAMES.index(subset) for subset in subsets if region not in Subset.parse(subset)]
    return values[..., wanted].mean(axis=-1) if wanted else np.full(values.shape[:-1], np.nan)


def _paired(pairs: Sequence[tuple[str, str]], group: str, region: str, differences: Floats) -> Iterator[PairedTest]:
    """Yield the test of each pair of systems that share a case.

    differences  (pairs, cases), NaN for a case that one of the two does not have
    """
    differences = differences[:, ~np.isnan(differences).all(axis=0)]
    both = ~np.isnan(differences)
    found, cases = np.where(both, differences.round(DECIMALS), 0), both.sum(axis=1)
    p_values, biserial = signed_rank(found)
    means = found.sum(axis=1) / np.maximum(cases, 1)
    squares = np.where(both, found - means[:, None], 0) ** 2
    deviations = np.sqrt(squares.sum(axis=1) / np.maximum(cases - 1, 1))
    # Equal differences have a standard deviation that is not exactly 0.
    differ = found.max(axis=1, where=both, initial=-np.inf) > found.min(axis=1, where=both, initial=np.inf)
    for i, (first, second) in enumerate(pairs):
        if cases[i]:
            p, mean = float(p_values[i]), float(means[i])
            dz = mean / float(deviations[i]) if differ[i] else float("nan")
            yield PairedTest(first, second, group, region, int(cases[i]), mean, p, p, float(biserial[i]), dz)


def _check_shared(cases: Mapping[str, set[str]]) -> None:
    for first, second in combinations(cases, 2):
        if not cases[first] & cases[second]:
            raise RunError(
                f"{first} and {second} do not have any evaluated case in common.",
                "Paired statistics need the same cases: evaluate both on one cohort.",
            )


@lru_cache(maxsize=2)
def _weights(cases: int, resamples: int) -> Floats:
    """Return the weight of each case in the mean of each resample, (resamples, cases); the same every time."""
    drawn = np.random.default_rng(_SEED).integers(0, cases, (resamples, cases))
    drawn += cases * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape) / cases


def _limits(means: Floats) -> Floats:
    outside = (1 - CONFIDENCE) / 2
    return np.asarray(np.quantile(means, [outside, 1 - outside]))
