"""RA-HVED against the authors' outputs, losses and gradients. See `reference.py` for the folder of numbers."""

from itertools import product

import pytest
import torch

from anymri.layers.discriminator import PatchDiscriminator
from anymri.modalities import MODALITIES, parse_modality
from anymri.systems import parts
from anymri.systems.base import Batch
from anymri.systems.hved_losses import discriminator_input, region_of_interest
from anymri.systems.ra_hved.converter import our_name
from anymri.systems.ra_hved.recipe import adversarial_losses
from parity import reference

FIXTURE = reference.load("ra_hved")
STORED = reference.arrays("ra_hved")
SEED, CROP, BATCH, TOLERANCE = FIXTURE["seed"], FIXTURE["crop"], FIXTURE["batch"], FIXTURE["tolerance"]
ORDER = [parse_modality(name) for name in FIXTURE["modality_order"]]
# Where our modalities are among the reference's channels.
CHANNELS = [ORDER.index(m) for m in MODALITIES]
OUTPUTS = {output["name"]: output for output in FIXTURE["outputs"]}
VARIANTS = {variant["name"]: variant for variant in FIXTURE["variants"]}
INCOMPLETE = FIXTURE["train_subset"]
COMPLETE = len(FIXTURE["subsets"]) - 1
# Rounding of float64 leaves 1e-11 in the gradients, after the cancellations in front of instance norms.
FLOAT64_REL = 1e-8
# In float32 the stems' gradients are little else than that rounding; the sheet allows them this.
STEM_REL = 0.05


def build(model, dtype=torch.float32):
    """The network with the fixture's weights; the reference's dropout was off."""
    converted = parts("ra_hved").convert(reference.filled_state(SEED, model))
    network = parts("ra_hved").network(**converted.network, dropout=0.0)
    network.load_state_dict(converted.state)
    return network.eval().to(dtype)


def build_discriminator(system, dtype=torch.float32):
    """The fixture's discriminator; behind the regions, its channels are brought into our order of modalities."""
    values = reference.filled_state(SEED, FIXTURE["disc"], prefix="disc.")
    order = [*range(system.num_scores), *(system.num_scores + channel for channel in CHANNELS)]
    values["disc.0.0.weight"] = values["disc.0.0.weight"][:, order]
    network = PatchDiscriminator(len(order))
    ours = network.state_dict()
    network.load_state_dict(dict(zip(ours, values.values(), strict=True)))
    return network.to(dtype)


@pytest.fixture(scope="module")
def system():
    return build(FIXTURE["model"])


def images(dtype=torch.float32):
    return reference.noise(SEED, "x", [BATCH, len(ORDER), *CROP])[:, CHANNELS].to(dtype)


def flags(*present):
    """(B, 4) bool in our order from one list of reference channels a sample, or one for all."""
    rows = [[channel in each for channel in CHANNELS] for each in present]
    return torch.tensor(rows if len(rows) == BATCH else rows * BATCH)


def subset(number):
    return flags(FIXTURE["subsets"][number])


def labels():
    t = reference.noise(SEED, "label", [BATCH, *CROP]).double()
    return (4 / (1 + torch.exp(-t))).floor().long()  # 3 is the reference's 4, the enhancing tumour


def replay_noise(system, *passes):
    """Puts the fixture's draws where training would draw; they come pass by pass, finest scale first."""
    draws = product(passes, range(4))

    def draw(like):
        which, level = next(draws)
        return reference.noise(SEED, f"eps/{which}/{level}", like.shape).to(like.dtype)

    system.draw_noise = draw


def theirs(maps):
    """Modalities of axis 1 in the reference's order."""
    return maps[:, [MODALITIES.index(m) for m in ORDER]]


def check(name, actual, outputs=OUTPUTS, **options):
    reference.check_strided(FIXTURE, actual, outputs[name], STORED[outputs[name]["array"]], **options)


def check_prediction(name, prediction, outputs=OUTPUTS):
    check(f"{name}/seg", prediction.probabilities(), outputs)
    if f"{name}/recon" in outputs:
        check(f"{name}/recon", theirs(prediction.reconstruction), outputs)


@torch.inference_mode()
def evaluate(system, available):
    """The prediction with absent channels at NaN, where the reference had zeros."""
    holey = images().masked_fill(~available[..., None, None, None], torch.nan)
    return system.decode(system.encode(holey, available), available, reconstruct=True)


def test_converter_keeps_every_parameter(system):
    assert sum(p.numel() for p in system.parameters()) == FIXTURE["model"]["n_parameters"]
    assert not FIXTURE["unused_parameters"]
    discriminator = build_discriminator(system)
    assert sum(p.numel() for p in discriminator.parameters()) == FIXTURE["disc"]["n_parameters"]


@pytest.mark.parametrize("number", FIXTURE["eval_subsets"])
def test_evaluation_of_a_subset_matches(system, number):
    check_prediction(f"eval{number}", evaluate(system, subset(number)))


@pytest.mark.parametrize("number", [n for n in FIXTURE["eval_subsets"] if f"eval{n}/mu0" in OUTPUTS])
def test_gaussians_match(system, number):
    """Prior first, then every modality; the reference also encodes absent ones, as zeros."""
    zeroed = images() * subset(number)[..., None, None, None]
    with torch.inference_mode():
        gaussians = system.encode(zeroed, subset(COMPLETE)).gaussians
    for level, each in enumerate(gaussians):
        for kind, values in (("mu", each.mean), ("logvar", each.log_variance)):
            stack = torch.cat([torch.zeros_like(values[:, :1]), theirs(values)], dim=1)
            check(f"eval{number}/{kind}{level}", stack)


def test_evaluation_of_a_batch_by_sample_matches(system):
    check_prediction("eval_instance", evaluate(system, flags(*FIXTURE["instance_present"])))


@pytest.mark.parametrize(("variant", "number"), [(v, n) for v in VARIANTS for n in VARIANTS[v]["subsets"]])
def test_evaluation_of_a_variant_matches(variant, number):
    prediction = evaluate(build(VARIANTS[variant]["model"]), subset(number))
    check_prediction(f"variant/{variant}/eval{number}", prediction)


@pytest.fixture(scope="module")
def training():
    """Predictions of the two passes of a training step, and the network that made them."""
    system = build(FIXTURE["model"]).train()
    replay_noise(system, "full", "missing")
    with torch.no_grad():
        encoding = system.encode(images(), subset(COMPLETE))
        complete, incomplete = (
            system.decode(encoding, subset(number), reconstruct=True) for number in (COMPLETE, INCOMPLETE)
        )
    return system, complete, incomplete


def test_training_with_the_mean_matches():
    system = build(FIXTURE["model"]).train()
    system.draw_noise = torch.zeros_like
    with torch.no_grad():
        encoding = system.encode(images(), subset(COMPLETE))
        check_prediction(f"train{COMPLETE}_mean", system.decode(encoding, subset(COMPLETE), reconstruct=True))


def test_training_with_noise_matches(training):
    _, complete, incomplete = training
    check_prediction(f"train{COMPLETE}", complete)
    check_prediction(f"train{INCOMPLETE}", incomplete)


def test_what_the_discriminator_sees_and_answers_matches(training):
    system, complete, incomplete = training
    check("nested_full", region_of_interest(complete.probabilities())[:, 0], may_flip=True)
    seen = discriminator_input(incomplete)
    check("atten_missing", theirs(seen[:, system.num_scores :]), may_flip=True)
    with torch.no_grad():
        check("disc_fake", build_discriminator(system)(seen))


LOSSES = {
    "dice_full": "dice_complete",
    "dice_missing": "dice_incomplete",
    "recon_mse": "reconstruction",
    "kld": "kld",
    "gan_generator": "adversarial",
    "generator_total": "total",
    "disc_fake": "discriminator_fake",
    "disc_real": "discriminator_real",
    "disc_total": "discriminator",
}


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=str)
def step(request):
    """Network and named losses of one training step, its backward pass done."""
    system = build(FIXTURE["model"], request.param).train()
    replay_noise(system, "full", "missing")
    everything = Batch(images(request.param), labels(), subset(COMPLETE), subset(INCOMPLETE))
    named = adversarial_losses(system, everything, build_discriminator(system, request.param))
    named["total"].backward()
    return system, named


def exact(step):
    return step[1]["total"].dtype == torch.float64


def test_losses_match(step):
    _, named = step
    stored = FIXTURE["losses_float64" if exact(step) else "losses"]
    assert LOSSES.keys() == stored.keys() and set(LOSSES.values()) == set(named)
    for name, expected in stored.items():
        tolerance = FLOAT64_REL if exact(step) else TOLERANCE["losses_rel"]
        assert named[LOSSES[name]].item() == pytest.approx(expected, rel=tolerance), name


def test_gradient_norms_match(step):
    system, _ = step
    gradients = {name: parameter.grad for name, parameter in system.named_parameters()}
    for group, expected in FIXTURE["grad_norm_float64" if exact(step) else "grad_norm_by_top_module"].items():
        members = [name for name, _ in FIXTURE["model"]["parameters"] if name.split(".")[0] == group]
        squares = [gradients[our_name(name, FIXTURE["args"]["shared_recon"])].square().sum() for name in members]
        rounding = STEM_REL if group == "init_blocks" else TOLERANCE["grad_norm_rel"]
        tolerance = FLOAT64_REL if exact(step) else rounding
        assert torch.stack(squares).sum().sqrt().item() == pytest.approx(expected, rel=tolerance), group
