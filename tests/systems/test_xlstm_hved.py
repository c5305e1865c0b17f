"""Switches of XLSTM-HVED: the common laws hold for each of them, not only for the presets."""

import pytest
import torch

from anymri.modalities import ALL, SUBSETS, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch

SIDES = (32, 32, 32)
SOME = Subset.parse("T1c+FLAIR")
# Every value of every switch, and those combinations that take another path.
SWITCHES = [
    {"save_source": "latent", "vil_gate": "softmax", "dusfe_levels": 2},
    {"save_source": "none"},
    {"save_source": "none", "vil_gate": "none", "dusfe_levels": 0, "shared_reconstruction": False},
    {"vil_gate": "none", "dusfe_levels": 0},
    {"shared_reconstruction": False},
    {"width": 8, "init": "reference", "reference_leak": True},
]


def create(**switches):
    torch.manual_seed(0)
    return registry.create("xlstm_hved", **switches)


def images(modalities=4):
    return torch.randn(1, modalities, *SIDES, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=SWITCHES, ids=lambda switches: " ".join(f"{k}={v}" for k, v in switches.items()))
def system(request):
    return create(**request.param)


@torch.inference_mode()
def test_a_subset_of_a_shared_encoding_equals_the_subset_alone(system):
    available = SOME.as_tensor()
    alone = system.eval()(images().masked_fill(~available[..., None, None, None], torch.nan), available)
    shared = system.decode(system.encode(images(), ALL.as_tensor()), available)
    torch.testing.assert_close(shared.logits, alone.logits, rtol=1e-4, atol=1e-4)


def test_every_parameter_receives_a_gradient(system):
    labels = torch.randint(0, 4, (1, *SIDES), generator=torch.Generator().manual_seed(2))
    batch = Batch.of(images(), labels, ALL.as_tensor(), SOME.as_tensor())
    registry.spec("xlstm_hved").objectives["train"](system.train(), batch).total.backward()
    unreached = [n for n, p in system.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not unreached


@pytest.mark.parametrize("switches", [{}, {"save_source": "latent", "shared_reconstruction": False}])
def test_two_modalities_are_enough(switches):
    system = create(modalities=("T2", "FLAIR"), num_classes=5, **switches).eval()
    available = torch.tensor([[False, True]])
    with torch.inference_mode():
        prediction = system.decode(system.encode(images(2), available), available, reconstruct=True)
    assert prediction.logits.shape == (1, 4, *SIDES)
    assert prediction.reconstruction.shape == (1, 2, *SIDES)


@torch.inference_mode()
def test_encoders_of_missing_modalities_never_run():
    system = create()
    ran = []
    for depth, level in enumerate(system.levels):
        for name, encoder in level.items():
            encoder.register_forward_hook(lambda *_, where=(depth, name): ran.append(where))
    encoding = system.encode(images(), ALL.as_tensor())
    for subset in (SUBSETS[0], SOME):
        ran.clear()
        system.decode(encoding, subset.as_tensor())
        assert {name for _, name in ran} == set(subset) and 0 not in {depth for depth, _ in ran}
        ran.clear()
        system(images(), subset.as_tensor())
        assert {name for _, name in ran} == set(subset)


def test_the_reference_initialisation_overwrites_the_forget_gates():
    assert create().vil.forget_gate.bias.min() >= 3
    assert create(init="reference").vil.forget_gate.bias.min() < 3


@pytest.mark.parametrize("switches", [{}, {"dusfe_levels": 0}, {"shared_reconstruction": False}])
def test_logits_begin_without_biases(switches):
    def biases(system):
        decoder = system.segmentation_decoder
        last = [decoder.out, *getattr(decoder, "maps", {}).values()]
        return torch.cat([conv.bias for conv in last])

    assert biases(create(**switches)).eq(0).all()
    assert biases(create(init="reference", **switches)).ne(0).all()
