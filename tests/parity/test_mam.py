"""MaM against the reference's outputs, losses and gradients. See `reference.py` for the folder of numbers.

The fixture's arrays have the axes z, y, x; ours x, y, z. Regions are in our order.
"""

from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.functional import conv3d

from anymri.modalities import MODALITIES
from anymri.systems.batch import Batch
from anymri.systems.losses import at_level, region_channels
from anymri.systems.mam.converter import MODALITY_ORDER, UNUSED, our_name
from anymri.systems.mam.recipe import level_losses
from anymri.systems.registry import spec
from parity import filler, reference
from parity.recording import record

FIXTURE = reference.load("mam")
STORED = reference.arrays("mam")
TOLERANCE = FIXTURE["tolerance"]
CASES = {case["name"]: case for case in FIXTURE["cases"]}
SMALL = min(CASES, key=lambda name: np.prod(CASES[name]["crop"]))
MAM = spec("mam")
CHANNELS = [MODALITY_ORDER.index(m) for m in MODALITIES]
# Never computed by the reference, so that their values are of no account.
DEAD = "encoder."
DEAD_HEAD = "decoder.seg_layers.0"


# Tests share these tensors, in inference mode and in training.
@cache
@torch.inference_mode(False)
def state(name):
    shapes = dict(map(tuple, CASES[name]["parameters"]))
    live = {parameter: shape for parameter, shape in shapes.items() if not parameter.startswith(DEAD)}
    values = filler.fill(CASES[name]["seed"], live, FIXTURE["integers"])
    return {
        parameter: torch.from_numpy(values[parameter]) if parameter in values else torch.zeros(()).expand(shape)
        for parameter, shape in shapes.items()
    }


@cache
@torch.inference_mode(False)
def converted(name):
    return MAM.convert(state(name))


def build(name):
    """Return a network with the fixture's weights in evaluation mode; networks of one case share their tensors."""
    with torch.device("meta"):
        network = MAM.network(**converted(name).network, heads=CASES[name]["model"]["heads"])
    network.load_state_dict(converted(name).state, assign=True)
    return network.eval()


def turned(volumes):
    """Exchange the axes z, y, x and x, y, z."""
    return volumes.transpose(-1, -3)


def images(case):
    return turned(reference.noise(case["seed"], "x", [case["batch"], 4, *case["crop"]])[:, CHANNELS])


def flags(case, mask):
    return torch.tensor(mask).bool()[CHANNELS].expand(case["batch"], -1)


def batch(case, mask):
    t = reference.noise(case["seed"], "labels", [case["batch"], 1, *case["crop"]]).double()
    labels = turned((4 / (1 + torch.exp(-t))).floor().clamp(0, 3).long()[:, 0])
    available = flags(case, mask)
    return Batch.of(images(case), labels, torch.ones_like(available), available)


def check(case, key, actual, stride=(1, 1, 1)):
    """Compare an output, in the fixture's order of axes, by every n-th voxel and by the moments of the whole."""
    values = actual.detach().double().numpy()
    picked = values[(..., *(slice(None, None, step) for step in stride))]
    np.testing.assert_allclose(picked, STORED[f"{case['name']}/{key}"], rtol=0, atol=TOLERANCE["arrays_abs"])
    moments = [values.mean(), values.std(), np.abs(values).sum()]
    np.testing.assert_allclose(moments, case["results"][key], rtol=TOLERANCE["stats_rel"])


def check_coarsest(case, key, features):
    theirs = features[:, np.argsort(CHANNELS)]
    check(case, key, turned(theirs.flatten(1, 2)))


@pytest.mark.parametrize("name", CASES)
def test_converter_keeps_every_trained_parameter(name):
    dead = sum(state(name)[f"{DEAD_HEAD}.{leaf}"].numel() for leaf in ("weight", "bias"))
    kept = sum(value.numel() for value in converted(name).state.values())
    assert kept == CASES[name]["live_parameter_count"] - dead


def test_checkpoint_with_second_names_converts_to_the_same():
    stored = state(SMALL)
    blocks = {
        name.replace(f".{part}.", f".all_modules.{number}."): value
        for number, part in enumerate(("conv", "norm"))
        for name, value in stored.items()
        if f".{part}." in name
    }
    whole = stored | blocks
    whole |= {f"decoder.{name}": value for name, value in whole.items() if name.startswith(DEAD)}
    plain, found = converted(SMALL), MAM.convert(whole)
    assert found.network == plain.network and found.state.keys() == plain.state.keys()
    assert all(torch.equal(found.state[name], value) for name, value in plain.state.items())


def evaluations():
    return [(name, mask) for name, case in CASES.items() for mask in case["eval_masks"]]


@pytest.mark.parametrize(("name", "mask"), evaluations())
@torch.inference_mode()
def test_evaluation_of_a_subset_matches(name, mask):
    """Missing modalities are NaN, where the reference has their images without using their features."""
    case, system = CASES[name], build(name)
    available = flags(case, case["eval_masks"][mask])
    holey = images(case).masked_fill(~available[..., None, None, None], torch.nan)
    prediction = system(holey, available)
    check(case, f"eval.{mask}.logits", turned(prediction.logits), case["stride"])
    check_coarsest(case, f"eval.{mask}.bottleneck", prediction.coarsest)
    everything, missing = prediction.coarsest, ~available
    if missing.any():
        everything[missing] = system.targets(images(case), missing)[missing]
    check_coarsest(case, "encoder_bottleneck", everything)


@pytest.fixture(scope="module")
def encoded():
    """The network of the small case, and the encoding of all its modalities."""
    case, system = CASES[SMALL], build(SMALL)
    with torch.inference_mode():
        return system, system.encode(images(case), flags(case, [1, 1, 1, 1]))


@pytest.mark.parametrize("mask", CASES[SMALL]["eval_masks"])
@torch.inference_mode()
def test_subset_of_a_shared_encoding_matches(encoded, mask):
    case, (system, encoding) = CASES[SMALL], encoded
    prediction = system.decode(encoding, flags(case, case["eval_masks"][mask]))
    check(case, f"eval.{mask}.logits", turned(prediction.logits), case["stride"])


def trainings():
    return [(name, mask) for name, case in CASES.items() for mask in case.get("train_masks", ())]


@pytest.fixture(scope="module", params=trainings(), ids="-".join)
def step(request):
    """One training step: case, mask, network, batch, recorded outputs and losses."""
    name, mask = request.param
    case, system = CASES[name], build(name).train()
    data = batch(case, case["train_masks"][mask])
    seen = record(system, "decode", "targets")
    system.decoder[-1].register_forward_hook(lambda *args: seen.update(coarsest_level=args[2]))
    return case, mask, system, data, seen, MAM.objectives["train"](system, data).named()


def test_training_outputs_match(step):
    case, mask, system, data, seen, _ = step
    prediction = seen["decode"]
    # The reference's head of the coarsest level, which has weight 0 in the loss and which we omit.
    weight, bias = (state(case["name"])[f"{DEAD_HEAD}.{leaf}"] for leaf in ("weight", "bias"))
    levels = [prediction.logits, *prediction.deep_supervision, conv3d(seen["coarsest_level"], weight, bias)]
    for level, logits in enumerate(levels):
        stride = [max(1, step // 2**level) for step in case["stride"]]
        check(case, f"train.{mask}.logits{level}", turned(logits), stride)
    check_coarsest(case, f"train.{mask}.bottleneck", prediction.coarsest)

    expected = case["results"][f"train.{mask}.losses"]
    target = at_level(region_channels(data.labels, system.out_channels), len(levels) - 1)
    last = level_losses(levels[-1], target)
    named = {"bce_per_scale": last["ce"], "dice_per_scale": last["dice"]}
    for key, value in named.items():
        assert value.item() == pytest.approx(expected[key][-1], abs=TOLERANCE["losses_abs"]), key


def test_losses_and_gradients_match(step):
    case, mask, system, data, seen, named = step
    expected = case["results"][f"train.{mask}.losses"]
    for kind, key in (("ce", "bce_per_scale"), ("dice", "dice_per_scale")):
        found = [named[f"level{level}_{kind}"].item() for level in range(len(expected[key]) - 1)]
        assert found == pytest.approx(expected[key][:-1], abs=TOLERANCE["losses_abs"])
    reconstructed = named.get("reconstructed", torch.zeros(()))
    found = {"total": named["total"], "mse": reconstructed, "seg": named["total"] - reconstructed}
    for key, value in found.items():
        assert value.item() == pytest.approx(expected[key], abs=TOLERANCE["losses_abs"]), key
    errors = mean_errors(seen, ~data.available)
    assert errors == pytest.approx(expected["mse_per_missing_modality"], abs=TOLERANCE["losses_abs"])

    named["total"].backward()
    check_gradients(case, mask, dict(system.named_parameters()))


def mean_errors(seen, missing):
    """Return the mean squared error of reconstruction per missing modality, in the fixture's order."""
    if not missing.any():
        return []
    errors = (seen["decode"].coarsest.detach() - seen["targets"]).square().mean((0, 2, 3, 4, 5))
    return [errors[MODALITIES.index(m)].item() for m in MODALITY_ORDER if missing[0, MODALITIES.index(m)]]


def check_gradients(case, mask, ours):
    results = case["results"]
    for name, expected in results[f"train.{mask}.grad_abs_sum"].items():
        gradient = None if UNUSED.match(name) else ours[our_name(name)].grad
        if expected:
            assert gradient.abs().sum().item() == pytest.approx(expected, rel=TOLERANCE["grads_rel"]), name
        else:
            assert gradient is None or (expected == 0 and not gradient.any()), name
    gradients = [p.grad for p in ours.values() if p.grad is not None]
    norm = torch.stack([g.norm() for g in gradients]).norm().item()
    assert norm == pytest.approx(results[f"train.{mask}.grad_norm"], rel=TOLERANCE["grads_rel"])
    expected = {name for name in results[f"train.{mask}.no_grad_params"]["not_under_encoder"] if not UNUSED.match(name)}
    without = {name for name, _ in case["parameters"] if not UNUSED.match(name) and ours[our_name(name)].grad is None}
    # Encoders of missing modalities have a gradient of zero in the reference, and none here.
    missing = tuple(f"modality_specific_encoders.{i}." for i, flag in enumerate(case["train_masks"][mask]) if not flag)
    assert {name for name in without if not name.startswith(missing)} == expected
