"""The Mamba block and the fusion built on it, compared with plain versions over the whole sequence."""

import pytest
import torch
from torch.nn.functional import layer_norm, silu, softplus

from anymri.layers.mamba import KERNEL, Mamba, MambaFusion
from recurrence import recurrence, small_chunks

CHANNELS, VOXELS, MODALITIES = 3, 23, 4
SOME = torch.tensor([[True, False, True, False], [False, True, True, True]])


def block(tokens, mamba):
    """Return the output of the block by its definition: (S, L, C) to the same shape."""
    u, z = mamba.in_proj(tokens).chunk(2, dim=-1)
    u = silu(mamba.conv(torch.nn.functional.pad(u.mT, (KERNEL - 1, 0))).mT)
    step, B, C = mamba.x_proj(u).split([mamba.rank, mamba.numbers, mamba.numbers], dim=-1)
    delta = softplus(mamba.dt_proj(step))
    A = -mamba.A_log.exp()
    y, _ = recurrence(u.mT[:, None], delta.mT[:, None], A, B.mT[:, None], C.mT, u.new_zeros(len(u), *A.shape))
    return mamba.out_proj((y.mT + mamba.D * u) * silu(z))


def layer(tokens, fusion):
    """Return the output of the layer around the block by its definition."""
    mixed = block(layer_norm(tokens, (CHANNELS,), fusion.norm.weight, fusion.norm.bias), fusion.mamba) + tokens
    return fusion.head(layer_norm(mixed, (CHANNELS,), fusion.head_norm.weight, fusion.head_norm.bias)) + mixed


def plainly_fused(fusion, features, available):
    """Return the outputs at the fused tokens of the layer over the whole sequence: (S, M, C, V) to (S, C, V)."""
    tokens = features.masked_fill(~available[..., None, None], 0)
    tokens = torch.cat([tokens, fusion.tokens.expand(len(tokens), 1, -1, -1)], dim=1)
    if fusion.interleaved:
        return layer(tokens.permute(0, 3, 1, 2).flatten(1, 2), fusion)[:, MODALITIES :: MODALITIES + 1].mT
    return layer(tokens.transpose(2, 3).flatten(1, 2), fusion)[:, -VOXELS:].mT


def fused(fusion, features, available):
    projected = torch.stack([fusion.project(each) for each in features.unbind(1)], dim=1)
    return fusion(projected, fusion.fused(), available)


@pytest.fixture(params=[True, False], ids=["interleaved", "concatenated"])
def fusion(request):
    torch.manual_seed(0)
    fusion = MambaFusion(CHANNELS, VOXELS, request.param).double()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return fusion


@pytest.fixture
def features():
    return torch.randn(2, MODALITIES, CHANNELS, VOXELS, dtype=torch.float64, requires_grad=True)


def test_fusion_in_slabs_equals_the_layer_over_the_whole_sequence(fusion, features):
    """Compares outputs and gradients; with small chunks, a few voxels have all boundaries of slabs and chunks."""
    inputs = [features, *fusion.parameters()]
    with small_chunks():
        ours = fused(fusion, features, SOME)
        found = torch.autograd.grad(ours.square().sum(), inputs)
    expected = plainly_fused(fusion, features, SOME)
    torch.testing.assert_close(ours, expected)
    for one, other in zip(found, torch.autograd.grad(expected.square().sum(), inputs), strict=True):
        torch.testing.assert_close(one, other)


def test_fused_token_depends_on_earlier_voxels_or_on_all_if_concatenated(fusion, features):
    changed = features.detach().clone()
    changed[..., VOXELS // 2 :] *= -1  # the layer norm would undo a sum or a positive factor
    everything = torch.ones_like(SOME)
    with torch.no_grad():
        before, after = (fused(fusion, each, everything) for each in (features, changed))
    differs = (before - after).abs().amax((0, 1)) > 1e-9
    assert differs[VOXELS // 2 :].all()
    assert differs[: VOXELS // 2].all() != fusion.interleaved
    assert differs[: VOXELS // 2].any() != fusion.interleaved


def test_fusion_ignores_autocast(fusion, features):
    fusion, low = fusion.float(), features.detach().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        lowered = fused(fusion, low, SOME)
    torch.testing.assert_close(lowered, fused(fusion, low.float(), SOME), rtol=0, atol=0)


def test_initial_steps_are_between_a_thousandth_and_a_tenth():
    steps = softplus(Mamba(256).dt_proj.bias)
    assert 0.9e-3 < steps.min() < 2e-3
    assert 0.05 < steps.max() < 0.101


def test_state_has_at_most_256_numbers():
    assert Mamba(300).A_log.shape == (600, 256)
