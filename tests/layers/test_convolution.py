from unittest.mock import patch

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from anymri.layers import compiled_convolution, convolution, instance_norm
from anymri.layers.convolution import Conv3d, ConvTranspose3d, conv3d
from anymri.layers.instance_norm import InstanceNorm, NormedConv3d
from anymri.layers.packed_convolution import packed_conv3d
from recurrence import needs_numba

# Channels, output channels, sides, kernel, stride, padding, groups: small ones that torch computes by its slow kernels,
# odd numbers of outputs, one output along x, single channels and kernels, and one that torch gives to oneDNN itself.
SHAPES = {
    "small": (4, 6, (8, 6, 10), 3, 1, 1, 1),
    "strided": (4, 6, (8, 6, 10), 3, 2, 1, 1),
    "odd": (4, 6, (5, 5, 5), 3, 2, 1, 1),
    "flat": (4, 6, (1, 4, 3), 3, 1, 1, 1),
    "one channel": (1, 4, (8, 8, 8), 3, 1, 1, 1),
    "side 1": (4, 3, (8, 6, 7), 1, 1, 0, 1),
    "side 1 of one channel": (1, 4, (9, 8, 8), 1, 1, 0, 1),
    "side 1 strided": (4, 3, (8, 8, 8), 1, 2, 0, 1),
    "even kernel": (3, 5, (8, 8, 8), 4, 2, 1, 1),
    "groups": (4, 4, (6, 7, 8), 3, 1, 1, 4),
    "large": (8, 2, (52, 52, 3), 3, 1, 1, 1),
    "few outputs": (8, 8, (5, 4, 32), 3, 1, 1, 1),
    "few outputs of one channel": (1, 4, (4, 5, 48), 3, 1, 1, 1),
    "few outputs of many channels": (20, 12, (3, 1, 64), 3, 1, 1, 1),
    "few outputs of long rows": (6, 4, (2, 5, 64), 3, 1, 1, 1),
}


@pytest.fixture(params=SHAPES)
def arguments(request):
    channels, outputs, sides, side, stride, padding, groups = SHAPES[request.param]
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, channels, *sides, generator=generator)
    weight = torch.randn(outputs, channels // groups, side, side, side, generator=generator)
    bias = torch.randn(outputs, generator=generator)
    return [each.requires_grad_() for each in (features, weight, bias)], (stride,) * 3, (padding,) * 3, groups


@pytest.mark.parametrize("batch", [1, 2])
def test_convolution_and_gradients_equal_those_of_torch(arguments, batch):
    [features, *parameters], stride, padding, groups = arguments
    features = features.detach().repeat(batch, 1, 1, 1, 1).requires_grad_()
    leaves = [features, *parameters]
    ours = conv3d(*leaves, stride, padding, groups=groups)
    expected = functional.conv3d(*leaves, stride, padding, groups=groups)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-4)
    direction = torch.randn_like(expected)
    pairs = zip(*(torch.autograd.grad(output, leaves, direction) for output in (ours, expected)), strict=True)
    for found, reference in pairs:
        torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-3)


def test_convolution_without_gradients_equals_that_of_torch_and_has_channels_last(arguments):
    leaves, stride, padding, groups = arguments
    with torch.inference_mode():
        ours = conv3d(*leaves, stride, padding, groups=groups)
        torch.testing.assert_close(
            ours, functional.conv3d(*leaves, stride, padding, groups=groups), rtol=1e-5, atol=1e-4
        )
    assert ours.stride(1) == 1


@pytest.mark.parametrize("gradients", [True, False])
def test_small_crops_are_not_computed_by_the_slow_kernels_of_torch(gradients):
    features, weight = torch.randn(1, 4, 8, 8, 8), torch.randn(4, 4, 3, 3, 3, requires_grad=gradients)
    with torch.set_grad_enabled(gradients), torch.profiler.profile() as profile:
        output = conv3d(features, weight, padding=(1, 1, 1))
        if gradients:
            output.sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert any("mkldnn_convolution" in name for name in names)
    assert not any("slow_conv" in name for name in names)


def test_convolution_runs_without_onednn(arguments, monkeypatch):
    leaves, stride, padding, groups = arguments
    expected = conv3d(*leaves, stride, padding, groups=groups)
    monkeypatch.setattr(convolution, "fast", lambda _: False)
    found = conv3d(*leaves, stride, padding, groups=groups)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("outputs", "stride", "sides"), [(6, 2, (8, 8, 8)), (4, 1, (2, 5, 48)), (8, 1, (6, 2, 32))])
@pytest.mark.parametrize("gradients", [True, False])
def test_module_pads_by_reflection_as_that_of_torch(outputs, stride, sides, gradients):
    torch.manual_seed(0)
    module, features = Conv3d(4, outputs, 3, stride, padding=1, padding_mode="reflect"), torch.randn(1, 4, *sides)
    plain = torch.nn.Conv3d(4, outputs, 3, stride, padding=1, padding_mode="reflect")
    plain.load_state_dict(module.state_dict())
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(module(features), plain(features), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolution_and_gradients_equal_those_of_torch(bias):
    torch.manual_seed(0)
    module, features = ConvTranspose3d(6, 5, 2, bias=bias), torch.randn(2, 6, 3, 4, 5, requires_grad=True)
    ours = module(features)
    expected = functional.conv_transpose3d(features, module.weight, module.bias, 2)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    assert ours.stride(1) == 1
    leaves, direction = [features, *module.parameters()], torch.randn_like(expected)
    pairs = zip(*(torch.autograd.grad(output, leaves, direction) for output in (ours, expected)), strict=True)
    for found, reference in pairs:
        torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-4)


def test_multiply_adds_are_counted():
    features, weight = torch.randn(1, 4, 8, 8, 8), torch.randn(4, 4, 3, 3, 3)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        conv3d(features, weight, padding=(1, 1, 1))
    assert counter.get_total_flops() == 2 * weight.numel() * 8**3


def test_bfloat16_under_autocast_gives_bfloat16():
    with torch.autocast("cpu", torch.bfloat16):
        assert conv3d(torch.randn(1, 4, 8, 8, 8), torch.randn(4, 4, 3, 3, 3)).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mirrored_margins_under_autocast_are_those_of_bfloat16(dtype, monkeypatch):
    monkeypatch.setattr(compiled_convolution, "_pairs_are_slow", lambda: True)
    torch.manual_seed(0)
    features = torch.randn(1, 8, 32, 32, 32).to(dtype)
    module = Conv3d(8, 4, 3, padding=1, padding_mode="reflect")
    expected = functional.conv3d(functional.pad(features.float(), (1,) * 6, "reflect"), module.weight, module.bias)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = module(features)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("sides", [(2, 3, 4), (3, 2, 4)])
def test_gradients_of_kernels_longer_than_features_are_those_of_float32(sides):
    """In bfloat16, some CPUs return whatever is in memory: NaN, after these."""
    features, weight = torch.randn(2, 16, *sides), torch.randn(32, 16, 3, 3, 3, requires_grad=True)
    [expected] = torch.autograd.grad(conv3d(features, weight, padding=(1, 1, 1)).square().sum(), weight)
    for length in (1000, 14_000, 100_000):
        torch.full((length,), torch.nan)
    with torch.autocast("cpu", torch.bfloat16):
        output = conv3d(features, weight, padding=(1, 1, 1))
    [found] = torch.autograd.grad(output.square().sum(), weight)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("block", [(2, 2, 2), (1, 2, 4), (1, 1, 2)])
@pytest.mark.parametrize("side", [3, 7])
def test_packed_convolution_and_gradients_equal_the_plain_ones(block, side):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 3, 4, 8, 8), (2, 3, side, side, side), (2,)
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    ours, expected = packed_conv3d(*leaves, block), functional.conv3d(*leaves, padding=side // 2)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
    pairs = zip(*(torch.autograd.grad(output.square().sum(), leaves) for output in (ours, expected)), strict=True)
    for found, reference in pairs:
        torch.testing.assert_close(found, reference, rtol=1e-9, atol=1e-9)


# Features of a million numbers, whose norm is compiled too; a row along z with an empty half of vectors, odd channels.
COMPILED = [((1, 8, 64, 48, 48), 8), ((2, 5, 80, 64, 48), 4), ((1, 24, 40, 40, 32), 12)]


@needs_numba
@pytest.mark.parametrize(("shape", "outputs"), COMPILED, ids=str)
@pytest.mark.parametrize(("gains", "padding_mode"), [(True, "zeros"), (False, "zeros"), (True, "reflect")])
def test_norm_and_convolution_in_one_pass_equal_those_of_torch(shape, outputs, gains, padding_mode):
    torch.manual_seed(0)
    features = (torch.randn(shape) * 2 + 3).to(memory_format=torch.channels_last_3d)
    norm = InstanceNorm(shape[1], gains=gains, slope=0.1)
    if gains:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    module = NormedConv3d(norm, Conv3d(shape[1], outputs, 3, padding=1, padding_mode=padding_mode))
    plain = torch.nn.Conv3d(shape[1], outputs, 3, padding=1, padding_mode=padding_mode)
    plain.load_state_dict(module.conv.state_dict())
    normed = functional.instance_norm(features, weight=norm.weight, bias=norm.bias)
    expected = plain(functional.leaky_relu(normed, 0.1))
    with torch.inference_mode(), patch.object(instance_norm, "instance_norm") as apart:
        torch.testing.assert_close(module(features), expected, rtol=0, atol=1e-5)
    apart.assert_not_called()
    torch.testing.assert_close(module(features), expected, rtol=0, atol=1e-5)


@needs_numba
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_a_compiled_convolution(threads):
    torch.manual_seed(0)
    features, weight = torch.randn(1, 8, 7, 5, 32), torch.randn(4, 8, 3, 3, 3)
    expected = conv3d(features, weight, padding=(1, 1, 1))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    found = conv3d(features, weight, padding=(1, 1, 1))
    torch.set_num_threads(before)
    assert torch.equal(found, expected)


@needs_numba
@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="needs a CPU with AVX512-BF16")
@pytest.mark.parametrize(("channels", "outputs"), [(8, 8), (5, 4), (1, 8), (20, 12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_compiled_convolution_under_autocast_rounds_factors_to_bfloat16(
    channels, outputs, dtype, padding_mode, monkeypatch
):
    monkeypatch.setattr(compiled_convolution, "_pairs_are_slow", lambda: False)
    torch.manual_seed(0)
    features = torch.randn(2, channels, 4, 5, 48).to(dtype)
    module = Conv3d(channels, outputs, 3, padding=1, padding_mode=padding_mode)
    plain = torch.nn.Conv3d(channels, outputs, 3, padding=1, padding_mode=padding_mode)
    plain.load_state_dict({**module.state_dict(), "weight": module.weight.bfloat16().float()})
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            found = module(features)
        expected = plain(features.bfloat16().float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("view", ["channel", "every second voxel", "expanded"])
def test_views_of_one_channel_are_convolved(view):
    volume = torch.randn(1, 3, 6, 6, 32)
    features = {
        "channel": volume.contiguous(memory_format=torch.channels_last_3d)[:, 1:2],
        "every second voxel": volume[:, :1, :, :, ::2],
        "expanded": volume[:1, :1, :1, :1, :1].expand(1, 1, 6, 6, 32),
    }[view]
    conv = Conv3d(1, 4, 3, padding=1)
    expected = torch.nn.functional.conv3d(features, conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(conv(features), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(conv(features), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sides", "stride", "padding"), [((1, 5, 33), 2, 1), ((1, 32, 3), 1, 1), ((33, 6, 3), 1, 0)])
def test_bfloat16_of_few_voxels_is_right(sides, stride, padding):
    """On CPUs with AMX, oneDNN returned what was in memory where the kernel had one position on an axis."""
    conv = Conv3d(1, 4, 3, stride=stride, padding=padding)
    features = torch.randn(1, 1, *sides)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = conv(features).float()
    torch.testing.assert_close(
        found, torch.nn.functional.conv3d(features, conv.weight, conv.bias, stride, padding), rtol=0.05, atol=0.05
    )
