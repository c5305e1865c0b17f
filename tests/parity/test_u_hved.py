"""U-HVED against the reference's outputs, losses and gradients. See `reference.py` for the folder of numbers."""

import numpy as np
import pytest
import torch

from anymri.modalities import MODALITIES, parse_modality
from anymri.systems.batch import Batch
from anymri.systems.registry import spec
from anymri.systems.u_hved.converter import our_name
from anymri.systems.u_hved.recipe import losses
from parity import reference

FIXTURE = reference.load("u_hved")
CONFIG, SEED, TOLERANCE = FIXTURE["config"], FIXTURE["seed"], FIXTURE["tolerance"]
SIZE = [CONFIG["batch"], CONFIG["crop"], CONFIG["crop"], CONFIG["crop"]]
CASES = {case["name"]: case for case in FIXTURE["cases"]}
STORED = reference.arrays("u_hved")


@pytest.fixture
def system():
    converted = spec("u_hved").convert(reference.reference_state(FIXTURE))
    network = spec("u_hved").network(**converted.network)
    network.load_state_dict(converted.state)
    return network.eval()


def images():
    """The fixture's input, channels brought into our order by their names."""
    order = [parse_modality(name) for name in FIXTURE["input"]["image_channel_order"]]
    stacked = reference.noise(SEED, "image", [SIZE[0], 4, *SIZE[1:]])
    return stacked[:, [order.index(m) for m in MODALITIES]]


def available(case):
    order = [parse_modality(name) for name in FIXTURE["mask_column_order"]]
    return torch.tensor(case["mask"])[:, [order.index(m) for m in MODALITIES]]


def labels():
    z = reference.noise(SEED, "labels", SIZE).double()
    return (4 / (1 + torch.exp(-z))).floor().clamp(max=3).long()


def batch(case):
    flags = available(case)
    return Batch.of(images(), labels(), torch.ones_like(flags), flags)


def replay_noise(system, case):
    """Puts the fixture's draws where training would draw; they come finest scale first."""
    scales = iter(range(1, 5))

    def draw(like):
        scale = next(scales)
        if case["noise"] == "zero":
            return torch.zeros_like(like)
        return reference.noise(case["noise_seed"], f"noise.{scale}", like.shape)

    system.draw_noise = draw


def of_mode(mode):
    return [name for name, case in CASES.items() if case["mode"] == mode]


def test_converter_keeps_every_parameter(system):
    assert sum(p.numel() for p in system.parameters()) == FIXTURE["parameter_count"]


def test_labels_are_those_of_the_reference():
    assert labels().flatten().bincount(minlength=4).tolist() == FIXTURE["label_histogram"]


@pytest.mark.parametrize("name", of_mode("eval"))
def test_evaluation_scores_match(system, name):
    with torch.inference_mode():
        logits = system(images(), available(CASES[name])).logits
    expected = CASES[name]["outputs"]["seg_logits"]
    reference.check_output(logits, expected, STORED[f"{name}/seg_logits"], TOLERANCE["eval_outputs_abs"])


@pytest.mark.parametrize("name", of_mode("train"))
def test_training_outputs_match(system, name):
    case = CASES[name]
    system.train()
    replay_noise(system, case)
    everything = batch(case)
    with torch.no_grad():
        encoding = system.encode(everything.images, everything.present)
        prediction = system.decode(encoding, everything.available, reconstruct=True)
    outputs = {"seg_pred": prediction.probabilities()}
    for i, modality in enumerate(MODALITIES):
        outputs[f"reconstruct_{modality.lower()}"] = prediction.reconstruction[:, i : i + 1]
        for scale, gaussians in enumerate(encoding.gaussians, start=1):
            outputs[f"mu{scale}_{modality.lower()}"] = gaussians.mean[:, i]
            outputs[f"logvar{scale}_{modality.lower()}"] = gaussians.log_variance[:, i]
    assert set(outputs) == set(case["outputs"])
    for key, expected in case["outputs"].items():
        reference.check_output(outputs[key], expected, STORED[f"{name}/{key}"], TOLERANCE["train_outputs_abs"])


@pytest.mark.parametrize("name", of_mode("train"))
def test_losses_match(system, name):
    case = CASES[name]
    system.train()
    replay_noise(system, case)
    named = losses(system, batch(case))
    assert set(named) == set(case["losses"])
    for key, expected in case["losses"].items():
        assert named[key].item() == pytest.approx(expected, rel=TOLERANCE["losses_rel"]), key


@pytest.mark.parametrize("name", [name for name in of_mode("train") if CASES[name].get("grad")])
def test_gradient_norms_match(system, name):
    case = CASES[name]
    system.train()
    replay_noise(system, case)
    losses(system, batch(case))["total"].backward()
    ours = dict(system.named_parameters())
    gradients = [ours[our_name(name)].grad for name, _ in FIXTURE["parameters"]]
    norms = np.array([-1 if g is None else g.norm().item() for g in gradients])
    expected = STORED[f"{name}/grad_norm"].astype(float)
    # The JSON measures differences against max(|norm|, 0.01 * largest norm).
    error = np.abs(norms - expected) / np.maximum(np.abs(expected), 0.01 * expected.max())
    assert error.max() < TOLERANCE["grad_norm_rel"]
