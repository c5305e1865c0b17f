"""Robust-Mseg and SFusion beyond the laws of systems: styles, images, modules that do not run, and losses."""

import math

import pytest
import torch
from torch.nn.functional import instance_norm

from anymri.errors import WeightsError
from anymri.modalities import ALL, MODALITIES, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch
from anymri.systems.families.disentangling.blocks import adaptive_instance_norm
from anymri.systems.families.disentangling.objective import prior_divergence
from parity import reference

CROP = 16
SMALL = {
    "robust_mseg": {"width": 2, "style_width": 2, "crop": CROP},
    "sfusion": {"width": 4, "style_width": 2, "crop": CROP, "grid": 2, "layers": 1},
}
SOME = Subset.parse("T1c+FLAIR")


@pytest.fixture(params=SMALL)
def name(request):
    return request.param


def create(name, **switches):
    torch.manual_seed(0)
    return registry.create(name, **{**SMALL[name], **switches})


def images(batch_size=1):
    return torch.randn(batch_size, 4, CROP, CROP, CROP, generator=torch.Generator().manual_seed(1))


def batch_of(present, available):
    labels = torch.randint(0, 4, (len(present), CROP, CROP, CROP), generator=torch.Generator().manual_seed(2))
    return Batch.of(images(len(present)), labels, present, available)


def objective(name, system, batch, which="train"):
    return registry.spec(name).objectives[which](system, batch).named()


def modules_run(system):
    """Return a set that collects the names of modules as they run."""
    ran = set()
    for name, module in system.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    return ran


def encoders(ran, kind):
    return {name.split(".")[1] for name in ran if name.startswith(f"{kind}_encoders.")}


@torch.inference_mode()
def test_segmentation_runs_only_content_encoders_of_the_subset(name):
    system = create(name)
    ran = modules_run(system)
    system(images(), SOME.as_tensor())
    assert encoders(ran, "content") == set(SOME) and not encoders(ran, "style")
    assert not [each for each in ran if each.startswith("image_decoders")]
    assert "segmentation_decoder.out" in ran


@torch.inference_mode()
def test_reconstruction_uses_the_styles_of_the_subset_alone(name):
    system = create(name)
    ran = modules_run(system)
    encoding = system.encode(images(), ALL.as_tensor())
    reconstructed = system.decode(encoding, SOME.as_tensor(), reconstruct=True).reconstruction
    assert encoders(ran, "style") == set(SOME)
    holey = images().masked_fill(~SOME.as_tensor()[..., None, None, None], torch.nan)
    alone = system.decode(system.encode(holey, SOME.as_tensor()), SOME.as_tensor(), reconstruct=True).reconstruction
    torch.testing.assert_close(reconstructed, alone, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_reconstructed_image_has_the_style_of_its_scan(name):
    """Another FLAIR, whose content is not fused, changes the reconstructed FLAIR alone."""
    system = create(name)
    content = system(images(), Subset.parse("T1").as_tensor()).content
    other = images()
    other[:, 3] = 3 * other[:, 3].square()
    one, two = (system.reconstruct(content, each, ALL.as_tensor()).images for each in (images(), other))
    assert [not torch.equal(a, b) for a, b in zip(one[0], two[0], strict=True)] == [False, False, False, True]


def test_reconstruction_losses_cover_all_scans_that_exist(name):
    """T1 exists in one sample, T2 in none; FLAIR is missing from the step's subset and reconstructed."""
    present = torch.cat([Subset.parse("T1+T1c+FLAIR").as_tensor(), Subset.parse("T1c+FLAIR").as_tensor()])
    available = torch.cat([Subset.parse("T1+T1c").as_tensor(), Subset.parse("T1c").as_tensor()])
    system = create(name, dropout=0.0, **({"token_dropout": 0.0} if name == "sfusion" else {})).train()
    ran = modules_run(system)
    named = objective(name, system, batch_of(present, available))
    assert encoders(ran, "style") == {"T1", "T1c", "FLAIR"} and encoders(ran, "content") == {"T1", "T1c"}
    supervised = ("t1", "t1c", "flair")
    terms = {f"{kind}_{m}" for kind in ("rec", "kl") for m in supervised}
    assert named.keys() == terms | {"ce", "dice", "rec", "kl", "total"}
    for kind in ("rec", "kl"):
        assert named[kind].item() == pytest.approx(sum(named[f"{kind}_{m}"].item() for m in supervised))
    expected = named["ce"] + named["dice"] + 0.1 * named["rec"] + 0.1 * named["kl"]
    assert named["total"].item() == pytest.approx(expected.item())
    first = objective(name, system, Batch(*(tensor[:1] for tensor in vars(batch_of(present, available)).values())))
    for term in ("rec_t1", "kl_t1"):
        assert named[term].item() == pytest.approx(first[term].item(), rel=1e-4)


def test_summed_divergence_is_the_mean_times_the_channels(name):
    system, batch = create(name).train(), batch_of(ALL.as_tensor(), SOME.as_tensor())
    named = []
    for which in ("train", "train_summed_divergence"):
        torch.manual_seed(3)
        named.append(objective(name, system, batch, which))
    channels = 8 * SMALL[name]["width"]
    assert named[1]["kl"].item() == pytest.approx(channels * named[0]["kl"].item())
    assert named[1]["rec"].item() == pytest.approx(named[0]["rec"].item())


def test_network_without_reconstruction_trains_segmentation_alone(name):
    system = create(name, reconstruction=False).train()
    named = objective(name, system, batch_of(ALL.as_tensor(), ALL.as_tensor()))
    assert named.keys() == {"ce", "dice", "total"}
    assert not [n for n, _ in system.named_parameters() if n.startswith(("style", "image"))]
    encoding = system.encode(images(), ALL.as_tensor())
    assert system.decode(encoding, ALL.as_tensor(), reconstruct=True).reconstruction is None


def test_divergence_ignores_the_sign_of_the_deviation():
    found = prior_divergence(torch.tensor(2.0), torch.tensor([0.5, -0.5]))
    expected = 0.5 * (0.25 + 4 - 1 - math.log(0.25))
    assert found.tolist() == pytest.approx([expected, expected])


@pytest.mark.parametrize("deviation", [0.0, 1e-30, 1e15])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_divergence_and_its_gradients_are_limited(deviation, dtype):
    """As published, logarithms of variances are clamped to -50..50."""
    deviation = torch.tensor(deviation, dtype=dtype, requires_grad=True)
    found = prior_divergence(torch.zeros((), dtype=dtype), deviation)
    found.backward()
    limit = 50 if deviation > 1 else -50
    assert found.item() == pytest.approx(0.5 * (math.exp(limit) - 1 - limit)) and deviation.grad == 0


def test_adaptive_norm_sets_mean_and_deviation_of_each_channel():
    features = torch.randn(2, 3, 4, 4, 4)
    scale, shift = (torch.randn(2, 3, 1, 1, 1) for _ in range(2))
    styled = adaptive_instance_norm(features, scale, shift, eps=0.0)
    torch.testing.assert_close(styled.mean((2, 3, 4), keepdim=True), shift)
    torch.testing.assert_close(styled.std((2, 3, 4), keepdim=True), scale.abs())
    biased = scale * instance_norm(features, eps=0.0) * math.sqrt(63 / 64) + shift
    torch.testing.assert_close(styled, biased, rtol=1e-4, atol=1e-5)
    flat = adaptive_instance_norm(torch.ones(1, 3, 4, 4, 4), scale[:1], shift[:1], eps=1e-5)
    torch.testing.assert_close(flat, shift[:1].expand_as(flat))


def test_missing_and_foreign_names_of_a_checkpoint_are_listed(name):
    shapes = dict(map(tuple, reference.load(name)["parameters"]))
    with torch.device("meta"):
        state = {each: torch.empty(shape) for each, shape in shapes.items()}
    del state[list(state)[1]]
    state["stranger.weight"] = torch.empty(1)
    with pytest.raises(WeightsError, match=r"1 missing \(style_encoders\.\w+\.convs\.\d.*1 foreign \(stranger\.weight"):
        registry.spec(name).convert(state)
    with pytest.raises(WeightsError, match="not one of"):
        registry.spec(name).convert({"stranger.weight": torch.empty(1)})


def test_modules_are_in_our_order_of_modalities(name):
    system = create(name)
    assert [*system.content_encoders] == [*system.style_encoders] == [*system.image_decoders] == [*MODALITIES]
