"""SFusion against the port's outputs, losses and gradients. See `reference.py` for the folder of numbers."""

import pytest

from anymri.systems.sfusion.converter import our_name
from parity import reference
from parity.disentangling import DisentanglingFixture

CONFIG = reference.load("sfusion")["config"]
FIXTURE = DisentanglingFixture(
    "sfusion", crop=CONFIG["crop"], grid=CONFIG["patch_dim"], heads=CONFIG["nhead"], dropout=0.0, token_dropout=0.0
)


def test_converter_keeps_every_parameter():
    FIXTURE.check_converter()
    converted = FIXTURE.converted.network
    assert (converted["crop"], converted["layers"]) == (CONFIG["crop"], CONFIG["num_layers"])


def test_labels_match_the_reference():
    FIXTURE.check_labels()


@pytest.mark.parametrize("name", FIXTURE.of_mode("eval"))
def test_evaluation_of_a_subset_matches(name):
    FIXTURE.check_evaluation(name)


@pytest.fixture(scope="module", params=FIXTURE.of_mode("train"))
def step(request):
    return request.param, *FIXTURE.step(request.param)


def test_training_outputs_match(step):
    name, system, seen, _ = step
    FIXTURE.check(name, FIXTURE.training_outputs(name, system, seen), "train_outputs_abs")


def test_losses_and_gradients_match(step):
    name, system, _, named = step
    FIXTURE.check_losses(name, named)
    if FIXTURE.cases[name].get("grad"):
        named["total"].backward()
        FIXTURE.check_gradients(name, system, our_name)
