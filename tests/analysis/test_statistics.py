"""Statistics over cases: intervals, paired tests, contributions of modalities."""

import time
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from anymri.analysis import statistics
from anymri.analysis.comparison import read_comparison
from anymri.analysis.statistics import bootstrap_mean, case_table, compare_systems, holm, modality_contributions
from anymri.analysis.statistics_tables import statistics_grids
from anymri.errors import RunError
from anymri.evaluation.rows import COLUMNS
from anymri.modalities import MODALITIES, SUBSETS
from made_evaluations import write_evaluation

NAMES = [str(subset) for subset in SUBSETS]
BY_COUNT = statistics.by_number_of_modalities(NAMES)


def rows_of(values):
    """Return rows of Dice for WT from (case, subset) -> value."""
    rows = [(case, subset, "WT", "dice", value, "scored") for (case, subset), value in values.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def random_rows(seed, cases=12, shift=0.0):
    rng = np.random.default_rng(seed)
    return rows_of({(f"c{c}", s): rng.uniform(0, 0.5) + shift for c in range(cases) for s in NAMES})


def test_the_mean_is_in_its_interval_and_more_cases_narrow_it():
    rng = np.random.default_rng(0)
    few, many = bootstrap_mean(rng.normal(size=10)), bootstrap_mean(rng.normal(size=1000))
    assert few.low < few.value < few.high and few.cases == 10
    assert many.high - many.low < (few.high - few.low) / 3
    # the normal interval, which holds for so many cases
    assert (many.high - many.low) / 2 == pytest.approx(1.96 / np.sqrt(1000), rel=0.15)
    assert np.isnan(bootstrap_mean(np.empty(0)).value)


def test_the_interval_is_the_same_every_time():
    values = np.arange(7.0)
    assert bootstrap_mean(values) == bootstrap_mean(values)


def test_statistics_of_fewer_cases_than_a_test_can_use_need_a_caution():
    few = statistics.FEWEST_CASES - 1
    smallest = [wilcoxon(np.arange(1.0, cases + 1)).pvalue for cases in (few, few + 1)]
    assert smallest[0] > statistics.SIGNIFICANT > smallest[1]  # all cases favour one system
    assert f"statistics of {few} cases" in statistics.caution(few)[0] and "of 1 case." in statistics.caution(1)[0]
    assert not statistics.caution(few + 1)


def test_subsets_are_grouped_by_size():
    assert [(name, len(group)) for name, group in BY_COUNT.items()] == [
        ("1 modality", 4),
        ("2 modalities", 6),
        ("3 modalities", 4),
        ("4 modalities", 1),
    ]


def compared(systems, groups):
    """Compare the Dice of WT."""
    return compare_systems({(name, "WT"): case_table(rows, "dice", "WT") for name, rows in systems.items()}, groups)


def test_holm_steps_down_and_is_monotonic():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_is_between_no_correction_and_bonferroni(p_values):
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1, p * len(p_values) + 1e-12)
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert sorted(adjusted) == [adjusted[i] for i in order]


def test_a_system_that_is_better_in_every_case_is_significantly_so():
    a, b = random_rows(1, shift=0.4), random_rows(2)
    tests = compared({"a": a, "b": b}, BY_COUNT)
    assert [test.group for test in tests] == list(BY_COUNT) and {test.cases for test in tests} == {12}
    one = tests[1]
    by_case = [
        frame[frame["subset"].isin(BY_COUNT["2 modalities"])].groupby("case")["value"].mean() for frame in (a, b)
    ]
    assert one.difference == pytest.approx((by_case[0] - by_case[1]).mean())
    assert one.p_value == pytest.approx(wilcoxon(by_case[0], by_case[1]).pvalue)
    assert one.p_adjusted <= 4 * one.p_value and one.p_adjusted < 0.05
    assert one.rank_biserial == 1 and one.cohens_dz > 2


def test_swapping_the_systems_only_changes_the_sign():
    a, b = random_rows(1), random_rows(2)
    (there,) = compared({"a": a, "b": b}, {"all": NAMES})
    (back,) = compared({"b": b, "a": a}, {"all": NAMES})
    assert there.difference == -back.difference and there.p_value == back.p_value
    assert there.rank_biserial == -back.rank_biserial and there.cohens_dz == -back.cohens_dz


def test_the_order_of_rows_does_not_change_statistics():
    a, b = random_rows(1), random_rows(2)
    mixed = b.sample(frac=1, random_state=0)
    assert compared({"a": a, "b": b}, BY_COUNT) == compared({"a": a, "b": mixed}, BY_COUNT)
    assert modality_contributions(case_table(b, "dice", "WT")) == modality_contributions(
        case_table(mixed, "dice", "WT")
    )


def test_only_common_cases_are_paired():
    a, b = random_rows(1, cases=12), random_rows(2, cases=8)
    (test,) = compared({"a": a, "b": b}, {"all": NAMES})
    assert test.cases == 8
    same = a[a["case"].isin(b["case"])]
    (expected,) = compared({"a": same, "b": b}, {"all": NAMES})
    assert test == expected


def test_pairs_among_several_systems_are_tested_as_alone_on_their_common_cases():
    systems = {"a": random_rows(1, cases=12), "b": random_rows(2, cases=70), "c": random_rows(3, cases=60)}
    systems["b"] = systems["b"][systems["b"]["case"] != "c3"]
    found = compared(systems, BY_COUNT)
    assert {(test.first, test.second): test.cases for test in found} == {("a", "b"): 11, ("a", "c"): 12, ("b", "c"): 59}
    for first, second in ("ab", "ac", "bc"):
        alone = compared({first: systems[first], second: systems[second]}, BY_COUNT)
        among = [test for test in found if (test.first, test.second) == (first, second)]
        for one, other in zip(alone, among, strict=True):
            for name in ("group", "cases", "p_value", "rank_biserial"):
                assert getattr(one, name) == getattr(other, name)
            assert one.difference == pytest.approx(other.difference, rel=1e-9, abs=1e-12)
            assert one.cohens_dz == pytest.approx(other.cohens_dz, rel=1e-9, abs=1e-12)


def test_equal_systems_do_not_differ():
    a = random_rows(1)
    (test,) = compared({"a": a, "b": a.copy()}, {"all": NAMES})
    assert (test.p_value, test.difference, test.rank_biserial) == (1, 0, 0) and np.isnan(test.cohens_dz)


def test_systems_without_a_common_case_are_refused():
    b = random_rows(2)
    b["case"] = "other " + b["case"]
    with pytest.raises(RunError, match="any evaluated case in common"):
        compared({"a": random_rows(1), "b": b}, {"all": NAMES})


def test_contributions_are_mean_gains_over_all_orders():
    metrics = random_rows(3, cases=5)
    worth = metrics.groupby("subset")["value"].mean()
    found = modality_contributions(case_table(metrics, "dice", "WT"))
    for modality in MODALITIES:
        gains = []
        for order in permutations(MODALITIES):
            before = [m for m in MODALITIES if m in order[: order.index(modality)]]
            with_it = [m for m in MODALITIES if m in before or m == modality]
            gains.append(worth["+".join(with_it)] - (worth["+".join(before)] if before else 0))
        assert found[modality].value == pytest.approx(np.mean(gains))
        assert found[modality].low <= found[modality].value <= found[modality].high
    assert sum(each.value for each in found.values()) == pytest.approx(worth[NAMES[-1]])


def test_contributions_use_only_cases_with_all_subsets():
    metrics = random_rows(3, cases=5)
    metrics.loc[(metrics["case"] == "c0") & (metrics["subset"] == "T1"), ["value", "status"]] = [None, "T1 missing"]
    found = modality_contributions(case_table(metrics, "dice", "WT"))
    assert {each.cases for each in found.values()} == {4}
    assert found == modality_contributions(case_table(metrics[metrics["case"] != "c0"], "dice", "WT"))


def test_differences_by_rounding_are_no_differences():
    a = random_rows(1)
    b = a.assign(value=a["value"] * (1 + 1e-15) + 1e-16)
    assert (a["value"] != b["value"]).any()
    for test in compared({"a": a, "b": b}, BY_COUNT):
        assert (test.p_value, test.difference, test.rank_biserial) == (1, 0, 0) and np.isnan(test.cohens_dz)


def test_equal_differences_tie_and_have_no_effect_size():
    a = random_rows(1)
    (test,) = compared({"a": a, "b": a.assign(value=a["value"] + 0.1)}, {"all": NAMES})
    assert test.p_value == pytest.approx(2 / 2**12) and test.rank_biserial == -1 and np.isnan(test.cohens_dz)


def test_statistics_of_ten_systems_take_seconds():
    systems = {f"s{k}": random_rows(k, cases=200) for k in range(10)}
    start = time.perf_counter()
    assert len(compared(systems, {name: [name] for name in NAMES})) == 45 * 15
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(("cases", "warned"), [(5, True), (6, False)])
def test_tables_of_few_cases_have_a_caution_and_those_of_one_system_no_column_for_it(tmp_path, cases, warned):
    folders = [write_evaluation(tmp_path / name, name, seed, cases=cases) for seed, name in enumerate("ab")]
    for count in (1, 2):
        grids = statistics_grids(read_comparison(folders[:count], "dice"))
        assert len(grids) == 1 + count
        for grid in grids:
            assert any("Caution" in note for note in grid.notes) is warned
            assert all(len(row) == len(grid.columns) for row in grid.rows)
            assert ("system" in grid.first) is (count == 2 and "systems" not in grid.first)
