"""Blocks of the HVED family against their definitions."""

import pytest
import torch

from anymri.systems.families.hved.blocks import AttentiveJoin, SpatialGate, channel_pool


@pytest.fixture(params=[2, 4])
def gate(request):
    torch.manual_seed(request.param)
    return SpatialGate(request.param).double()


def as_published(gate, pooled):
    """Return the gate as two convolutions, depthwise then pointwise, after zero padding."""
    layer = gate.depthwise
    maps = torch.nn.functional.conv3d(pooled, layer.weight, layer.bias, padding=3, groups=layer.groups)
    return gate.pointwise(maps).sigmoid()


def pooled_maps(gate):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, gate.depthwise.in_channels, 5, 8, 9, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("training", [True, False])
def test_gate_equals_its_two_convolutions(gate, training):
    pooled = pooled_maps(gate)
    torch.testing.assert_close(gate.train(training)(pooled), as_published(gate, pooled), rtol=0, atol=1e-12)


def test_gate_changes_with_its_weights(gate):
    pooled = pooled_maps(gate)
    before = gate.eval()(pooled)
    with torch.no_grad():
        gate.depthwise.weight.mul_(-2)
    after = gate(pooled)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, as_published(gate, pooled), rtol=0, atol=1e-12)


def test_gradients_of_a_gate_equal_those_of_its_two_convolutions(gate):
    pooled = pooled_maps(gate).requires_grad_()
    leaves = [pooled, *gate.parameters()]
    ours, expected = (
        torch.autograd.grad(output.square().sum(), leaves) for output in (gate(pooled), as_published(gate, pooled))
    )
    for found, reference in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, reference, rtol=1e-9, atol=1e-9)


def test_attentive_join_amplifies_at_most_twofold_with_the_upsampled_features_first():
    torch.manual_seed(0)
    upsampled, skip = torch.rand(1, 3, 8, 8, 8), torch.rand(1, 2, 8, 8, 8)
    joined = AttentiveJoin()(upsampled, skip)
    ratio = joined / torch.cat([upsampled, skip], dim=1)
    assert ratio.min() > 1 and ratio.max() < 2
    torch.testing.assert_close(ratio[:, 0], ratio[:, 2])


def test_channel_pool_is_maximum_then_mean():
    features = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1, 1)
    assert channel_pool(features).flatten().tolist() == [6.0, 3.0]
