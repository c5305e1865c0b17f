"""Blocks of the HVED family against their definitions."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from anymri.systems.families.hved.blocks import AttentiveJoin, channel_pool


@pytest.fixture
def join():
    torch.manual_seed(0)
    return AttentiveJoin().double()


@pytest.fixture(params=[(6, 8, 10), (5, 8, 9)], ids=["packed", "odd"])
def pooled(request):
    """Return the pooled maps of upsampled features and of a skip."""
    return torch.randn(2, 4, *request.param, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def as_published(join, pooled):
    """Return each gate as two convolutions, depthwise then pointwise, after zero padding."""
    gates = []
    for gate, read in ((join.skip_gate, pooled), (join.upsampled_gate, pooled[:, :2])):
        layer = gate.depthwise
        maps = torch.nn.functional.conv3d(read, layer.weight, layer.bias, padding=3, groups=layer.groups)
        gates.append(gate.pointwise(maps).sigmoid())
    return torch.cat(gates, dim=1)


@pytest.mark.parametrize("training", [True, False])
def test_gates_equal_their_two_convolutions(join, pooled, training):
    torch.testing.assert_close(join.train(training).gates(pooled), as_published(join, pooled), rtol=0, atol=1e-12)


def test_counted_gates_equal_their_two_convolutions(join, pooled):
    with FlopCounterMode(display=False):
        gates = join.gates(pooled)
    torch.testing.assert_close(gates, as_published(join, pooled), rtol=0, atol=1e-12)


def test_gates_change_with_their_weights(join, pooled):
    before = join.eval().gates(pooled)
    with torch.no_grad():
        join.skip_gate.depthwise.weight.mul_(-2)
    after = join.gates(pooled)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, as_published(join, pooled), rtol=0, atol=1e-12)


def test_gradients_of_gates_equal_those_of_their_two_convolutions(join, pooled):
    pooled.requires_grad_()
    leaves = [pooled, *join.parameters()]
    ours, expected = (
        torch.autograd.grad(output.square().sum(), leaves)
        for output in (join.gates(pooled), as_published(join, pooled))
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
