"""Max pooling against torch's."""

import pytest
import torch
from torch.nn import functional

from anymri.layers.pooling import max_pool3d


@pytest.mark.parametrize("sides", [(4, 6, 8), (4, 5, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_maxima_equal_those_of_torch(sides, dtype):
    features = torch.randn(2, 3, *sides, dtype=dtype)
    features[0, 0, 0, 0, 0] = torch.nan
    expected = functional.max_pool3d(features, 2)
    with torch.inference_mode():
        torch.testing.assert_close(max_pool3d(features), expected, rtol=0, atol=0, equal_nan=True)


def test_gradients_equal_those_of_torch():
    features = torch.zeros(1, 2, 4, 4, 4, requires_grad=True)
    pooled = max_pool3d(features), functional.max_pool3d(features, 2)
    found, expected = (torch.autograd.grad(each.sum(), features)[0] for each in pooled)
    assert torch.equal(found, expected)
