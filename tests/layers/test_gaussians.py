"""Products of Gaussians and their divergences against the formulas."""

from unittest.mock import patch

import pytest
import torch

from anymri.layers.gaussians import Gaussians, subset_divergences
from anymri.modalities import nonempty_subsets
from recurrence import needs_numba, without_numba

ALL = torch.ones(2, 4, dtype=torch.bool)
AVAILABLE = torch.tensor([[True, False, True, False], [True, True, True, True]])


@pytest.fixture
def gaussians():
    generator = torch.Generator().manual_seed(0)
    return Gaussians(torch.randn(2, 4, 6, 2, 3, 2, generator=generator, dtype=torch.float64))


def moments(gaussians, sample, members, eps):
    """Return mean and variance of the product of one sample, by the definition."""
    precision = 1 + sum(1 / (gaussians.log_variance[sample, m].exp() + eps) for m in members)
    weighted = sum(gaussians.mean[sample, m] / (gaussians.log_variance[sample, m].exp() + eps) for m in members)
    return weighted / precision, 1 / precision + eps


def test_product_of_experts_adds_eps_to_every_variance(gaussians):
    posterior = gaussians.product_of_experts(AVAILABLE)
    for sample in range(2):
        members = AVAILABLE[sample].nonzero()[:, 0]
        variances = [gaussians.log_variance[sample, m].exp() + 1e-8 for m in members]
        total = 1 / (1 + 1e-8) + sum(1 / v for v in variances)
        weighted = sum(gaussians.mean[sample, m] / v for m, v in zip(members, variances, strict=True))
        torch.testing.assert_close(posterior.mean[sample], weighted / total, rtol=1e-12, atol=0)
        torch.testing.assert_close(posterior.variance[sample], 1 / total, rtol=1e-12, atol=0)


def divergence(a, b):
    (mean_a, var_a), (mean_b, var_b) = a, b
    return 0.5 * (-1 + var_b.log() - var_a.log() + (var_a + (mean_a - mean_b) ** 2) / (var_b + 0.01)).mean()


def plain(gaussians, present, available):
    """Return both divergences as means over samples and possible subsets, one after the other."""
    prior = torch.zeros(3, 2, 3, 2, dtype=torch.float64), torch.ones(3, 2, 3, 2, dtype=torch.float64)
    inter, to_prior = [], []
    for sample in range(len(present)):
        target = moments(gaussians, sample, available[sample].nonzero()[:, 0], 1e-5)
        for flags in nonempty_subsets(4):
            if (torch.tensor(flags) <= present[sample]).all():
                other = moments(gaussians, sample, [m for m in range(4) if flags[m]], 1e-5)
                inter.append(divergence(target, other))
                to_prior.append(divergence(other, prior))
    return torch.stack(inter).mean(), torch.stack(to_prior).mean()


def test_posterior_is_the_normalised_product(gaussians):
    posterior = gaussians.product(AVAILABLE)
    for sample in range(2):
        mean, variance = moments(gaussians, sample, AVAILABLE[sample].nonzero()[:, 0], 1e-7)
        torch.testing.assert_close(posterior.mean[sample], mean)
        torch.testing.assert_close(posterior.variance[sample], variance)


@pytest.mark.parametrize("present", [ALL, ALL & AVAILABLE.any(0)], ids=["complete", "T1c and FLAIR missing"])
def test_divergences_equal_the_formula(gaussians, present):
    available = AVAILABLE & present
    inter, prior = plain(gaussians, present, available)
    torch.testing.assert_close(subset_divergences(gaussians, present, available), (inter + prior, inter, prior))


def test_closed_form_gradient_equals_autograd(gaussians):
    moments = gaussians.moments.requires_grad_()
    total, _, _ = subset_divergences(Gaussians(moments), ALL, AVAILABLE)
    reference = sum(plain(Gaussians(moments), ALL, AVAILABLE))
    ours, expected = (torch.autograd.grad(0.3 * value, moments)[0] for value in (total, reference))
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


@needs_numba
@pytest.mark.parametrize("channels", [2, 4, 8, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("product", [Gaussians.product, Gaussians.product_of_experts])
def test_compiled_product_equals_the_plain_one(channels, dtype, product):
    generator = torch.Generator().manual_seed(0)
    moments = torch.randn(2, 4, 3, 2, 16, 2 * channels, generator=generator) * 3
    moments[:, 1, ..., channels:] = torch.linspace(-200, 200, channels)
    moments = moments.to(dtype).movedim(-1, 2)
    with without_numba():
        expected = product(Gaussians(moments.double()), AVAILABLE)
    with torch.inference_mode(), patch.object(Gaussians, "naturals") as plain_one:
        found = product(Gaussians(moments), AVAILABLE)
    plain_one.assert_not_called()
    torch.testing.assert_close(found.mean.double(), expected.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.variance.double(), expected.variance, rtol=1e-5, atol=0)


def test_divergences_ignore_autocast(gaussians):
    gaussians = Gaussians(gaussians.moments.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = subset_divergences(gaussians, ALL, AVAILABLE)
    torch.testing.assert_close(found, subset_divergences(gaussians, ALL, AVAILABLE), rtol=0, atol=0)


def test_certain_modalities_do_not_overflow():
    extreme = torch.tensor([-200.0, 200.0, 0.0, 50.0]).view(1, 4, 1, 1, 1, 1).expand(1, 4, 2, 2, 2, 2)
    moments = torch.cat([torch.ones_like(extreme), extreme], dim=2).requires_grad_()
    gaussians = Gaussians(moments)
    total, _, _ = subset_divergences(gaussians, ALL[:1], ALL[:1])
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(moments.grad).all()
