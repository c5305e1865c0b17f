"""Crops with three sides: how they are written, and networks with weights per position that take boxes."""

import pytest
import torch

from anymri.errors import ConfigurationError
from anymri.inference.tiling import Tiling, Windows, window_weights
from anymri.inference.windows import predict
from anymri.modalities import ALL
from anymri.systems import registry
from anymri.systems.crops import as_sides, plain
from untrained import prepared

# Small networks with weights for each position in the crop.
NETWORKS = {
    "mam": {"width": 1, "max_width": 16, "crop": "32x64x32"},
    "im_fuse": {"width": 2, "token_width": 8, "mlp_width": 8, "heads": 2, "crop": [32, 48, 32]},
    "mmformer": {"width": 2, "token_width": 8, "mlp_width": 8, "heads": 2, "crop": (32, 48, 32)},
}


@pytest.mark.parametrize(
    ("crop", "sides"),
    [
        (128, (128, 128, 128)),
        ("128", (128, 128, 128)),
        ("128x192x128", (128, 192, 128)),
        ("160X160X80", (160, 160, 80)),
        ([1, 2, 512], (1, 2, 512)),
    ],
)
def test_crop_is_read_from_one_number_or_three(crop, sides):
    assert as_sides(crop) == sides
    assert as_sides(plain(sides)) == sides


@pytest.mark.parametrize(
    "crop", [0, 513, "", "128x128", "1x2x3x4", "axbxc", [1, 2], 1.5, True, None, {"x": 1}, [1.5, 2, 3], "-1x2x3"]
)
def test_what_is_no_crop_is_refused(crop):
    with pytest.raises(ValueError, match="voxels"):
        as_sides(crop)


@pytest.mark.parametrize("system", NETWORKS)
@torch.inference_mode()
def test_network_with_weights_per_position_takes_a_box(system):
    network = registry.create(system, **NETWORKS[system])
    assert network.crop == as_sides(NETWORKS[system]["crop"])
    images = torch.randn(1, 4, *network.crop)
    assert network(images, ALL.as_tensor()).logits.shape[2:] == network.crop
    with pytest.raises(ConfigurationError, match="a box of 32x50x32 voxels"):
        registry.create(system, **NETWORKS[system] | {"crop": "32x50x32"})


def test_windows_cover_a_volume_in_boxes():
    network = registry.create("u_hved", width=2)
    tiling = Tiling(network, prepared(torch.randn(4, 40, 20, 16)), Windows((16, 24, 16), 0.5))
    assert tiling.shape == (40, 24, 16)
    assert {tuple(axis.stop - axis.start for axis in place) for place in tiling.places} == {(16, 24, 16)}
    assert (tiling.sums > 0).all()


@pytest.mark.parametrize(
    ("box", "sides"),
    [
        ((24, 20, 16), (24, 24, 16)),  # one window of one and a half in place of two
        ((60, 25, 32), (16, 24, 16)),  # one window would have too many voxels
        ((60, 10, 11), (16, 16, 16)),  # y and z are shorter than a window
        ((9, 9, 9), (16, 16, 16)),
    ],
    ids=str,
)
def test_windows_are_fitted_to_the_box_of_a_volume(box, sides):
    network = registry.create("u_hved", width=2)
    windows = Windows((16, 24, 16), 0.5, fitted=True)
    images = torch.randn(4, *box)
    tiling = Tiling(network, prepared(images), windows)
    assert tiling.sides == network.usable_crop(sides) == sides
    assert predict(network, prepared(images), [ALL], windows)[0].probabilities.shape[1:] == box


def test_a_fixed_crop_is_not_fitted_to_a_volume():
    network = registry.create("mam", **NETWORKS["mam"])
    tiling = Tiling(network, prepared(torch.randn(4, 20, 20, 20)), Windows((16, 16, 16), 0.5, fitted=True))
    assert tiling.sides == network.crop


def test_gaussian_weights_of_a_box_are_those_of_its_sides():
    weights = window_weights((8, 16, 8), "gaussian")
    cube = window_weights((8, 8, 8), "gaussian")
    assert weights.shape == (8, 16, 8)
    middle = weights[:, 7, :]
    assert torch.allclose(middle / middle.max(), cube[:, 3, :] / cube[:, 3, :].max(), atol=1e-2)
