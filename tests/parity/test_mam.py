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

FIXTURE = reference.load("mam")
STORED = reference.arrays("mam")
TOLERANCE = FIXTURE["tolerance"]
CASES = {case["name"]: case for case in FIXTURE["cases"]}
MAM = spec("mam")
CHANNELS = [MODALITY_ORDER.index(m) for m in MODALITIES]
DEAD_HEAD = "decoder.seg_layers.0"


@cache
def state(name):
    values = filler.fill(CASES[name]["seed"], dict(map(tuple, CASES[name]["parameters"])), FIXTURE["integers"])
    return {parameter: torch.from_numpy(value) for parameter, value in values.items()}


def build(name):
    converted = MAM.convert(state(name))
    network = MAM.network(**converted.network, heads=CASES[name]["model"]["heads"])
    network.load_state_dict(converted.state)
    return network.eval()


def turned(volumes):
    """Axes z, y, x to x, y, z, or back."""
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
    """Compares an output, in the fixture's order of axes, by every n-th voxel and the moments of the whole."""
    values = actual.detach().double().numpy()
    picked = values[(..., *(slice(None, None, step) for step in stride))]
    np.testing.assert_allclose(picked, STORED[f"{case['name']}/{key}"], rtol=0, atol=TOLERANCE["arrays_abs"])
    moments = [values.mean(), values.std(), np.abs(values).sum()]
    np.testing.assert_allclose(moments, case["results"][key], rtol=TOLERANCE["stats_rel"])


def check_coarsest(case, key, features):
    theirs = features[:, np.argsort(CHANNELS)]
    check(case, key, turned(theirs.flatten(1, 2)))


@pytest.mark.parametrize("name", CASES)
def test_converter_keeps_every_parameter_that_learns(name):
    dead = sum(state(name)[f"{DEAD_HEAD}.{leaf}"].numel() for leaf in ("weight", "bias"))
    converted = MAM.convert(state(name)).state
    assert sum(value.numel() for value in converted.values()) == CASES[name]["live_parameter_count"] - dead


def test_a_whole_checkpoint_converts_with_all_its_second_names():
    stored = state("small")
    blocks = {
        name.replace(f".{part}.", f".all_modules.{number}."): value
        for number, part in enumerate(("conv", "norm"))
        for name, value in stored.items()
        if f".{part}." in name
    }
    whole = stored | blocks
    whole |= {f"decoder.{name}": value for name, value in whole.items() if name.startswith("encoder.")}
    plain, found = (MAM.convert(each) for each in (stored, {"network_weights": whole, "current_epoch": 499}))
    assert found.network == plain.network and found.state.keys() == plain.state.keys()
    assert all(torch.equal(found.state[name], value) for name, value in plain.state.items())


def evaluations():
    return [(name, mask) for name, case in CASES.items() for mask in case["eval_masks"]]


@pytest.mark.parametrize(("name", "mask"), evaluations())
@torch.inference_mode()
def test_evaluation_of_a_subset_matches(name, mask):
    """Absent modalities are NaN, where the reference has their images and does not use what it makes of them."""
    case, system = CASES[name], build(name)
    available = flags(case, case["eval_masks"][mask])
    holey = images(case).masked_fill(~available[..., None, None, None], torch.nan)
    prediction = system(holey, available)
    check(case, f"eval.{mask}.logits", turned(prediction.logits), case["stride"])
    check_coarsest(case, f"eval.{mask}.bottleneck", prediction.coarsest)
    everything, left_out = prediction.coarsest, ~available
    if left_out.any():
        everything[left_out] = system.targets(images(case), left_out)[left_out]
    check_coarsest(case, "encoder_bottleneck", everything)


@pytest.mark.parametrize("mask", CASES["small"]["eval_masks"])
@torch.inference_mode()
def test_a_subset_of_a_shared_encoding_matches(mask):
    case, system = CASES["small"], build("small")
    available = flags(case, case["eval_masks"][mask])
    prediction = system.decode(system.encode(images(case), torch.ones_like(available)), available)
    check(case, f"eval.{mask}.logits", turned(prediction.logits), case["stride"])


def trainings():
    return [(name, mask) for name, case in CASES.items() for mask in case.get("train_masks", ())]


@pytest.mark.parametrize(("name", "mask"), trainings())
@torch.no_grad()
def test_training_outputs_match(name, mask):
    case, system = CASES[name], build(name).train()
    each = batch(case, case["train_masks"][mask])
    features = []
    system.decoder[-1].register_forward_hook(lambda *args: features.append(args[2]))
    prediction = system.decode(system.encode(each.images, each.available), each.available)
    levels = [prediction.logits, *prediction.deep_supervision, unweighted_scores(name, *features)]
    for level, logits in enumerate(levels):
        stride = [max(1, step // 2**level) for step in case["stride"]]
        check(case, f"train.{mask}.logits{level}", turned(logits), stride)
    check_coarsest(case, f"train.{mask}.bottleneck", prediction.coarsest)

    expected = case["results"][f"train.{mask}.losses"]
    target = at_level(region_channels(each.labels, system.out_channels), len(levels) - 1)
    last = level_losses(levels[-1], target)
    named = {"bce_per_scale": last["ce"], "dice_per_scale": last["dice"]}
    for key, value in named.items():
        assert value.item() == pytest.approx(expected[key][-1], abs=TOLERANCE["losses_abs"]), key


def unweighted_scores(name, features):
    """Of the coarsest level, whose head is not ours: the loss gives it no weight."""
    weight, bias = (state(name)[f"{DEAD_HEAD}.{leaf}"] for leaf in ("weight", "bias"))
    return conv3d(features, weight, bias)


@pytest.mark.parametrize(("name", "mask"), trainings())
def test_losses_and_gradients_match(name, mask):
    case, system = CASES[name], build(name).train()
    each = batch(case, case["train_masks"][mask])
    named = MAM.objectives["train"](system, each).named()
    expected = case["results"][f"train.{mask}.losses"]
    for kind, key in (("ce", "bce_per_scale"), ("dice", "dice_per_scale")):
        found = [named[f"level{level}_{kind}"].item() for level in range(len(expected[key]) - 1)]
        assert found == pytest.approx(expected[key][:-1], abs=TOLERANCE["losses_abs"])
    reconstructed = named.get("reconstructed", torch.zeros(()))
    found = {"total": named["total"], "mse": reconstructed, "seg": named["total"] - reconstructed}
    for key, value in found.items():
        assert value.item() == pytest.approx(expected[key], abs=TOLERANCE["losses_abs"]), key
    assert mean_errors(system, each) == pytest.approx(expected["mse_per_missing_modality"], abs=TOLERANCE["losses_abs"])

    named["total"].backward()
    check_gradients(case, mask, dict(system.named_parameters()))


@torch.no_grad()
def mean_errors(system, each):
    """Of what is reconstructed, one a missing modality in the fixture's order."""
    left_out = ~each.available
    if not left_out.any():
        return []
    coarsest = system.decode(system.encode(each.images, each.available), each.available).coarsest
    errors = (coarsest - system.targets(each.images, left_out)).square().mean((0, 2, 3, 4, 5))
    return [errors[MODALITIES.index(m)].item() for m in MODALITY_ORDER if left_out[0, MODALITIES.index(m)]]


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
    without = set(results[f"train.{mask}.no_grad_params"]["not_under_encoder"])
    left = {name for name, _ in case["parameters"] if not UNUSED.match(name) and ours[our_name(name)].grad is None}
    absent = {f"modality_specific_encoders.{i}" for i, present in enumerate(case["train_masks"][mask]) if not present}
    assert {name for name in left if ".".join(name.split(".")[:2]) not in absent} == {
        name for name in without if not UNUSED.match(name)
    }
