import pytest
import torch
from torch.nn.functional import interpolate

from anymri.layers.upsampling import upsampled


@pytest.mark.parametrize(("sides", "longer"), [((2, 3, 4), (8, 9, 10)), ((1, 2, 2), (4, 2, 3))], ids=str)
def test_upsampling_and_its_gradient_equal_those_of_torch(sides, longer):
    features = torch.randn(2, 3, *sides, dtype=torch.float64, requires_grad=True)
    ours = upsampled(features, longer)
    expected = interpolate(features, longer, mode="trilinear", align_corners=True)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn_like(expected)
    found, reference = (torch.autograd.grad(output, features, direction)[0] for output in (ours, expected))
    torch.testing.assert_close(found, reference, rtol=1e-12, atol=1e-12)


def test_upsampling_keeps_float32_under_autocast():
    features = torch.rand(1, 4, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        ours = upsampled(features, (8, 8, 8))
    torch.testing.assert_close(ours, interpolate(features, (8, 8, 8), mode="trilinear", align_corners=True))
