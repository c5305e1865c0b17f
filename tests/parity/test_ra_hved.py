"""RA-HVED against the authors' outputs, losses and gradients. See `reference.py` for the folder of numbers."""

import pytest
import torch

from anymri.systems.ra_hved.converter import our_name
from parity.two_passes import TwoPasses

PASSES = TwoPasses("ra_hved")
FIXTURE, TOLERANCE = PASSES.json, PASSES.json["tolerance"]
COMPLETE, INCOMPLETE = len(FIXTURE["subsets"]) - 1, FIXTURE["train_subset"]
# The reference's dropout was off.
REFERENCE = {"dropout": 0.0}
CLASSES = (0, 1, 2, 3)  # 3 is the reference's 4, the enhancing tumour
# Rounding of float64 leaves 1e-11 in the gradients, after the cancellations in front of instance norms.
FLOAT64_REL = 1e-8
# In float32 the stems' gradients are little else than that rounding; the sheet allows them this.
STEM_REL = 0.05


@pytest.fixture(scope="module")
def system():
    return PASSES.build(FIXTURE["model"], **REFERENCE)


def test_converter_keeps_every_parameter(system):
    assert sum(p.numel() for p in system.parameters()) == FIXTURE["model"]["n_parameters"]
    assert not FIXTURE["unused_parameters"]
    assert sum(p.numel() for p in PASSES.discriminator(system).parameters()) == FIXTURE["disc"]["n_parameters"]


@pytest.mark.parametrize("number", FIXTURE["eval_subsets"])
def test_evaluation_of_a_subset_matches(system, number):
    PASSES.check_prediction(f"eval{number}", PASSES.evaluate(system, PASSES.subset(number)))


@pytest.mark.parametrize("number", [n for n in FIXTURE["eval_subsets"] if f"eval{n}/mu0" in PASSES.outputs])
def test_gaussians_match(system, number):
    """Prior first, then every modality; the reference also encodes absent ones, as zeros."""
    zeroed = PASSES.images() * PASSES.subset(number)[..., None, None, None]
    with torch.inference_mode():
        gaussians = system.encode(zeroed, PASSES.complete).gaussians
    for level, each in enumerate(gaussians):
        for kind, values in (("mu", each.mean), ("logvar", each.log_variance)):
            stack = torch.cat([torch.zeros_like(values[:, :1]), PASSES.theirs(values)], dim=1)
            PASSES.check(f"eval{number}/{kind}{level}", stack)


def test_evaluation_of_a_batch_by_sample_matches(system):
    PASSES.check_prediction("eval_instance", PASSES.evaluate(system, PASSES.flags(*FIXTURE["instance_present"])))


@pytest.mark.parametrize(
    ("variant", "number"), [(v, n) for v in PASSES.variants for n in PASSES.variants[v]["subsets"]]
)
def test_evaluation_of_a_variant_matches(variant, number):
    system = PASSES.build(PASSES.variants[variant]["model"], **REFERENCE)
    PASSES.check_prediction(f"variant/{variant}/eval{number}", PASSES.evaluate(system, PASSES.subset(number)))


@pytest.fixture(scope="module")
def training():
    return PASSES.training(**REFERENCE)


def test_training_with_the_mean_matches():
    PASSES.check_prediction(f"train{COMPLETE}_mean", PASSES.training_with_the_mean(**REFERENCE))


def test_training_with_noise_matches(training):
    _, complete, incomplete = training
    PASSES.check_prediction(f"train{COMPLETE}", complete)
    PASSES.check_prediction(f"train{INCOMPLETE}", incomplete)


def test_what_the_discriminator_sees_and_answers_matches(training):
    PASSES.check_discriminator(*training)


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=str)
def step(request):
    """Network and named losses of one training step, its backward pass done."""
    system, named = PASSES.step(request.param, PASSES.labels(len(CLASSES), CLASSES), **REFERENCE)
    named["total"].backward()
    return system, named


def exact(step):
    return step[1]["total"].dtype == torch.float64


def test_losses_match(step):
    key, tolerance = ("losses_float64", FLOAT64_REL) if exact(step) else ("losses", TOLERANCE["losses_rel"])
    PASSES.check_losses(step[1], key, tolerance)


def test_gradient_norms_match(step):
    system, _ = step
    gradients = {name: parameter.grad for name, parameter in system.named_parameters()}
    for group, expected in FIXTURE["grad_norm_float64" if exact(step) else "grad_norm_by_top_module"].items():
        members = [name for name, _ in FIXTURE["model"]["parameters"] if name.split(".")[0] == group]
        squares = [gradients[our_name(name, FIXTURE["args"]["shared_recon"])].square().sum() for name in members]
        rounding = STEM_REL if group == "init_blocks" else TOLERANCE["grad_norm_rel"]
        tolerance = FLOAT64_REL if exact(step) else rounding
        assert torch.stack(squares).sum().sqrt().item() == pytest.approx(expected, rel=tolerance), group
