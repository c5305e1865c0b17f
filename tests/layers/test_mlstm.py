"""Chunkwise mLSTM against its formula, and the Vision-LSTM block."""

import pytest
import torch

from anymri.layers.mlstm import CHUNK, VisionLSTM, mlstm
from parallel_mlstm import parallel_mlstm

EXTREME = 50.0


def random(length, gates="mild", batch=2, heads=3, channels=5, dtype=torch.float64):
    """Return queries, keys, values and both gates.

    gates  `mild`, `mixed` (+-50 by sign), or the sign of 50 for input and forget gate, such as "+-"
    """
    generator = torch.Generator().manual_seed(length)
    tokens = torch.randn(3, batch, heads, length, channels, generator=generator, dtype=torch.float64)
    drawn = torch.randn(2, batch, heads, length, generator=generator, dtype=torch.float64)
    if gates == "mixed":
        drawn += EXTREME * drawn.sign()
    elif gates != "mild":
        drawn += EXTREME * torch.tensor([1.0 if sign == "+" else -1.0 for sign in gates]).view(2, 1, 1, 1)
    return [tensor.to(dtype).requires_grad_() for tensor in (*tokens, *drawn)]


def output_and_gradients(form, inputs):
    output = form(*inputs)
    towards = torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return output, *torch.autograd.grad(output, inputs, towards.to(output.dtype))


GATES = ["mild", "mixed", "++", "+-", "-+", "--"]


@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("length", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 7])
def test_chunks_equal_the_formula(length, gates):
    inputs = random(length, gates)
    (ours, *our_gradients), (expected, *gradients) = (
        output_and_gradients(form, inputs) for form in (mlstm, parallel_mlstm)
    )
    # The gates determine the scale: outputs down to 1e-20, gradients up to 1e7, some zero up to rounding.
    assert (ours - expected).abs().max() <= 1e-9 * expected.abs().max()
    for found, gradient in zip(our_gradients, gradients, strict=True):
        assert (found - gradient).abs().max() <= 1e-9 * gradient.abs().max() + 1e-15


@pytest.mark.parametrize("gates", GATES)
def test_float32_stays_close_and_finite_over_long_sequences(gates):
    exact = random(2048, gates, batch=1, heads=2)
    single = [tensor.detach().float().requires_grad_() for tensor in exact]
    ours, expected = output_and_gradients(mlstm, single), output_and_gradients(mlstm, exact)
    assert all(tensor.isfinite().all() for tensor in ours)
    # Single voxels are ill-conditioned, where a sum of weights nearly cancels out; most are not.
    error = (ours[0].double() - expected[0]).abs() / (1 + expected[0].abs())
    assert error.median() < 1e-6


@pytest.mark.parametrize("gate", [-1e4, -100.0, 100.0, 1e4])
def test_gates_beyond_the_range_of_exp_stay_finite(gate):
    inputs = random(3 * CHUNK, dtype=torch.float32)
    for shifted in (3, 4):
        gates = [tensor + gate if i == shifted else tensor for i, tensor in enumerate(inputs)]
        output = mlstm(*gates)
        assert output.isfinite().all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(output.square().sum(), inputs))


def kept_for_backward(length):
    """Return the number of bytes that are kept for the backward pass."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        mlstm(*random(length, dtype=torch.float32)).sum()
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


def test_memory_grows_linearly_with_the_length():
    assert kept_for_backward(16 * CHUNK) < 2.1 * kept_for_backward(8 * CHUNK)


@pytest.fixture
def block():
    torch.manual_seed(0)
    block = VisionLSTM(8)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return block


def test_output_of_a_voxel_does_not_depend_on_later_voxels(block):
    features = torch.randn(1, 8, 4, 5, 6)
    changed = features.clone()
    changed[:, :, 2:] += 1
    before, after = block(features), block(changed)
    torch.testing.assert_close(after[:, :, :2], before[:, :, :2])
    assert not torch.isclose(after[:, :, 2:], before[:, :, 2:]).any()


def test_every_parameter_of_the_block_receives_a_gradient(block):
    block(torch.randn(1, 8, 3, 4, 5)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in block.parameters())


def test_block_computes_in_float32_under_autocast(block):
    features = torch.randn(1, 8, 3, 4, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        lowered = block(features)
    torch.testing.assert_close(lowered, block(features.float()), rtol=0, atol=0)


def test_width_not_divisible_by_four_uses_two_heads():
    assert VisionLSTM(6)(torch.randn(1, 6, 2, 3, 4)).shape == (1, 6, 2, 3, 4)
