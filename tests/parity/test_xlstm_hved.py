"""XLSTM-HVED against the authors' outputs, losses and gradients. See `reference.py` for the folder of numbers."""

import pytest
import torch

from anymri.modalities import ALL
from anymri.systems.ra_hved.converter import MODALITY_ORDER as RA_HVED_ORDER
from anymri.systems.registry import spec
from anymri.systems.xlstm_hved.converter import our_name, unused
from parity import reference
from parity.two_passes import TwoPasses

PASSES = TwoPasses("xlstm_hved")
FIXTURE, TOLERANCE = PASSES.json, PASSES.json["tolerance"]
COMPLETE, INCOMPLETE = len(FIXTURE["subsets"]) - 1, FIXTURE["train_subset"]
# The switches that a checkpoint does not show, as the reference has them.
REFERENCE = {"reference_leak": True}
# RA-HVED without dropout, in the same repository.
RA_HVED_VARIANTS = [name for name, v in PASSES.variants.items() if v["class"] == "U_HVEDConvNet3D"]
PRETRAINING = [name for name, v in PASSES.variants.items() if not v.get("seg", True)]
VARIANTS = [name for name in PASSES.variants if name not in (*RA_HVED_VARIANTS, *PRETRAINING)]
# Values of BraTS-PEDs in our classes: enhancing, non-enhancing, cystic, oedema.
CLASSES = (0, 3, 1, 1, 2)
# Rounding of float64 leaves 1e-10 in the gradients, after the cancellations in front of instance norms.
FLOAT64_REL = 1e-8


@pytest.fixture(scope="module")
def system():
    return PASSES.build(FIXTURE["model"])


def test_converter_keeps_every_parameter_in_use(system):
    shapes = dict(FIXTURE["model"]["parameters"])
    dropped = sum(torch.Size(shapes[name]).numel() for name in FIXTURE["unused_parameters"])
    assert sum(p.numel() for p in system.parameters()) == FIXTURE["model"]["n_parameters"] - dropped
    pattern = unused({"vil_gate": "residual", "dusfe_levels": 3})
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    left_out = [name for name in shapes if pattern.match(name) and not name.endswith(buffers)]
    assert left_out == FIXTURE["unused_parameters"]


def test_a_checkpoint_as_saved_converts():
    """Tensors with two names, and the wrapping of the authors' files."""
    state = reference.filled_state(FIXTURE["seed"], FIXTURE["model"])
    state |= {alias: state[name] for alias, name in FIXTURE["model"]["aliases"].items()}
    convert = spec("xlstm_hved").convert
    plain, wrapped = (convert(checkpoint).state for checkpoint in (state, {"epoch": 1, "model_sd": state}))
    assert all(torch.equal(plain[name], wrapped[name]) for name in plain)


@pytest.mark.parametrize("number", FIXTURE["eval_subsets"])
def test_evaluation_of_a_subset_matches(system, number):
    PASSES.check_prediction(f"eval{number}", PASSES.evaluate(system, PASSES.subset(number)))


@pytest.mark.parametrize("number", FIXTURE["eval_subsets"])
def test_a_subset_of_a_shared_encoding_matches(system, number):
    with torch.inference_mode():
        encoding = system.encode(PASSES.images(), PASSES.complete)
        PASSES.check_prediction(f"eval{number}", system.decode(encoding, PASSES.subset(number), reconstruct=True))


def test_gaussians_match(system):
    """Prior first, then every modality."""
    with torch.inference_mode():
        fused = system.fuse(system.encode(PASSES.images(), PASSES.complete), PASSES.complete)
    for level, each in enumerate(fused.gaussians):
        for kind, values in (("mu", each.mean), ("logvar", each.log_variance)):
            stack = torch.cat([torch.zeros_like(values[:, :1]), PASSES.theirs(values)], dim=1)
            PASSES.check(f"eval{COMPLETE}/{kind}{level}", stack)


def test_evaluation_of_a_batch_by_sample_matches(system):
    PASSES.check_prediction("eval_instance", PASSES.evaluate(system, PASSES.flags(*FIXTURE["instance_present"])))


@pytest.mark.parametrize(("variant", "number"), [(v, n) for v in VARIANTS for n in PASSES.variants[v]["subsets"]])
def test_evaluation_of_an_ablation_matches(variant, number):
    system = PASSES.build(PASSES.variants[variant]["model"])
    PASSES.check_prediction(f"variant/{variant}/eval{number}", PASSES.evaluate(system, PASSES.subset(number)))


@pytest.mark.parametrize("variant", PRETRAINING)
def test_images_without_segmentation_match(variant):
    system = PASSES.build(PASSES.variants[variant]["model"])
    with torch.inference_mode():
        reconstructed, _ = system.reconstruct(system.encode(PASSES.images(), PASSES.complete), PASSES.complete)
    PASSES.check(f"variant/{variant}/eval{COMPLETE}/recon", PASSES.theirs(reconstructed))


@pytest.mark.parametrize(
    ("variant", "number"), [(v, n) for v in RA_HVED_VARIANTS for n in PASSES.variants[v]["subsets"]]
)
def test_evaluation_of_ra_hved_matches(variant, number):
    # Both repositories number their streams and differ in what the last two are: here they go by RA-HVED's names.
    passes = TwoPasses("xlstm_hved", order=RA_HVED_ORDER)
    system = passes.build(passes.variants[variant]["model"], system="ra_hved", dropout=0.0)
    passes.check_prediction(f"variant/{variant}/eval{number}", passes.evaluate(system, passes.subset(number)))


@pytest.fixture(scope="module")
def training():
    return PASSES.training(**REFERENCE)


def test_training_with_the_mean_matches():
    PASSES.check_prediction(f"train{COMPLETE}_mean", PASSES.training_with_the_mean(**REFERENCE))


def test_training_with_noise_matches(training):
    _, complete, incomplete = training
    PASSES.check_prediction(f"train{COMPLETE}", complete)
    PASSES.check_prediction(f"train{INCOMPLETE}", incomplete)


@pytest.mark.parametrize("name", FIXTURE["callback_buffers"])
def test_running_statistics_match(training, name):
    system, *_ = training
    value = system.state_dict()[our_name(name, shared_reconstruction=True)]
    if name.startswith("skr_att") and name.endswith("num_batches_tracked"):
        value = value * len(system.modalities)  # ours move once where the reference's move once a modality
    output = PASSES.outputs[f"after_step/{name}"]
    expected = torch.from_numpy(PASSES.stored[output["array"]]).double()
    torch.testing.assert_close(value.double(), expected, rtol=0, atol=TOLERANCE["buffers_abs"])


def test_what_the_discriminator_sees_and_answers_matches(training):
    PASSES.check_discriminator(*training)


def test_the_leak_is_off_unless_asked_for_and_never_in_evaluation():
    leaky, tight = (PASSES.build(FIXTURE["model"], reference_leak=leak) for leak in (True, False))
    images, other = PASSES.images(), PASSES.images()
    other[~PASSES.incomplete] += 1

    def difference(system, training):
        system.train(training)
        system.draw_noise = torch.zeros_like
        with torch.no_grad():
            one, two = (system.decode(system.encode(x, ALL.as_tensor()), PASSES.incomplete) for x in (images, other))
        return (one.logits - two.logits).abs().max()

    assert difference(leaky, training=True) > 0.01
    assert difference(leaky, training=False) == difference(tight, training=True) == 0


def step(dtype):
    """Network and named losses of one training step."""
    return PASSES.step(dtype, PASSES.labels(len(CLASSES), CLASSES), **REFERENCE)


@pytest.mark.parametrize(
    ("dtype", "key", "tolerance"),
    [(torch.float32, "losses", TOLERANCE["losses_rel"]), (torch.float64, "losses_float64", FLOAT64_REL)],
    ids=["float32", "float64"],
)
def test_losses_match(dtype, key, tolerance):
    PASSES.check_losses(step(dtype)[1], key, tolerance)


def test_gradient_norms_match():
    system, named = step(torch.float64)
    named["total"].backward()
    gradients = {name: parameter.grad for name, parameter in system.named_parameters()}
    names = [our_name(name, True) for name, _ in FIXTURE["model"]["parameters"]]
    groups = [name.split(".")[0] for name, _ in FIXTURE["model"]["parameters"]]
    for group, expected in FIXTURE["grad_norm_float64"].items():
        members = [gradients[n] for n, g in zip(names, groups, strict=True) if g == group and n in gradients]
        norm = torch.stack([gradient.square().sum() for gradient in members]).sum().sqrt()
        assert norm.item() == pytest.approx(expected, rel=FLOAT64_REL), group
