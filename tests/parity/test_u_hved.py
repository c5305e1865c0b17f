"""U-HVED against the reference's outputs, losses and gradients. See `reference.py` for the folder of numbers."""

from dataclasses import dataclass
from functools import cache, partial
from unittest.mock import patch

import numpy as np
import pytest
import torch

from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.batch import Batch
from anymri.systems.contract import Prediction
from anymri.systems.families.hved.system import GaussiansEncoding
from anymri.systems.registry import spec
from anymri.systems.u_hved.converter import our_name
from anymri.systems.u_hved.recipe import losses
from parity import reference

FIXTURE = reference.load("u_hved")
CONFIG, SEED, TOLERANCE = FIXTURE["config"], FIXTURE["seed"], FIXTURE["tolerance"]
SIZE = [CONFIG["batch"], CONFIG["crop"], CONFIG["crop"], CONFIG["crop"]]
CASES = {case["name"]: case for case in FIXTURE["cases"]}
STORED = reference.arrays("u_hved")
EVALUATED, TRAINED = ([name for name, case in CASES.items() if case["mode"] == mode] for mode in ("eval", "train"))


@dataclass
class Step:
    """One training step of a case: its encoding, prediction, losses and, where the fixture has them, gradients."""

    encoding: GaussiansEncoding
    prediction: Prediction
    losses: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor | None]


@pytest.fixture(scope="module")
def system():
    converted = spec("u_hved").convert(reference.reference_state(FIXTURE))
    network = spec("u_hved").network(**converted.network)
    network.load_state_dict(converted.state)
    return network


@pytest.fixture(scope="module")
def steps(system):
    """Return a function of the name of a case to its training step; each step is computed once."""
    return cache(partial(training_step, system))


def images():
    """Return the fixture's input with its channels in our order."""
    order = [parse_modality(name) for name in FIXTURE["input"]["image_channel_order"]]
    stacked = reference.noise(SEED, "image", [SIZE[0], 4, *SIZE[1:]])
    return stacked[:, [order.index(m) for m in MODALITIES]]


def available(case):
    order = [parse_modality(name) for name in FIXTURE["mask_column_order"]]
    return torch.tensor(case["mask"])[:, [order.index(m) for m in MODALITIES]]


def labels():
    classes = CONFIG["num_cls"]
    z = reference.noise(SEED, "labels", SIZE).double()
    return (classes / (1 + torch.exp(-z))).floor().clamp(max=classes - 1).long()


def batch(case):
    flags = available(case)
    return Batch.of(images(), labels(), torch.ones_like(flags), flags)


def replay_noise(system, case):
    """Make training use the draws of the fixture; they come finest scale first."""
    scales = iter(range(1, 5))

    def draw(like):
        scale = next(scales)
        if case["noise"] == "zero":
            return torch.zeros_like(like)
        return reference.noise(case["noise_seed"], f"noise.{scale}", like.shape)

    system.draw_noise = draw


def training_step(system, name):
    """Return the training step of a case, by the objective of the system."""
    case, predictions, encodings = CASES[name], [], []
    system.train().zero_grad()
    replay_noise(system, case)

    def decode(encoding, *arguments, **options):
        encodings.append(encoding)
        predictions.append(type(system).decode(system, encoding, *arguments, **options))
        return predictions[-1]

    with patch.object(system, "decode", decode), torch.set_grad_enabled(bool(case.get("grad"))):
        loss = losses(system, batch(case))
    gradients = {}
    if case.get("grad"):
        loss.total.backward()
        gradients = {name: parameter.grad for name, parameter in system.named_parameters()}
    return Step(*encodings, *predictions, loss.named(), gradients)


def test_converter_keeps_every_parameter(system):
    assert sum(p.numel() for p in system.parameters()) == FIXTURE["parameter_count"]


def test_labels_are_those_of_the_reference():
    assert labels().flatten().bincount(minlength=CONFIG["num_cls"]).tolist() == FIXTURE["label_histogram"]


@pytest.mark.parametrize("name", EVALUATED)
def test_evaluation_logits_match(system, name):
    with torch.inference_mode():
        logits = system.eval()(images(), available(CASES[name])).logits
    expected = CASES[name]["outputs"]["seg_logits"]
    reference.check_output(logits, expected, STORED[f"{name}/seg_logits"], TOLERANCE["eval_outputs_abs"])


@pytest.mark.parametrize("name", TRAINED)
def test_training_outputs_match(steps, name):
    case, step = CASES[name], steps(name)
    outputs = {"seg_pred": step.prediction.probabilities()}
    for i, modality in enumerate(MODALITIES):
        outputs[f"reconstruct_{modality.lower()}"] = step.prediction.reconstruction[:, i : i + 1]
        for scale, gaussians in enumerate(step.encoding.gaussians, start=1):
            outputs[f"mu{scale}_{modality.lower()}"] = gaussians.mean[:, i]
            outputs[f"logvar{scale}_{modality.lower()}"] = gaussians.log_variance[:, i]
    assert set(outputs) == set(case["outputs"])
    for key, expected in case["outputs"].items():
        reference.check_output(outputs[key], expected, STORED[f"{name}/{key}"], TOLERANCE["train_outputs_abs"])


@pytest.mark.parametrize("name", TRAINED)
def test_losses_match(steps, name):
    case, named = CASES[name], steps(name).losses
    assert set(named) == set(case["losses"])
    for key, expected in case["losses"].items():
        assert named[key].item() == pytest.approx(expected, rel=TOLERANCE["losses_rel"]), key


@pytest.mark.parametrize("name", [name for name in TRAINED if CASES[name].get("grad")])
def test_gradient_norms_match(steps, name):
    ours = steps(name).gradients
    gradients = [ours[our_name(theirs)] for theirs, _ in FIXTURE["parameters"]]
    norms = np.array([-1 if g is None else g.norm().item() for g in gradients])
    expected = STORED[f"{name}/grad_norm"].astype(float)
    # The JSON measures differences against max(|norm|, 0.01 * largest norm).
    error = np.abs(norms - expected) / np.maximum(np.abs(expected), 0.01 * expected.max())
    assert error.max() < TOLERANCE["grad_norm_rel"]
