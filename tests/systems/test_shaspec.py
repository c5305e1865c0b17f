"""ShaSpec beyond the laws of systems: how often modules run, substitutes, small crops, checkpoints."""

from collections import Counter

import pytest
import torch
from torch import nn

from anymri.errors import ShapeError, WeightsError
from anymri.modalities import ALL, MODALITIES, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch
from anymri.systems.shaspec import blocks
from anymri.systems.shaspec.recipe import RATE, region_dice_loss, ring_distance
from anymri.training.learner import make_optimiser, make_schedule
from anymri.weights.convert import convert_checkpoint
from anymri.weights.store import load_weights
from parity import filler, reference

SOME = Subset.parse("T1c+FLAIR")
ONE_VOXEL = (32, 32, 16)
OBJECTIVES = registry.spec("shaspec").objectives


def create(**switches):
    torch.manual_seed(0)
    return registry.create("shaspec", **{"width": 2, **switches})


def images(*sides, seed=1):
    return torch.randn(1, 4, *(sides or (32, 32, 32)), generator=torch.Generator().manual_seed(seed))


def step(system, objective, subset, *sides):
    scans = images(*sides)
    labels = torch.randint(0, 4, (1, *scans.shape[2:]), generator=torch.Generator().manual_seed(2))
    return OBJECTIVES[objective](system.train(), Batch.of(scans, labels, ALL.as_tensor(), subset.as_tensor())).named()


@pytest.fixture
def runs():
    """A network, and the number of runs of each of its encoders."""
    system, ran = create(), Counter()
    for name, encoder in (("shared", system.shared), *system.specific.items()):
        encoder.register_forward_hook(lambda *_, name=name: ran.update([name]))
    return system, ran


@torch.inference_mode()
def test_encoders_run_for_available_modalities_and_one_empty_image(runs):
    """The empty image passes the shared encoder once for all subsets."""
    system, ran = runs
    encoding = system.encode(images(), SOME.as_tensor())
    assert ran == {"shared": 2, "T1c": 1, "FLAIR": 1}
    system.decode(encoding, SOME.as_tensor())
    assert ran["shared"] == 3
    system.decode(encoding, Subset.parse("FLAIR").as_tensor())
    assert ran == {"shared": 3, "T1c": 1, "FLAIR": 1}


@torch.inference_mode()
def test_complete_subset_runs_without_an_empty_image(runs):
    system, ran = runs
    system(images(), ALL.as_tensor())
    assert ran == {"shared": 4, **dict.fromkeys(MODALITIES, 1)}


def test_encoders_of_missing_modalities_run_in_the_published_objective_alone(runs):
    system, ran = runs
    step(system, "train_available", SOME)
    assert ran == {"shared": 3, "T1c": 1, "FLAIR": 1}
    ran.clear()
    step(system, "train", SOME)
    assert ran == {"shared": 3, **dict.fromkeys(MODALITIES, 1)}


@pytest.fixture
def standardised(monkeypatch):
    """The number of times that each weight was standardised."""
    counted, plain = Counter(), blocks.standardised
    monkeypatch.setattr(blocks, "standardised", lambda weight: counted.update([id(weight)]) or plain(weight))
    return counted


def test_standardised_kernels_have_mean_0_and_deviation_1():
    weight = torch.randn(3, 2, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double) + 1
    kernels = blocks.standardised(weight).flatten(1)
    std, mean = torch.std_mean(weight.flatten(1), dim=1, keepdim=True)
    torch.testing.assert_close(kernels, (weight.flatten(1) - mean) / std)


@torch.inference_mode()
def test_folded_weights_are_standardised_once_with_the_same_output(runs, standardised):
    system, ran = runs
    expected = system(images(), SOME.as_tensor()).logits
    standardised.clear()
    ran.clear()
    with system.folded_weights():
        for seed in (2, 1):
            logits = system(images(seed=seed), SOME.as_tensor()).logits
    assert set(standardised.values()) == {1} and ran["shared"] == 2 * 2 + 1
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)
    nn.init.normal_(system.shared.stem.conv.weight)
    assert not torch.equal(system(images(), SOME.as_tensor()).logits, expected)


def test_training_step_standardises_each_kernel_once(standardised):
    step(create(), "train", SOME)
    assert set(standardised.values()) == {1}


@pytest.mark.parametrize(
    ("substitute", "subset", "expected"),
    [("first", "T1+T2", "T1"), ("first", "T1c+FLAIR", "FLAIR"), ("first", "T2", "T2"), ("mean", "T1+T2", "T1 T2")],
)
@torch.inference_mode()
def test_missing_modalities_get_the_features_of_an_available_one(substitute, subset, expected):
    system, available = create(substitute=substitute), Subset.parse(subset)
    encoding, seen = system.encode(images(), ALL.as_tensor()), []
    system.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].unflatten(1, (4, -1))[0]))
    system.decode(encoding, available.as_tensor())
    features = dict(zip(MODALITIES, encoding.shared[0], strict=True))
    replacement = torch.stack([features[m] for m in expected.split()]).mean(0)
    for number, modality in enumerate(MODALITIES):
        each = encoding.fused[0, number] if modality in available else replacement
        torch.testing.assert_close(seen[0][number], each)


def test_training_draws_the_substitute_from_available_modalities():
    flags = torch.cat([Subset.parse("T1+T2+FLAIR").as_tensor(), Subset.parse("T1c").as_tensor()])
    draw = create().draw_substitute
    drawn = torch.stack([draw(flags) for _ in range(50)])
    assert set(drawn[:, 0].tolist()) == {0, 2, 3} and set(drawn[:, 1].tolist()) == {1}


def test_crop_with_one_voxel_at_the_bottleneck_trains_and_segments():
    system = create()
    with torch.inference_mode():
        assert system(images(*ONE_VOXEL), SOME.as_tensor()).logits.isfinite().all()
    for objective in OBJECTIVES:
        system.zero_grad()
        step(system, objective, SOME, *ONE_VOXEL)["total"].backward()
        assert all(p.grad.isfinite().all() for p in system.parameters() if p.grad is not None)


def test_crop_need_not_be_a_cube():
    assert create()(images(32, 64, 48), ALL.as_tensor()).logits.shape == (1, 3, 32, 64, 48)
    with pytest.raises(ShapeError, match=r"multiples of 32, along z of 16.*\n.*works is 64x64x48"):
        create()(images(48, 64, 44), ALL.as_tensor())


def test_dice_loss_of_an_empty_region_is_1():
    probabilities = torch.rand(1, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    ones = torch.ones_like(probabilities)
    assert region_dice_loss(probabilities, torch.zeros_like(probabilities)).item() == 1
    assert region_dice_loss(ones, ones).item() == pytest.approx(1 - 16 / 17)


def test_ring_distance_counts_pairs_of_included_modalities():
    shared = torch.tensor([0.0, 1.0, 3.0, 7.0]).view(1, 4, 1, 1, 1, 1)
    everything = ALL.as_tensor()
    assert ring_distance(shared, everything).item() == 1 + 2 + 4 + 7
    assert ring_distance(shared, Subset.parse("T1+T1c+FLAIR").as_tensor()).item() == 1 + 7
    both = torch.cat([everything, SOME.as_tensor()])
    assert ring_distance(shared.repeat(2, 1, 1, 1, 1, 1), both).item() == 14 / 2


def test_published_second_stage_continues_the_schedule():
    """One schedule covers 406,000 steps, of which the first stage takes 245,000."""
    stage = registry.spec("shaspec").recipes["reference"].stages[1]
    optimiser = make_optimiser(stage.optimiser, nn.Linear(1, 1))
    schedule = make_schedule(stage, optimiser)
    settings = optimiser.param_groups[0]
    assert settings["momentum"] == 0.99 and settings["nesterov"] and settings["weight_decay"] == 0
    for step in range(3):
        expected = RATE * (1 - (245_000 + step) / 406_000) ** 0.9
        assert settings["lr"] == pytest.approx(expected, rel=1e-8)
        optimiser.step()
        schedule.step()


class Pickled(nn.Module):
    """Module as in the authors' pickles: its class cannot be imported, and it contains a stray tensor."""

    def __init__(self):
        super().__init__()
        self.stray = torch.zeros(2, 3)


def pickled(fixture):
    """Return a checkpoint as the authors save theirs, with the pickled network, and its parameters by name."""
    whole = Pickled()
    for name, value in filler.fill(fixture["seed"], fixture["parameters"]).items():
        *path, leaf = name.split(".")
        module = whole
        for child in path:
            if child not in module._modules:
                module.add_module(child, Pickled())
            module = module._modules[child]
        module.register_parameter(leaf, nn.Parameter(torch.from_numpy(value)))
    optimiser = torch.optim.SGD(whole.parameters(), lr=0.1, momentum=0.99)
    return {"iter": 1, "val_Dice_best": 0.5, "model": whole, "optimizer": optimiser}, whole.state_dict()


def test_pickled_network_converts_without_its_code(tmp_path):
    fixture = reference.load("shaspec")
    checkpoint, state = pickled(fixture)
    torch.save(checkpoint, tmp_path / "authors.pth")
    convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors")
    system, _ = load_weights(tmp_path / "w.safetensors")
    stem = state["t1ce_enc.backbone.conv1.weight"]
    assert torch.equal(system.specific["T1c"].stem.conv.weight, stem.permute(0, 1, 3, 4, 2))
    whole_tumour = state["shared_dec.cls_conv.0.weight"][fixture["region_order"].index("WT")]
    assert torch.equal(system.decoder.out.weight[0], whole_tumour)


def test_missing_and_foreign_names_are_listed():
    fixture = reference.load("shaspec")
    state = {name: torch.zeros(shape) for name, shape in fixture["parameters"].items()}
    state["stranger.weight"] = state.pop("flair_enc.aspp.conv_cat.0.weight")
    with pytest.raises(WeightsError, match=r"specific\.FLAIR\.context\.join\.conv\.weight.*stranger\.weight"):
        registry.spec("shaspec").convert(state)
    with pytest.raises(WeightsError, match="ShaSpec's reference"):
        registry.spec("shaspec").convert({})
