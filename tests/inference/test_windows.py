"""Windows over a volume: positions, blending, padding."""

import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from anymri.inference.encoded import EncodedVolume
from anymri.inference.tiling import Tiling, Windows, window_starts
from anymri.inference.windows import predict, window_corners
from anymri.modalities import ALL, SUBSETS, Subset
from anymri.systems import registry
from untrained import prepared

SOME = [Subset.parse("T2"), Subset.parse("T1c+FLAIR")]


def small_system():
    torch.manual_seed(0)
    return registry.create("u_hved", preset="nano", width=4)


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("sides", "overlap"), [((40, 33, 32), 0.5), ((32, 32, 32), 0.5), ((41, 20, 36), 0.25)], ids=str
)
def test_windows_equal_those_of_monai(sides, overlap, blending):
    system = small_system()
    images = torch.randn(4, *sides, generator=torch.Generator().manual_seed(1))

    def predict_window(crops):
        encoding = system.encode(crops, ALL.as_tensor(len(crops)))
        decoded = [system.decode(encoding, subset.as_tensor(len(crops))).probabilities() for subset in SOME]
        return torch.cat(decoded, dim=1)

    with torch.inference_mode():
        expected = sliding_window_inference(images[None], (32,) * 3, 64, predict_window, overlap, blending)[0]
    found = predict(system, prepared(images), SOME, Windows((32, 32, 32), overlap, blending))
    together = torch.cat([each.probabilities for each in found])
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-6)


def test_the_last_window_ends_with_the_axis():
    assert window_starts(32, 32, 0.5) == [0]
    assert window_starts(50, 32, 0.5) == [0, 16, 18]
    assert window_starts(64, 32, 0.5) == [0, 16, 32]
    assert window_starts(65, 32, 0.0) == [0, 32, 33]


def test_one_window_equals_a_single_forward_pass():
    system = small_system()
    images = torch.randn(4, 32, 32, 32)
    for subset, found in zip(SOME, predict(system, prepared(images), SOME, Windows((32, 32, 32), 0.5)), strict=True):
        with torch.inference_mode():
            expected = system(images[None], subset.as_tensor()).probabilities()[0]
        torch.testing.assert_close(found.probabilities, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
def test_blending_weighs_windows_where_they_overlap(blending):
    """Two windows that overlap by half: constant blending gives their mean, Gaussian the nearer window."""
    system = small_system()
    images = torch.randn(4, 48, 32, 32)
    found = predict(system, prepared(images), [ALL], Windows((32, 32, 32), 0.5, blending))[0].probabilities
    with torch.inference_mode():
        crops = (images[None, :, x : x + 32] for x in (0, 16))
        first, second = (system(crop, ALL.as_tensor()).probabilities()[0] for crop in crops)
    if blending == "constant":
        mean = (first[:, 16:] + second[:, :16]) / 2
        torch.testing.assert_close(found[:, 16:32], mean, rtol=1e-4, atol=1e-5)
    else:
        # On the line through the middle of the first window, where the second one begins.
        near, far = ((found[:, 16] - w)[:, 14:18, 14:18].abs().mean() for w in (first[:, 16], second[:, 0]))
        assert near < far / 50
    torch.testing.assert_close(found[:, :16], first[:, :16], rtol=1e-4, atol=1e-5)


def test_padding_is_the_background_of_each_modality():
    system = small_system()
    images = torch.randn(4, 20, 32, 32)
    whole = torch.full((4, 32, 32, 32), 3.0)
    whole[:, 6:26] = images
    small = predict(system, prepared(images, background=3.0), [ALL], Windows((32, 32, 32), 0.5))[0]
    large = predict(system, prepared(whole), [ALL], Windows((32, 32, 32), 0.5))[0]
    torch.testing.assert_close(small.probabilities, large.probabilities[:, 6:26], rtol=0, atol=0)


def test_subsets_share_one_encoding_per_window(monkeypatch):
    system = small_system()
    calls = []
    encode = system.encode
    monkeypatch.setattr(system, "encode", lambda *given: calls.append(len(given[0])) or encode(*given))
    predict(system, prepared(torch.randn(4, 40, 32, 32)), SUBSETS, Windows((32, 32, 32), 0.5))
    assert calls == [2]


@pytest.mark.parametrize(("side", "together"), [(64, 1), (32, 8), (16, 64)])
def test_as_many_small_windows_go_together_on_a_cpu_as_fill_one_of_64_voxels(side, together):
    network = registry.create("u_hved", width=2, reconstruction=False)
    tiling = Tiling(network, prepared(torch.zeros(4, 128, 128, 128)), Windows((side,) * 3, 0.0))
    assert {len(places) for places in tiling.groups()} == {together}


@pytest.mark.parametrize("values", ["probabilities", "logits"])
def test_the_temperature_of_a_subset_divides_its_logits(values):
    system, images = small_system(), torch.randn(4, 32, 32, 32)
    windows = Windows((32, 32, 32), 0.5, values=values, temperatures={"T2": 2.5})
    for subset, divisor, found in zip(SOME, (2.5, 1), predict(system, prepared(images), SOME, windows), strict=True):
        with torch.inference_mode():
            logits = system(images[None], subset.as_tensor()).logits[0]
        torch.testing.assert_close(found.probabilities, (logits / divisor).softmax(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("values", ["probabilities", "logits"])
def test_mirrored_windows_give_the_mean_of_the_mirrored_predictions(values):
    system, images = small_system(), torch.randn(4, 32, 32, 32)
    plain, both = (Windows((32, 32, 32), 0.5, values=values, mirrored=axes) for axes in ("", "xz"))
    found = predict(system, prepared(images), SOME, both)
    flips = [(), (1,), (3,), (1, 3)]
    turned = [predict(system, prepared(images.flip(axes)), SOME, plain) for axes in flips]
    for place, mean in enumerate(found):
        each = [getattr(one[place], values).flip(axes) for one, axes in zip(turned, flips, strict=True)]
        torch.testing.assert_close(getattr(mean, values), torch.stack(each).mean(0), rtol=1e-4, atol=1e-5)
        assert (each[0] - each[1]).abs().max() > 1e-3
    kept = EncodedVolume(system, prepared(images), both)
    torch.testing.assert_close(kept.decode(SOME[1]).probabilities, found[1].probabilities)


def test_a_mirrored_window_begins_where_it_ended():
    place = (slice(2, 10), slice(0, 8), slice(4, 12))
    corners = window_corners([place], torch.tensor([0, 0, 100]), (0, 2))
    assert corners.tolist() == [[[9, 0, 111], [2, 7, 104]]]
