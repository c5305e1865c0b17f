"""Transposed convolution and convolution folded into one."""

import pytest
import torch
from torch.nn.functional import conv3d

from anymri.layers import upsampled_convolution
from anymri.layers.convolution import ConvTranspose3d
from anymri.layers.upsampled_convolution import upsampled_conv3d


def layers(inputs, channels, outputs, dtype):
    torch.manual_seed(0)
    up = ConvTranspose3d(inputs, channels, 2).to(dtype)
    return up, torch.randn(outputs, channels, 3, 3, 3, dtype=dtype), torch.randn(outputs, dtype=dtype)


@pytest.mark.parametrize("sides", [(4, 5, 6), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
def test_the_folded_convolution_equals_the_two(sides, has_bias, monkeypatch):
    up, weight, bias = layers(7, 5, 6, torch.float64)
    below = torch.randn(2, 7, *sides, dtype=torch.float64)
    given = bias if has_bias else None
    expected = conv3d(torch.nn.ConvTranspose3d.forward(up, below), weight, given, padding=1)
    monkeypatch.setattr(upsampled_convolution, "_pays", lambda *_: True)
    with torch.no_grad():
        torch.testing.assert_close(upsampled_conv3d(below, up, weight, given), expected, rtol=1e-12, atol=1e-12)


def test_folding_is_used_where_the_volume_is_larger_than_the_kernel(monkeypatch):
    up, weight, bias = layers(8, 4, 4, torch.float32)
    used = []
    plain = upsampled_convolution.folded_kernel
    monkeypatch.setattr(upsampled_convolution, "folded_kernel", lambda *given: used.append(1) or plain(*given))
    with torch.no_grad():
        upsampled_conv3d(torch.randn(1, 8, 16, 16, 16), up, weight, bias)
        assert used == [1]
        upsampled_conv3d(torch.randn(1, 8, 2, 2, 2), up, weight, bias)
    upsampled_conv3d(torch.randn(1, 8, 16, 16, 16), up, weight, bias)  # with gradients
    assert used == [1]
