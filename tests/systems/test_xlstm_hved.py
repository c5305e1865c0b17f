"""The switches of XLSTM-HVED: what the common laws ask of the presets, for each of them."""

import pytest
import torch

from anymri.modalities import ALL, SUBSETS, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch

SOME = Subset.parse("T1c+FLAIR")
SWITCHES = [
    {"save_source": "latent"},
    {"save_source": "none"},
    {"save_source": "none", "vil_gate": "none"},
    {"vil_gate": "softmax"},
    {"vil_gate": "none"},
    {"save_source": "latent", "vil_gate": "softmax", "dusfe_levels": 2},
    {"dusfe_levels": 0},
    {"dusfe_levels": 0, "shared_reconstruction": False},
    {"shared_reconstruction": False},
    {"width": 8, "init": "reference", "reference_leak": True},
]


def create(**switches):
    torch.manual_seed(0)
    return registry.create("xlstm_hved", **switches)


def images(system):
    return torch.randn(1, len(system.modalities), 32, 32, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=SWITCHES, ids=lambda switches: " ".join(f"{k}={v}" for k, v in switches.items()))
def system(request):
    return create(**request.param)


@torch.inference_mode()
def test_any_subset_of_a_shared_encoding_equals_the_subset_alone(system):
    encoding = system.encode(images(system), ALL.as_tensor())
    for subset in (SOME, ALL):
        available = subset.as_tensor()
        alone = system(images(system).masked_fill(~available[..., None, None, None], torch.nan), available)
        shared = system.decode(encoding, available)
        torch.testing.assert_close(shared.logits, alone.logits, rtol=1e-4, atol=1e-4)


def test_every_parameter_receives_a_gradient(system):
    labels = torch.randint(0, 4, (1, 32, 32, 48), generator=torch.Generator().manual_seed(2))
    batch = Batch.of(images(system), labels, ALL.as_tensor(), SOME.as_tensor())
    registry.spec("xlstm_hved").objectives["train"](system.train(), batch).named()["total"].backward()
    unreached = [n for n, p in system.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not unreached


@pytest.mark.parametrize("switches", [{}, {"save_source": "latent", "shared_reconstruction": False}])
def test_two_modalities_are_enough(switches):
    system = create(modalities=("T2", "FLAIR"), num_classes=5, **switches)
    available = torch.tensor([[False, True]])
    with torch.inference_mode():
        prediction = system.decode(system.encode(images(system), available), available, reconstruct=True)
    assert prediction.logits.shape == (1, 4, 32, 32, 48)
    assert prediction.reconstruction.shape == (1, 2, 32, 32, 48)


@pytest.mark.parametrize("subset", [SUBSETS[0], SOME], ids=str)
def test_an_absent_encoder_never_runs(subset):
    system = create()
    ran = []
    for depth, level in enumerate(system.levels):
        for name, encoder in level.items():
            encoder.register_forward_hook(lambda *_, where=(depth, name): ran.append(where))
    with torch.inference_mode():
        encoding = system.encode(images(system), ALL.as_tensor())
        ran.clear()
        system.decode(encoding, subset.as_tensor())
        assert {name for _, name in ran} == set(subset) and 0 not in {depth for depth, _ in ran}
        ran.clear()
        system(images(system), subset.as_tensor())
    assert {name for _, name in ran} == set(subset)


def test_the_vision_lstm_starts_with_a_memory_unless_initialised_as_the_reference():
    assert create().vil.forget_gate.bias.min() >= 3
    assert create(init="reference").vil.forget_gate.bias.min() < 3
