"""Robust-Mseg against the port's outputs, losses and gradients. See `reference.py` for the folder of numbers."""

import pytest
import torch

from anymri.systems.robust_mseg.converter import our_name
from parity.disentangling import DisentanglingFixture

FIXTURE = DisentanglingFixture("robust_mseg", dropout=0.0)


@pytest.fixture(scope="module")
def system():
    return FIXTURE.build()


def test_converter_keeps_every_parameter(system):
    assert sum(p.numel() for p in system.parameters()) == FIXTURE.json["parameter_count"]


def test_labels_are_those_of_the_reference():
    assert FIXTURE.labels().flatten().bincount(minlength=4).tolist() == FIXTURE.json["label_histogram"]


@pytest.mark.parametrize("name", FIXTURE.of_mode("eval"))
def test_evaluation_of_a_subset_matches(system, name):
    available = FIXTURE.available(name)
    with torch.inference_mode():
        prediction = system(FIXTURE.holey(available), available)
    FIXTURE.check(name, {"seg_pred": prediction.probabilities()}, "eval_outputs_abs")


@pytest.fixture(scope="module", params=FIXTURE.of_mode("train"))
def step(request):
    return request.param, *FIXTURE.step(request.param)


def test_training_outputs_match(step):
    name, system, prediction, reconstructed, _ = step
    outputs = FIXTURE.training_outputs(system, prediction, reconstructed)
    FIXTURE.check(name, {**outputs, "seg_logit": prediction.logits}, "train_outputs_abs")


def test_losses_and_gradients_match(step):
    name, system, _, _, named = step
    FIXTURE.check_losses(name, named)
    if FIXTURE.cases[name].get("grad"):
        named["total"].backward()
        FIXTURE.check_gradients(name, system, our_name)
