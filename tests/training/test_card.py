"""Cards of the weights of a training."""

import pytest

from anymri.regions import label_scheme
from anymri.training.card import card_of
from anymri.training.cohort.find import Cohort
from anymri.training.configuration import resolve_recipe


@pytest.mark.parametrize(
    ("trained", "expected"), [("uniform", None), ("fixed", None), ("flair+t1ce", ["T1c+FLAIR"]), ("T2", ["T2"])]
)
def test_the_card_of_a_dedicated_network_names_its_only_subset(trained, expected):
    recipe = resolve_recipe("u_hved", "nano", [f"subsets={trained}"])
    cohort = Cohort(label_scheme("brats2023"), [], [], {})
    assert card_of(recipe, cohort, recipe.stages[-1]).subsets == expected


def test_a_stage_after_one_that_draws_subsets_is_not_dedicated():
    recipe = resolve_recipe("u_hved", "nano")
    dedicated = recipe.stages[0].model_copy(update={"name": "second", "subsets": "T2"})
    recipe = recipe.model_copy(update={"stages": [recipe.stages[0], dedicated]})
    cohort = Cohort(label_scheme("brats2023"), [], [], {})
    assert card_of(recipe, cohort, dedicated).subsets is None
