"""Regimes of missing modalities (docs/training.md): which scans exist, which a step uses, and training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import small_runs
from anymri.data.case import Case
from anymri.errors import AnymriWarning, CohortError, ConfigurationError
from anymri.inference.segmenter import Segmenter
from anymri.modalities import MODALITIES, SUBSETS, Subset
from anymri.training.cohort.find import prepare
from anymri.training.cohort.missing import fixed_subset, incomplete, random_subset
from anymri.training.engine import train
from anymri.training.patches import batches
from anymri.training.validation import subsets_for
from small_runs import Recorder, same, weights

TINY = (
    *("network.width=2", "crop=16", "window_overlap=0", "steps_per_epoch=1", "batch_size=2", "epochs=1"),
    *("validation_share=0.2", "parts.validation_epochs=null", "whole.validation_epochs=1", "augmentation=none"),
)
RATES = {"T1": 0.7, "T1c": 0.2, "T2": 0.4, "FLAIR": 0.0}


def configured(place, *assignments, data=None):
    return small_runs.configured(data or place / "cohort", place / "cache", *assignments, base=TINY)


def prepared(place, *assignments, data=None):
    return prepare(configured(place, *assignments, data=data), lambda *_: None)


def drawn(place, *assignments, steps=12, data=None):
    """Return the cohort and the batches of the first steps of a training."""
    configuration = configured(place, *assignments, data=data)
    cohort = prepare(configuration, lambda *_: None)
    stage = configuration.recipe.stages[0]
    return cohort, list(batches(cohort.training, stage, 0, 0, steps, 0))


def with_missing_scans(place, folder, *suffixes):
    """Return a copy of the cohort in which one scan of each of the first cases is missing."""
    data = Path(shutil.copytree(place / "cohort", folder / "incomplete"))
    for case, suffix in zip(sorted(data.iterdir()), suffixes, strict=False):
        next(case.glob(f"*-{suffix}.nii.gz")).unlink()
    return data


def subset_list(place, folder):
    """Write a CSV list with a different subset for each case; return the file and case -> subset."""
    names = sorted(path.name for path in (place / "cohort").iterdir())
    listed = dict(zip(names, SUBSETS[3:], strict=False))
    text = "case,subset\n" + "".join(f"{name},{subset}\n" for name, subset in listed.items())
    (folder / "subsets.csv").write_text(text)
    return folder / "subsets.csv", listed


REGIMES = {
    "uniform": ["subsets=uniform"],
    "bernoulli": ["subsets=bernoulli"],
    "targeted": ["subsets={FLAIR: 0.35}"],
    "by size": ["subsets=by_size"],
    "complete": ["subsets=all"],
    "fixed": ["subsets=fixed"],
    "listed": ["subsets=LIST"],
    "incomplete": ["missing=0.4"],
    "imbalanced": ["missing={T1: 0.7, T1c: 0.2, T2: 0.4}", "subsets=all"],
    "dedicated": ["subsets=T1c+FLAIR"],
}


@pytest.mark.parametrize("regime", REGIMES)
def test_each_regime_trains_and_resumes_exactly(place, tmp_path, regime):
    file, _ = subset_list(place, tmp_path)
    configuration = configured(place, *(text.replace("LIST", str(file)) for text in REGIMES[regime]))
    callback = Recorder()
    train(configuration, tmp_path / "whole", callback)
    assert len(callback.rows) == 2 and all(np.isfinite(row["loss/total"]) for row in callback.rows)
    if regime in ("fixed", "imbalanced", "dedicated"):
        with pytest.raises(KeyboardInterrupt):
            train(configuration, tmp_path / "parts", Recorder(stop_after=1))
        train(configuration, tmp_path / "parts", Recorder(), resume=True)
        assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_case_keeps_its_fixed_subset_in_all_stages(place):
    cohort, seen = drawn(place, "subsets=fixed")
    kept = {tuple(case.kept.tolist()) for case in cohort.training}
    assert {tuple(row) for batch in seen for row in batch.available.tolist()} == kept
    assert all(batch.present.all() for batch in seen)  # losses may use the others
    assert all(case.kept is None for case in cohort.validation)
    again, other = (prepared(place, "subsets=fixed", f"seed={seed}") for seed in (0, 1))
    assert again.split() == cohort.split() and other.split()["kept"] != cohort.split()["kept"]


def test_fixed_subsets_are_even_over_many_cases_and_follow_from_the_name():
    cases = [case_named(f"C{number}") for number in range(1500)]
    subsets = [fixed_subset(case, 0) for case in cases]
    counts = [subsets.count(subset) for subset in SUBSETS]
    assert min(counts) > 65 and max(counts) < 140
    assert subsets[7] == fixed_subset(case_named("C7"), 0)
    assert any(fixed_subset(case, 0) != fixed_subset(case, 1) for case in cases[:9])


def test_a_case_keeps_the_subset_of_the_list(place, tmp_path):
    file, listed = subset_list(place, tmp_path)
    cohort, seen = drawn(place, f"subsets={file}")
    for case in cohort.training:
        assert case.kept.tolist() == list(listed[case.name].flags)
    allowed = {listed[case.name].flags for case in cohort.training}
    assert {tuple(row) for batch in seen for row in batch.available.tolist()} == allowed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,subset\nPHANTOM-00000-000,T1\n", "training case PHANTOM-.* has no subset in the list"),
        ("case,subset\nNOBODY,T1\n", "NOBODY"),
        ("case,subset\nPHANTOM-00000-000,PET\n", "line 2.*PET"),
        ("PHANTOM-00000-000,T1\n", "columns"),
        ("case,mask\nPHANTOM-00000-000,[True]\n", "four flags"),
        ('case,mask\nPHANTOM-00000-000,"[False, False, False, False]"\n', "four flags"),
        ("case\nPHANTOM-00000-000\nPHANTOM-00000-000\n", "listed twice"),
        ("case,subset\n", "is empty"),
        ("\xff", "is not text in UTF-8"),
    ],
)
def test_a_list_of_subsets_that_does_not_fit_is_refused(place, tmp_path, text, message):
    (tmp_path / "subsets.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(CohortError, match=message):
        prepared(place, f"subsets={tmp_path / 'subsets.csv'}")


def test_a_case_without_any_scan_of_its_listed_subset_is_refused(place, tmp_path):
    file, _ = subset_list(place, tmp_path)
    file.write_text("case,subset\n" + "".join(f"PHANTOM-0000{i}-000,T1\n" for i in range(6)))
    data = with_missing_scans(place, tmp_path, "t1n")
    with pytest.raises(CohortError, match=r"subset of case PHANTOM-00000-000 is T1, .* only T1c\+T2\+FLAIR"):
        prepared(place, f"subsets={file}", "validation_share=0", data=data)


def test_scans_are_removed_at_their_rates_independently_of_other_cases():
    cases = [case_named(f"C{number}") for number in range(2000)]
    left = [incomplete(case, RATES, 0) for case in cases]
    missing = [np.mean([m not in case.scans for case in left]) for m in MODALITIES]
    np.testing.assert_allclose(missing, list(RATES.values()), atol=0.035)
    assert left[5].scans == incomplete(case_named("C5"), RATES, 0).scans
    assert any(a.scans != incomplete(b, RATES, 1).scans for a, b in zip(left[:9], cases, strict=False))


def test_each_case_keeps_at_least_one_scan():
    left = [incomplete(case_named(f"C{number}"), dict.fromkeys(MODALITIES, 1.0), 0) for number in range(200)]
    assert {tuple(case.scans) for case in left} == {(m,) for m in MODALITIES}


def test_removed_scans_are_equivalent_to_files_that_do_not_exist(place, tmp_path):
    """The training is the same, bit for bit: removed scans change neither boxes, losses nor the choice of weights."""
    with_rates = configured(place, "missing={T1: 0.5, T2: 0.5}", "whole.validation_epochs=1")
    train(with_rates, tmp_path / "rates", Recorder())
    split = json.loads((tmp_path / "rates" / "split.json").read_text())
    data = Path(shutil.copytree(place / "cohort", tmp_path / "files"))
    suffixes = {"T1": "t1n", "T2": "t2w"}
    removed = 0
    for name, scans in (split["train"] | split["validation"]).items():
        for modality, suffix in suffixes.items():
            if modality not in Subset.parse(scans):
                (data / name / f"{name}-{suffix}.nii.gz").unlink()
                removed += 1
    assert 0 < removed < 12
    train(configured(place, "whole.validation_epochs=1", data=data), tmp_path / "gone", Recorder())
    assert same(weights(tmp_path / "rates"), weights(tmp_path / "gone"))
    assert split == json.loads((tmp_path / "gone" / "split.json").read_text())


def test_a_dedicated_network_uses_its_subset_alone(place, tmp_path):
    data = with_missing_scans(place, tmp_path, "t1n", "t2w")
    cohort, seen = drawn(place, "subsets=flair+T1ce", data=data)
    flags = list(Subset.parse("T1c+FLAIR").flags)
    for batch in seen:
        assert batch.present.tolist() == batch.available.tolist() == [flags, flags]
    assert not cohort.unused and all(case.present.tolist() == flags for case in cohort.training + cohort.validation)


def test_a_dedicated_network_is_validated_on_its_subset_alone(place, tmp_path, monkeypatch):
    validated_on = []
    predict = Segmenter.predict

    def spy(segmenter, prepared, subsets):
        validated_on.append(subsets)
        return predict(segmenter, prepared, subsets)

    monkeypatch.setattr(Segmenter, "predict", spy)
    train(configured(place, "subsets=T1c+FLAIR"), tmp_path / "run", Recorder())
    assert validated_on == [[Subset.parse("T1c+FLAIR")]]


def test_a_dedicated_stage_among_others_uses_its_subset_alone(place):
    configuration = configured(place, "whole.subsets=T2")
    cohort = prepare(configuration, lambda *_: None)
    first, last = ([next(batches(cohort.training, stage, 0, 0, 1, 0))] for stage in configuration.recipe.stages)
    assert first[0].present.all()
    assert last[0].present.tolist() == last[0].available.tolist() == [list(Subset.parse("T2").flags)] * 2


def test_cases_that_a_dedicated_network_cannot_use_are_unused_with_a_warning(place, tmp_path):
    data = with_missing_scans(place, tmp_path, "t1c", "t1n")
    with pytest.warns(AnymriWarning, match=r"one of T1c\+FLAIR is missing: 1 \(PHANTOM-00000-000\)"):
        cohort = prepared(place, "subsets=T1c+FLAIR", data=data)
    assert len(cohort.training) + len(cohort.validation) == 5
    assert cohort.split()["unused"] == ["PHANTOM-00000-000"]


def test_a_modality_that_no_case_has_gives_a_warning_or_an_error_where_it_is_required(place, tmp_path):
    data = with_missing_scans(place, tmp_path)
    for file in data.glob("*/*-t1n.nii.gz"):
        file.unlink()
    with pytest.warns(AnymriWarning, match="No training case has a scan of T1: the network learns nothing of it"):
        train(configured(place, data=data), tmp_path / "run", Recorder())
    with pytest.raises(CohortError, match="No case remains to train on with T1"):
        train(configured(place, "subsets=T1", data=data), tmp_path / "other", Recorder())
    assert not (tmp_path / "other").exists()
    prepared(place, "subsets=T2", data=data)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("subsets=sometimes", "bernoulli"),
        ("subsets={PET: 0.5}", "PET"),
        ("subsets={T1: 1.5}", "less than or equal to 1"),
        ("missing=2", "missing"),
        ("missing={PET: 0.5}", "PET"),
    ],
)
def test_an_unknown_regime_is_refused_with_the_known_ones(place, assignment, message):
    with pytest.raises(ConfigurationError, match=message):
        configured(place, assignment)


def test_stages_with_different_lists_are_refused(place):
    with pytest.raises(ConfigurationError, match="different lists"):
        configured(place, "parts.subsets=a.csv", "whole.subsets=fixed")


def test_aliases_of_modalities_are_stored_in_one_form(place):
    recipe = configured(place, "subsets=t2f t1ce", "missing.t1n=0.5", "missing.T2=0.1").recipe
    assert recipe.stages[0].subsets == "T1c+FLAIR" and recipe.missing == {"T1": 0.5, "T2": 0.1}


def test_a_case_that_keeps_one_subset_is_validated_on_that(place):
    case = prepared(place, "subsets=fixed").training[0]
    kept = [Subset.of(m for m, flag in zip(MODALITIES, case.kept.tolist(), strict=True) if flag)]
    assert subsets_for(case, 0, 2) == kept


def test_targeted_dropout_drops_only_its_modalities_at_their_rates():
    rng = np.random.default_rng(0)
    drawn = np.array([random_subset(np.ones(4, bool), rng, {"T1c": 0.5, "FLAIR": 0.25}) for _ in range(2000)])
    np.testing.assert_allclose(drawn.mean(0), [1, 0.5, 1, 0.75], atol=0.04)
    alone = np.array([False, False, False, True])
    assert all((random_subset(alone, rng, {"FLAIR": 1.0}) == alone).all() for _ in range(9))


def case_named(name):
    return Case(name, {m: Path(f"{m}.nii.gz") for m in MODALITIES})


def test_subsets_are_drawn_evenly_from_what_exists():
    rng = np.random.default_rng(0)
    present = np.array([True, False, True, True])
    drawn = [tuple(random_subset(present, rng).tolist()) for _ in range(1400)]
    counts = {subset: drawn.count(subset) for subset in set(drawn)}
    assert len(counts) == 7 and not any(subset[1] for subset in counts)
    assert max(counts.values()) < 1.4 * min(counts.values())


@pytest.mark.parametrize(("how", "count"), [("by_size", 14), ("by_size_reference", 13)])
def test_subsets_by_size_are_incomplete_and_their_sizes_even(how, count):
    rng = np.random.default_rng(0)
    drawn = [tuple(random_subset(np.ones(4, bool), rng, how).tolist()) for _ in range(1500)]
    sizes = np.bincount([sum(subset) for subset in drawn], minlength=5)
    assert len(set(drawn)) == count and sizes[0] == sizes[4] == 0 and sizes[1:4].min() > 420
    missing_t1c = (True, False, True, True)
    assert (missing_t1c in drawn) == (how == "by_size")


def test_the_full_subset_is_drawn_by_size_or_all_and_alone_by_all():
    rng, present = np.random.default_rng(0), np.ones(4, bool)
    drawn = [tuple(random_subset(present, rng, "by_size_or_all").tolist()) for _ in range(1500)]
    assert len(set(drawn)) == 15 and np.bincount([sum(subset) for subset in drawn])[1:].min() > 310
    assert random_subset(np.array([True, False, True, True]), rng, "all").tolist() == [True, False, True, True]


def test_bernoulli_keeps_each_scan_with_probability_half_and_at_least_one():
    rng = np.random.default_rng(0)
    present = np.array([True, True, False, False])
    drawn = [tuple(random_subset(present, rng, "bernoulli").tolist()) for _ in range(1600)]
    counts = [drawn.count((first, second, False, False)) for first, second in ((1, 1), (1, 0), (0, 1))]
    assert sum(counts) == 1600
    # Where none is kept, one of the two is: 1/4 + 1/8 of the draws.
    np.testing.assert_allclose(counts, [400, 600, 600], atol=80)


def test_a_single_scan_is_always_drawn():
    alone = np.array([False, True, False, False])
    for how in ("uniform", "bernoulli", "all", "by_size", "by_size_reference", "by_size_or_all"):
        assert (random_subset(alone, np.random.default_rng(0), how) == alone).all()
