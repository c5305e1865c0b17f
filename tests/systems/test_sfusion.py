"""SFusion beyond the laws of systems: its block, order of modalities, batches of subsets."""

import math

import pytest
import torch

from anymri.errors import ConfigurationError, ShapeError
from anymri.modalities import ALL, MODALITIES, Subset
from anymri.systems import registry
from anymri.systems.sfusion.fusion import SFusionBlock, sinusoids
from anymri.systems.sfusion.network import SEQUENCE

CROP = 16
NETWORK = {"width": 4, "crop": CROP, "grid": 2, "layers": 2, "reconstruction": False}


def create(**switches):
    torch.manual_seed(0)
    return registry.create("sfusion", **{**NETWORK, **switches})


def images(batch_size=1):
    return torch.randn(batch_size, 4, CROP, CROP, CROP, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def block():
    torch.manual_seed(0)
    return SFusionBlock(channels=4, side=12, grid=2, count=4, heads=2, layers=2, dropout=0.1).eval().double()


def features(count):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 4, 12, 12, 12, generator=generator, dtype=torch.float64) for _ in range(count)]


@torch.inference_mode()
@pytest.mark.parametrize("count", [2, 3])
def test_fusion_by_planes_equals_fusion_at_once(block, count):
    maps = features(count)
    # Tokens are means over cubes of six voxels; positions continue from one modality to the next.
    cubes = [f.view(2, 4, 2, 6, 2, 6, 2, 6).mean((3, 5, 7)).flatten(2).mT for f in maps]
    mixed = torch.cat(cubes, dim=1) + sinusoids(8 * count, 4)
    for layer in block.layers:
        mixed = layer(mixed)
    weight = block.upsample.weight.view(4, 6, 6, 6, 4)
    logits = torch.einsum("bnxyzc,eijkc->bnexiyjzk", mixed.view(2, count, 2, 2, 2, 4), weight)
    logits = logits.reshape(2, count, 4, 12, 12, 12)
    expected = (logits.softmax(1) * torch.stack(maps, dim=1)).sum(1)
    torch.testing.assert_close(block(maps, [block.tokens(f) for f in maps]), expected)


@torch.inference_mode()
def test_fusion_of_equal_features_returns_them(block):
    (one,) = features(1)
    torch.testing.assert_close(block([one] * 3, [block.tokens(one)] * 3), one)


@torch.inference_mode()
def test_single_modality_is_returned_without_running_layers(block):
    (one,) = features(1)
    for layer in block.layers:
        layer.register_forward_pre_hook(lambda *_: pytest.fail("a layer ran"))
    assert block([one], [block.tokens(one)]) is one


def test_positions_are_sines_and_cosines():
    table = sinusoids(20, 6)
    for position, channel in ((0, 0), (7, 0), (7, 1), (19, 4), (19, 5)):
        angle = position / (10000 ** (2 * (channel // 2) / 6) + 1e-8)
        assert table[position, channel].item() == pytest.approx(
            (math.cos if channel % 2 else math.sin)(angle), abs=1e-6
        )


def test_layers_have_the_same_initial_weights(block):
    first, second = (torch.cat([p.flatten() for p in layer.parameters()]) for layer in block.layers)
    assert torch.equal(first, second)


@torch.inference_mode()
def test_modalities_are_fused_in_the_published_order():
    """The order of the channels of a network that takes fewer modalities does not matter."""
    for modalities in (MODALITIES, ("FLAIR", "T1c")):
        system = create(modalities=modalities)
        assert [system.modalities[n] for n in system.sequence] == [m for m in SEQUENCE if m in modalities]


@torch.inference_mode()
def test_samples_with_the_same_subset_are_fused_together():
    system = create()
    subsets = [Subset.parse(each) for each in ("T2+FLAIR", "T1", "T2+FLAIR", "T1+T1c+T2+FLAIR")]
    calls = []
    system.fusions[0].register_forward_hook(lambda _, inputs, output: calls.append((len(output), len(inputs[0]))))
    together = system(images(4), torch.cat([s.as_tensor() for s in subsets])).logits
    assert sorted(calls) == [(1, 1), (1, 4), (2, 2)]
    for number, subset in enumerate(subsets):
        alone = system(images(4)[number : number + 1], subset.as_tensor()).logits
        torch.testing.assert_close(together[number : number + 1], alone, rtol=1e-3, atol=1e-3)


def test_another_crop_is_refused():
    with pytest.raises(ShapeError, match=r"cube of 16 voxels.*\n.*16x16x16"):
        create()(torch.zeros(1, 4, 32, 32, 32), ALL.as_tensor())


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        ({"crop": 50, "grid": 8}, "multiple of 64, such as 64"),
        ({"crop": 8, "grid": 1}, "such as 16"),
        ({"width": 6}, "divides"),
    ],
)
def test_invalid_network_is_refused_with_valid_values(switches, message):
    with pytest.raises(ConfigurationError, match=message):
        create(**switches)
