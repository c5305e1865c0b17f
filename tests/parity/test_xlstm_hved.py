"""XLSTM-HVED against the authors' outputs, losses and gradients. See `reference.py` for the folder of numbers."""

from functools import partial

import pytest
import torch

from anymri.systems.ra_hved.converter import MODALITY_ORDER as RA_HVED_ORDER
from anymri.systems.registry import spec
from anymri.systems.xlstm_hved.converter import our_name, unused
from parity import reference
from parity.two_passes import TwoPasses

PASSES = TwoPasses("xlstm_hved")
FIXTURE, TOLERANCE = PASSES.json, PASSES.json["tolerance"]
# The switches of the reference that a checkpoint does not show.
REFERENCE = {"reference_leak": True}
# RA-HVED without dropout, in the same repository.
RA_HVED_VARIANTS = [name for name, v in PASSES.variants.items() if v["class"] == "U_HVEDConvNet3D"]
PRETRAINING = [name for name, v in PASSES.variants.items() if not v.get("seg", True)]
VARIANTS = [name for name in PASSES.variants if name not in (*RA_HVED_VARIANTS, *PRETRAINING)]
# Values of BraTS-PEDs in our classes: enhancing, non-enhancing, cystic, oedema.
CLASSES = (0, 3, 1, 1, 2)
# Rounding of float64 leaves 1e-10 in the gradients, after the cancellations before instance norms.
FLOAT64_REL = 1e-8
OUR_NAME = partial(our_name, shared_reconstruction=FIXTURE["args"]["shared_recon"])


@pytest.fixture(scope="module")
def system():
    return PASSES.build()


@pytest.fixture(scope="module")
def encoding(system):
    with torch.inference_mode():
        return system.encode(PASSES.images(), PASSES.complete)


@pytest.fixture(scope="module")
def float32_step(float64_step):
    return PASSES.step(torch.float32, CLASSES, backward=False, exact=float64_step, **REFERENCE)


@pytest.fixture(scope="module")
def float64_step():
    return PASSES.step(torch.float64, CLASSES, **REFERENCE)


def test_converter_keeps_every_used_parameter(system):
    shapes = dict(FIXTURE["model"]["parameters"])
    dropped = sum(torch.Size(shapes[name]).numel() for name in FIXTURE["unused_parameters"])
    assert sum(p.numel() for p in system.parameters()) == FIXTURE["model"]["n_parameters"] - dropped
    pattern = unused({"vil_gate": "residual", "dusfe_levels": 3})
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    ignored = [name for name in shapes if pattern.match(name) and not name.endswith(buffers)]
    assert ignored == FIXTURE["unused_parameters"]


def test_converter_reads_checkpoints_with_aliases():
    state = reference.filled_state(FIXTURE["seed"], FIXTURE["model"])
    aliases = {alias: state[name] for alias, name in FIXTURE["model"]["aliases"].items()}
    plain, whole = (spec("xlstm_hved").convert(each).state for each in (state, state | aliases))
    assert aliases and plain.keys() == whole.keys()
    assert all(torch.equal(plain[name], whole[name]) for name in plain)


@pytest.mark.parametrize("number", FIXTURE["eval_subsets"])
def test_evaluation_of_a_subset_matches(system, number):
    PASSES.check_prediction(f"eval{number}", PASSES.evaluate(system, PASSES.subset(number)))


@pytest.mark.parametrize("number", FIXTURE["eval_subsets"])
@torch.inference_mode()
def test_a_subset_of_a_shared_encoding_matches(system, encoding, number):
    PASSES.check_prediction(f"eval{number}", system.decode(encoding, PASSES.subset(number), reconstruct=True))


@pytest.mark.parametrize("number", PASSES.with_gaussians())
@torch.inference_mode()
def test_gaussians_match(system, number):
    fused = system.fuse(system.encode(PASSES.zeroed(number), PASSES.complete), PASSES.complete)
    PASSES.check_gaussians(number, fused.gaussians)


def test_evaluation_of_samples_with_different_subsets_matches(system):
    PASSES.check_prediction("eval_instance", PASSES.evaluate(system, PASSES.flags(*FIXTURE["instance_present"])))


@pytest.mark.parametrize(("variant", "number"), PASSES.variant_subsets(VARIANTS))
def test_evaluation_of_an_ablation_matches(variant, number):
    system = PASSES.build(variant=variant)
    PASSES.check_prediction(f"variant/{variant}/eval{number}", PASSES.evaluate(system, PASSES.subset(number)))


@pytest.mark.parametrize(("variant", "number"), PASSES.variant_subsets(PRETRAINING))
@torch.inference_mode()
def test_reconstruction_without_segmentation_matches(variant, number):
    system, available = PASSES.build(variant=variant), PASSES.subset(number)
    reconstructed, _ = system.reconstruct(system.encode(PASSES.images(), available), available)
    PASSES.check(f"variant/{variant}/eval{number}/recon", PASSES.theirs(reconstructed))


@pytest.mark.parametrize(("variant", "number"), PASSES.variant_subsets(RA_HVED_VARIANTS))
def test_evaluation_of_ra_hved_matches(variant, number):
    # Both repositories number their streams and differ in the order of the last two; here RA-HVED's names apply.
    passes = TwoPasses("xlstm_hved", order=RA_HVED_ORDER)
    system = passes.build(variant=variant, system="ra_hved", dropout=0.0)
    passes.check_prediction(f"variant/{variant}/eval{number}", passes.evaluate(system, passes.subset(number)))


def test_training_with_the_mean_matches():
    PASSES.check_prediction(f"train{PASSES.complete_number}_mean", PASSES.training_with_the_mean(**REFERENCE))


def test_training_with_noise_matches(float32_step):
    PASSES.check_passes(float32_step)


@pytest.mark.parametrize("name", FIXTURE["watch_buffers"])
def test_running_statistics_match(float32_step, name):
    system = float32_step.system
    value = system.state_dict()[OUR_NAME(name)]
    if name.startswith("skr_att") and name.endswith("num_batches_tracked"):
        value = value * len(system.modalities)  # ours are updated once where the reference updates once per modality
    output = PASSES.outputs[f"after_step/{name}"]
    expected = torch.from_numpy(PASSES.stored[output["array"]]).double()
    torch.testing.assert_close(value.double(), expected, rtol=0, atol=TOLERANCE["buffers_abs"])


def test_input_and_output_of_the_discriminator_match(float32_step):
    PASSES.check_discriminator(float32_step)


def test_attention_maps_use_missing_modalities_only_in_training_with_the_reference_leak():
    leaky, tight = (PASSES.build(reference_leak=leak) for leak in (True, False))
    images, changed = PASSES.images(), PASSES.images()
    changed[~PASSES.incomplete] += 1

    def difference(system, training):
        system.train(training)
        system.draw_noise = torch.zeros_like
        with torch.no_grad():
            before, after = (
                system.decode(system.encode(x, PASSES.complete), PASSES.incomplete).logits for x in (images, changed)
            )
        return (before - after).abs().max()

    assert difference(leaky, training=True) > 0.01
    assert difference(leaky, training=False) == difference(tight, training=True) == 0


def test_losses_match_in_float32(float32_step):
    PASSES.check_losses(float32_step, TOLERANCE["losses_rel"])


def test_losses_match_in_float64(float64_step):
    PASSES.check_losses(float64_step, FLOAT64_REL)


def test_gradient_norms_match(float64_step):
    for group, expected in FIXTURE["grad_norm_float64"].items():
        norm = PASSES.gradient_norm(float64_step, OUR_NAME, group)
        assert norm == pytest.approx(expected, rel=FLOAT64_REL), group
