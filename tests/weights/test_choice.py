"""Choice among installed weights, and cautions about what they have not seen."""

import warnings

import pytest

from anymri.errors import InputWarning, WeightsError
from anymri.modalities import SUBSETS, Subset
from anymri.weights.choice import caution, choose
from untrained import card, write_weights

FLAIR = Subset.parse("FLAIR")


def table(**dice):
    """Return tables of a card: subset with _ for + -> Dice of all its regions."""
    values = {name.replace("_", "+"): dict.fromkeys(("WT", "TC", "ET"), value) for name, value in dice.items()}
    return [{"data": "phantoms", "cases": 3, "dice": values}]


def add(folder, **cards):
    """Write weights into a folder: name -> changed fields of the card."""
    for name, changes in cards.items():
        write_weights(folder / f"{name}.safetensors", **changes)


def test_added_weights_are_taken_before_better_starters(places):
    add(places.starters, starter={"tables": table(FLAIR=0.9)})
    assert choose(FLAIR).weights.name == "starter" and "the only weights of anymri" in choose(FLAIR).why
    add(places.user, mine={"tables": table(FLAIR=0.5)})
    assert choose(FLAIR).weights.name == "mine"


def test_the_highest_mean_dice_for_the_subset_is_taken(places):
    add(places.user, a={}, b={"tables": table(FLAIR=0.6, T1=0.8)}, c={"tables": table(FLAIR=0.7, T1=0.5)})
    choice = choose(FLAIR)
    assert (
        choice.weights.name == "c"
        and choice.why == "the best of 3 added weights for FLAIR, mean Dice 70.0 % on phantoms"
    )
    assert choose(Subset.parse("T1")).weights.name == "b"
    unknown = choose(Subset.parse("T2"))
    assert unknown.weights.name == "a" and unknown.why == "the first by name of 3 added weights for T2"


def test_for_a_cohort_the_mean_over_all_subsets_counts(places):
    every = {str(subset).replace("+", "_"): 0.6 for subset in SUBSETS}
    add(places.user, a={"tables": table(FLAIR=0.9)}, b={"tables": table(**every)})
    assert choose().weights.name == "b" and "for all subsets, mean Dice 60.0 % on phantoms" in choose().why


def test_weights_that_cannot_take_the_scans_are_not_considered(places):
    add(places.user, a={"subsets": ["T1c"]}, b={"space": "atlas"})
    with pytest.raises(WeightsError, match="None of the installed weights is for FLAIR"):
        choose(FLAIR)
    assert choose(Subset.parse("t1ce")).weights.name == "a"
    add(places.starters, starter={})
    assert choose(FLAIR).weights.name == choose().weights.name == "starter"


def test_without_installed_weights_the_error_says_how_to_get_some(places):
    with pytest.raises(WeightsError, match=r"(?s)No weights are installed.*anymri weights add"):
        choose(FLAIR)


def test_weights_whose_card_cannot_be_read_are_named_and_skipped(places):
    add(places.user, whole={})
    (places.user / "broken.safetensors").write_bytes(b"nothing")
    with pytest.warns(InputWarning, match="broken are not considered"):
        assert choose(FLAIR).weights.name == "whole"


def test_cautions_name_what_was_not_seen_in_training():
    with pytest.warns(InputWarning, match="trained on synthetic images only"):
        caution(card(synthetic_only=True), "starter", FLAIR)
    dedicated = card(subsets=["FLAIR+T1ce", "T1"])
    with pytest.warns(InputWarning, match=r"saw only T1c\+FLAIR, T1 in training: expect errors with FLAIR"):
        caution(dedicated, "dedicated", FLAIR)
    with pytest.warns(InputWarning, match="other subsets"):
        caution(dedicated, "dedicated")


def test_caution_of_a_subset_that_finds_little_has_the_measured_dice():
    tables = [*table(T1=0.3, FLAIR=0.8), *table(T1=0.5, FLAIR=0.7)]
    with pytest.warns(InputWarning, match=r"From T1 the weights general .* 0\.30 to 0\.50 on the data of their card"):
        caution(card(tables=tables), "general", Subset.parse("T1"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        caution(card(tables=tables), "general", FLAIR)


def test_weights_that_saw_everything_give_no_caution():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        caution(card(), "general", FLAIR)
        caution(card(subsets=["FLAIR"]), "dedicated", FLAIR)
        caution(card(subsets=[str(subset) for subset in SUBSETS]), "general")
