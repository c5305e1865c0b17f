"""ShaSpec against the reference's outputs, losses and gradients, in float64. See `reference.py` for the numbers.

Instance norm of a few voxels amplifies rounding so much that float32 shows little.
"""

from functools import cache, partial

import numpy as np
import pytest
import torch

from anymri.inference import tiling
from anymri.inference.tiling import Tiling, Windows
from anymri.inference.windows import predict
from anymri.modalities import MODALITIES, Subset, parse_modality
from anymri.regions import REGIONS
from anymri.systems.batch import Batch
from anymri.systems.registry import spec
from anymri.systems.shaspec.converter import UNUSED, our_name
from parity import filler, reference
from parity.recording import record
from untrained import prepared

FIXTURE = reference.load("shaspec")
SEED, OUTPUTS = FIXTURE["seed"], FIXTURE["outputs"]
STORED = reference.arrays("shaspec")
ORDER = [parse_modality(name) for name in FIXTURE["modality_order"]]
CHANNELS = [ORDER.index(m) for m in MODALITIES]
# Positions of the reference's modalities and regions among ours.
THEIRS = [MODALITIES.index(m) for m in ORDER]
THEIR_REGIONS = [list(REGIONS).index(region) for region in FIXTURE["region_order"]]
EVALUATION = {case["name"]: case for case in FIXTURE["eval_cases"]}
STEPS = {"warmup": FIXTURE["warmup_case"], "training": FIXTURE["training_case"]}
# Tolerance of gradients, relative and as a share of the largest of them (where they are rounding alone).
ROUNDING = 1e-9
GRADIENT_REL = 1e-5


@cache
def state():
    values = filler.fill(SEED, FIXTURE["parameters"], FIXTURE["integers"])
    return {name: torch.from_numpy(value) for name, value in values.items()}


@pytest.fixture(scope="module")
def network():
    converted = spec("shaspec").convert(state())
    built = spec("shaspec").network(**converted.network)
    built.load_state_dict(converted.state)
    return built.double()


@pytest.fixture
def system(network):
    network.zero_grad()
    return network.eval()


def modes(case):
    return [int(number) for number in case["mode"].split(",")]


def images(case):
    """Return images with axes x, y, z from the reference's z, x, y; missing modalities are NaN, where it has zeros."""
    values = reference.noise(SEED, case["input"], case["shape"])[:, CHANNELS].movedim(2, -1).double()
    return values.masked_fill(~available(case)[..., None, None, None], torch.nan)


def available(case):
    return torch.tensor([[channel in modes(case) for channel in CHANNELS]] * case["shape"][0])


def batch(case):
    batch_size, _, *sides = case["shape"]
    classes = FIXTURE["config"]["num_classes"] + 1
    z = reference.noise(SEED, case["label"], [batch_size, *sides]).double()
    labels = (classes / (1 + torch.exp(-z))).floor().clamp(max=classes - 1).long().movedim(1, -1)
    return Batch.of(images(case), labels, torch.ones_like(available(case)), available(case))


def their_logits(logits):
    """Return (..., K, X, Y, Z) with the reference's regions and axes."""
    return logits[..., THEIR_REGIONS, :, :, :].movedim(-1, -3)


def check(name, actual):
    """Compare a whole output by the values that the fixture stored of it, and by its moments."""
    output, values = OUTPUTS[name], actual.detach().numpy()
    assert list(values.shape) == output["shape"]
    if "stats_key" in output:
        tolerance = output["tolerance_abs_float32"]
        moments = [values.mean(), values.std(), np.abs(values).sum()]
        limits = [tolerance, tolerance, tolerance * values.size]
        assert (np.abs(moments - STORED[output["stats_key"]]) <= limits).all()
    if "subsample" in output:
        values = values[(..., *(slice(offset, None, step) for offset, step in output["subsample"]))]
    expected = STORED[output.get("float64_key", name)]
    np.testing.assert_allclose(values, expected, rtol=0, atol=output["tolerance_abs_float64"])


def test_converter_keeps_all_parameters_but_those_of_the_unused_branch(system):
    kept = sum(value.numel() for name, value in state().items() if not UNUSED.match(name))
    assert sum(p.numel() for p in system.parameters()) == kept


@pytest.mark.parametrize("name", EVALUATION)
def test_evaluation_matches(system, name):
    case = EVALUATION[name]
    with torch.inference_mode():
        logits = system(images(case), available(case)).logits
    check(f"eval/{name}/logits", their_logits(logits))


@torch.inference_mode()
def test_blended_windows_match(system, monkeypatch):
    """The windows of the recipe `reference` are where the fixture puts them, and are averaged as there."""
    case, recipe = FIXTURE["sliding_case"], spec("shaspec").recipes["reference"]
    z, x, y = FIXTURE["config"]["crop"]
    subset = Subset.from_flags(available(case)[0].tolist())
    whole = prepared(images(case)[0], subset)
    monkeypatch.setattr(tiling, "VOXELS_PER_PASS", 1)

    def blended(values):
        """Return probabilities, (K, X, Y, Z), of averaged probabilities or logits."""
        chosen = Windows((x, y, z), recipe.window_overlap, recipe.window_blending, values, recipe.window_steps)
        places = [[(a.start, a.stop) for a in (z, x, y)] for x, y, z in Tiling(system, whole, chosen).places]
        assert sorted(np.reshape(places, (-1, 6)).tolist()) == sorted(STORED["sliding/tiles"].astype(int).tolist())
        return their_logits(predict(system, whole, [subset], chosen)[0].probabilities)

    # Windows are added in the default precision.
    monkeypatch.setattr(torch, "zeros", partial(torch.zeros, dtype=torch.double))
    probabilities = blended("probabilities")
    check("sliding/probabilities", probabilities)
    check("sliding/mean_logits", torch.logit(blended("logits")))
    check("sliding/binary_voxels", probabilities.round().sum((-3, -2, -1)))


@pytest.mark.parametrize("name", STEPS)
def test_training_step_matches(system, name, monkeypatch):
    case = STEPS[name]
    # The fixture's first modality replaces the missing ones.
    first = CHANNELS.index(modes(case)[0])
    monkeypatch.setattr(system, "draw_substitute", lambda flags: torch.full((len(flags),), first))
    for method in ("decode", "shared_features", "domain_logits"):
        monkeypatch.setattr(system, method, getattr(system, method))
    seen = record(system.train(), "decode", "shared_features", "domain_logits")
    named = spec("shaspec").objectives["train"](system, batch(case)).named()
    check(f"{name}/logits", their_logits(seen["decode"].logits))
    check(f"{name}/shared_features", seen["shared_features"][:, THEIRS].movedim(-1, -3).flatten(0, 1))
    check(f"{name}/domain_logits", seen["domain_logits"][:, THEIRS][..., THEIRS].flatten(0, 1))
    assert {f"{name}/loss.{loss}" for loss in named} == {key for key in OUTPUTS if key.startswith(f"{name}/loss.")}
    for loss, value in named.items():
        check(f"{name}/loss.{loss}", value)
    named["total"].backward()
    check_gradients(name, dict(system.named_parameters()))


def check_gradients(name, ours):
    """Compare each parameter's sum of absolute gradients; the branch that we omit has none."""
    expected = STORED[f"{name}/grad_abs_sum.f64"]
    tolerance = ROUNDING * expected.max()
    for theirs, total in zip(FIXTURE["parameters"], expected, strict=True):
        if UNUSED.match(theirs):
            assert total <= tolerance, theirs
            continue
        gradient = ours[our_name(theirs)].grad
        if theirs in STEPS[name]["parameters_without_gradient"]:
            assert gradient is None and total == 0, theirs
        else:
            assert gradient.abs().sum().item() == pytest.approx(total, rel=GRADIENT_REL, abs=tolerance), theirs
