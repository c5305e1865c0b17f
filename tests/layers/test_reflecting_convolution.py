"""Convolution with a mirrored margin, computed from one with a margin of zeros."""

from functools import partial

import pytest
import torch
from torch.nn.functional import conv3d, pad

from anymri.layers import convolution
from anymri.layers.convolution import Conv3d
from anymri.layers.reflecting_convolution import reflecting_conv3d


def divided(features, weight, bias):
    return reflecting_conv3d(partial(conv3d, padding=1), features, weight, bias)


def plain(features, weight, bias):
    return conv3d(pad(features, (1,) * 6, "reflect"), weight, bias)


@pytest.mark.parametrize("sides", [(4, 5, 6), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("has_bias", [True, False])
def test_output_and_gradients_equal_those_of_the_mirrored_features(sides, channels, has_bias):
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, channels, *sides), (5, channels, 3, 3, 3), *([(5,)] if has_bias else [])]
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    features, weight, *bias = leaves
    outputs = [convolve(features, weight, *(bias or [None])) for convolve in (divided, plain)]
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    direction = torch.randn(outputs[0].shape, generator=generator, dtype=torch.float64)
    for pair in zip(*(torch.autograd.grad(output, leaves, direction) for output in outputs), strict=True):
        torch.testing.assert_close(*pair, rtol=1e-12, atol=1e-12)


def test_features_that_others_use_too_keep_their_values_and_get_all_gradients():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 2, 4, 4, 4, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(2, 2, 3, 3, 3, generator=generator, dtype=torch.float64)
    gradients = []
    for convolve in (divided, plain):
        hidden = features * 2
        before = hidden.detach().clone()
        (convolve(hidden, weight, None) * hidden + hidden.square()).sum().backward()
        assert torch.equal(hidden, before)
        gradients.append(features.grad)
        features.grad = None
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_only_large_features_with_few_outputs_are_divided(monkeypatch):
    used = []
    monkeypatch.setattr(convolution, "reflecting_conv3d", lambda *given: used.append(1) or reflecting_conv3d(*given))
    torch.manual_seed(0)
    for outputs, side, stride in ((8, 32, 1), (16, 32, 1), (8, 16, 1), (8, 32, 2)):
        layer = Conv3d(2, outputs, 3, stride, padding=1, padding_mode="reflect")
        features = torch.randn(1, 2, side, side, side)
        expected = torch.nn.Conv3d._conv_forward(layer, features, layer.weight, layer.bias)
        torch.testing.assert_close(layer(features), expected, rtol=1e-4, atol=1e-5)
    assert used == [1]
