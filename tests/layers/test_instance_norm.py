from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch
from torch.nn import functional
from torch.nn.functional import leaky_relu

from anymri.layers import compiled_norm
from anymri.layers import instance_norm as instance_norm_module
from anymri.layers.batch_norm import BatchNorm
from anymri.layers.convolution import Conv3d
from anymri.layers.instance_norm import GroupNorm, InstanceNorm, NormedConv3d, instance_norm
from recurrence import needs_numba, without_numba

SLOPE = 0.2


@pytest.fixture(params=["torch", pytest.param("compiled", marks=needs_numba)], autouse=True)
def computed_by(request, monkeypatch):
    """Compute the norms of small features by torch and by the compiled functions."""
    monkeypatch.setattr(compiled_norm, "LARGE", 0)
    with nullcontext() if request.param == "compiled" else without_numba():
        yield request.param


def plain(features, weight=None, bias=None, eps=1e-5, slope=1.0):
    return leaky_relu(torch.instance_norm(features, weight, bias, None, None, True, 0.0, eps, False), slope)


@pytest.mark.parametrize("slope", [1.0, SLOPE])
@pytest.mark.parametrize("gains", [True, False])
@pytest.mark.parametrize("shape", [(2, 4, 16, 24, 8), (1, 5, 7, 5, 3), (2, 40, 4, 2, 2)], ids=str)
def test_norm_and_gradients_equal_those_of_torch(shape, gains, slope):
    torch.manual_seed(0)
    leaves = [torch.randn(shape) * 2 + 3, *(torch.randn(shape[1]) for _ in range(2 * gains))]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    ours, expected = instance_norm(*leaves, slope=slope), plain(*leaves, slope=slope)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    direction = torch.randn(shape)
    pairs = zip(*(torch.autograd.grad(output, leaves, direction) for output in (ours, expected)), strict=True)
    for found, reference in pairs:
        torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("slope", [1.0, SLOPE, 0.0])
@pytest.mark.parametrize("groups", [1, 4])
def test_group_norm_and_gradients_equal_those_of_torch(groups, slope):
    torch.manual_seed(0)
    ours = GroupNorm(groups, 8, slope=slope)
    torch.nn.init.normal_(ours.weight)
    torch.nn.init.normal_(ours.bias)
    features = (torch.randn(2, 8, 16, 6, 8) * torch.arange(1, 9).view(-1, 1, 1, 1) + 3).requires_grad_()
    leaves = [features, ours.weight, ours.bias]
    found = ours(features)
    expected = leaky_relu(torch.nn.functional.group_norm(features, groups, ours.weight, ours.bias), slope)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    direction = torch.randn_like(found)
    pairs = zip(*(torch.autograd.grad(output, leaves, direction) for output in (found, expected)), strict=True)
    for gradient, reference in pairs:
        torch.testing.assert_close(gradient, reference, rtol=1e-5, atol=1e-3)


def test_norm_of_many_voxels_is_exact():
    features = torch.randn(1, 2, 96, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 + 30
    expected = plain(features.double(), slope=SLOPE)
    torch.testing.assert_close(instance_norm(features, slope=SLOPE).double(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("threads", [1, 3])
def test_norm_of_nearly_constant_features_is_exact(threads):
    # Far from zero, with a first voxel that is far from the others.
    features = torch.randn(2, 8, 24, 16, 16, generator=torch.Generator().manual_seed(0)) * 1e-3 + 100
    features[..., 0, 0, 0] = 0
    features = features.contiguous(memory_format=torch.channels_last_3d)
    expected = plain(features.double(), slope=SLOPE)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    found = instance_norm(features, slope=SLOPE).double()
    torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)


def test_only_large_features_with_whole_vectors_are_compiled(computed_by, monkeypatch):
    monkeypatch.undo()
    assert compiled_norm.can_norm(torch.zeros(1, 64, 64, 64, 8), SLOPE) == (computed_by == "compiled")
    assert not compiled_norm.can_norm(torch.zeros(1, 8, 8, 8, 8), SLOPE)
    assert not compiled_norm.can_norm(torch.zeros(1, 65, 65, 65, 5), SLOPE)
    assert not compiled_norm.can_norm(torch.zeros(1, 64, 64, 64, 8), 2.0)


@needs_numba
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_before_a_convolution_under_autocast_is_rounded_once(dtype, computed_by, monkeypatch):
    monkeypatch.setattr(compiled_norm, "LARGE_HALF", 0)
    features = (torch.randn(2, 8, 4, 5, 6) * 2 + 3).to(dtype)
    module = NormedConv3d(InstanceNorm(8, slope=SLOPE), Conv3d(8, 6, 3))
    torch.nn.init.normal_(module.norm.weight)
    with torch.inference_mode():
        normed = plain(features.float(), module.norm.weight, module.norm.bias, slope=SLOPE)
        expected = functional.conv3d(normed.bfloat16(), module.conv.weight.bfloat16(), module.conv.bias.bfloat16())
        with torch.autocast("cpu", torch.bfloat16), patch.object(instance_norm_module, "instance_norm") as apart:
            apart.side_effect = instance_norm
            found = module(features)
    assert found.dtype == torch.bfloat16 and apart.called == (computed_by == "torch")
    torch.testing.assert_close(found.float(), expected.float(), rtol=0.01, atol=0.01)


def test_constant_features_become_zero():
    assert instance_norm(torch.full((1, 8, 32, 32, 32), 5.123)).abs().max() < 1e-3


def test_single_voxel_becomes_the_bias():
    norm = InstanceNorm(3)
    torch.nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm(torch.randn(2, 3, 1, 1, 1))[0, :, 0, 0, 0], norm.bias, rtol=0, atol=1e-3)


def test_batch_norm_of_channels_last_is_exact_in_training():
    features = torch.randn(1, 4, 64, 64, 64, generator=torch.Generator().manual_seed(0)) + 3
    norm = BatchNorm(4)
    found = norm(features.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(found.double(), plain(features.double()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [8, 64])
def test_the_gradient_of_a_sum_is_that_of_torch(side):
    features = torch.randn(1, 4, side, side, side, requires_grad=True)
    weight = torch.rand(4, requires_grad=True)
    instance_norm(features, weight).sum().backward()  # an expanded gradient
    torch.testing.assert_close(features.grad, torch.zeros_like(features), rtol=0, atol=1e-4)
