import pytest
import torch

from anymri.layers import streams
from anymri.layers.convolution import Conv3d
from anymri.layers.streams import encode_each, subset_sum

FLAGS = {
    "all": [[1, 1, 1, 1]],
    "one": [[0, 0, 1, 0]],
    "none": [[0, 0, 0, 0]],
    "of each sample": [[1, 1, 0, 0], [0, 1, 1, 0]],
}


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_sum_over_a_subset_and_gradient_equal_weighted_sums(flags, monkeypatch):
    available = torch.tensor(flags, dtype=torch.bool)
    maps = torch.randn(len(flags), 4, 2, 3, 4, 5, requires_grad=True)
    found = subset_sum(maps, available)
    monkeypatch.setattr(streams, "fast", lambda _: False)
    expected = subset_sum(maps, available)
    torch.testing.assert_close(found, expected)
    if found.requires_grad:
        gradients = [torch.autograd.grad(each.square().sum(), maps)[0] for each in (found, expected)]
        torch.testing.assert_close(*gradients)


def test_sum_over_a_subset_leaves_the_maps_unchanged():
    maps = torch.randn(1, 4, 2, 3, 4, 5)
    before = maps.clone()
    subset_sum(maps, torch.ones(1, 4, dtype=torch.bool))
    assert torch.equal(maps, before)


def test_encodings_keep_channels_last():
    encoders = {name: Conv3d(1, 4, 3, padding=1) for name in "ab"}
    images = torch.randn(1, 2, 6, 7, 8)
    each = {name: lambda image, encoder=encoder: [encoder(image)] for name, encoder in encoders.items()}
    (maps,) = encode_each(each, images, torch.tensor([[True, True]]))
    torch.testing.assert_close(maps[:, 1], encoders["b"](images[:, 1:]))
    assert maps.stride(2) == 1
