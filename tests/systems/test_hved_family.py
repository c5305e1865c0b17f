"""Losses of the HVED family against values computed by hand."""

import math

import pytest
import torch

from anymri.layers.gaussians import Posterior
from anymri.regions import ED, ET, NCR, RC
from anymri.systems.batch import Batch
from anymri.systems.contract import Prediction
from anymri.systems.families.hved.discriminator import PatchDiscriminator
from anymri.systems.families.hved.objective import (
    discriminator_input,
    prior_divergence,
    reconstruction_loss,
    region_dice_loss,
    region_of_interest,
    with_discriminator,
)
from anymri.systems.losses import StepLoss, region_channels


def column(*values):
    """Return the values of the channels of one voxel, (1, K, 1, 1, 1)."""
    return torch.tensor(values).view(1, -1, 1, 1, 1)


@pytest.mark.parametrize(
    ("tissue", "regions"),
    [(0, [0, 0, 0, 0]), (NCR, [1, 1, 0, 0]), (ED, [1, 0, 0, 0]), (ET, [1, 1, 1, 0]), (RC, [0, 0, 0, 1])],
)
def test_regions_are_nested(tissue, regions):
    labels = torch.full((1, 1, 1, 1), tissue)
    assert region_channels(labels, 4).flatten().tolist() == regions
    assert region_channels(labels, 3).flatten().tolist() == regions[:3]


def test_region_dice_has_squares_in_the_denominator():
    target = torch.tensor([1.0, 1.0, 0.0]).view(1, 1, 3, 1, 1)
    probabilities = torch.tensor([0.5, 1.0, 0.5]).view(1, 1, 3, 1, 1)
    assert region_dice_loss(probabilities, target).item() == pytest.approx(1 - 2 * 1.5 / (1.5 + 2))


def test_region_dice_of_empty_regions_is_finite():
    empty = torch.zeros(1, 3, 2, 2, 2)
    assert region_dice_loss(empty, empty).item() == 1


def test_prior_divergence_equals_the_formula_for_two_gaussians():
    mean, variance = torch.tensor(2.0), torch.tensor(0.25)
    one = Posterior(mean.view(1, 1, 1, 1, 1), variance.view(1, 1, 1, 1, 1))
    zero = Posterior(torch.zeros(1, 1, 1, 1, 1), torch.ones(1, 1, 1, 1, 1))
    expected = 0.5 * (0.25 + 4 - math.log(0.25) - 1)
    assert prior_divergence([one]).item() == pytest.approx(expected)
    assert prior_divergence([one, zero]).item() == pytest.approx(expected / 2)


@pytest.mark.parametrize(
    ("probabilities", "weight"),
    [((0.5, 0.4, 0.1), 0), ((0.9, 0.4, 0.1), 0.9), ((0.9, 0.7, 0.5), 0.7), ((0.9, 0.4, 0.6), 0.6)],
)
def test_region_of_interest_is_the_probability_of_the_innermost_likely_region(probabilities, weight):
    found = region_of_interest(column(*probabilities).requires_grad_())
    assert found.item() == pytest.approx(weight) and not found.requires_grad


def test_discriminator_input_is_probabilities_and_amplified_images():
    prediction = Prediction(column(0.0, 0.0, 2.0), "regions", column(1.0, -2.0))
    likely = torch.tensor(2.0).sigmoid().item()
    received = discriminator_input(prediction).flatten().tolist()
    assert received == pytest.approx([0.5, 0.5, likely, 1 + likely, -2 * (1 + likely)])


def test_reconstruction_loss_ignores_missing_scans():
    batch = Batch.of(column(1.0, math.nan), torch.zeros(1, 1, 1, 1), *[torch.tensor([[True, False]])] * 2)
    assert reconstruction_loss(column(3.0, 5.0), batch).item() == 4


def test_network_and_discriminator_receive_gradients_from_their_losses_alone():
    torch.manual_seed(0)
    outputs = [torch.randn(1, 3, 32, 32, 32, requires_grad=True) for _ in range(4)]
    complete, incomplete = (Prediction(a, "regions", b) for a, b in zip(outputs[::2], outputs[1::2], strict=True))
    discriminator = PatchDiscriminator(6, width=8)
    loss = with_discriminator(StepLoss(torch.zeros(()), {}), complete, incomplete, discriminator)
    real, fake = (discriminator(discriminator_input(prediction)) for prediction in (complete, incomplete))
    assert loss.total.item() == pytest.approx(0.1 * (fake - 1).square().mean().item())
    expected = 0.05 * (fake.square().mean() + (real - 1).square().mean())
    assert loss.discriminator.item() == pytest.approx(expected.item())
    loss.total.backward()
    assert [output.grad is not None for output in outputs] == [False, False, True, True]
    assert all(p.grad is None for p in discriminator.parameters())
    before = outputs[2].grad.clone()
    loss.discriminator.backward()
    assert all(p.grad is not None for p in discriminator.parameters())
    assert torch.equal(outputs[2].grad, before)
