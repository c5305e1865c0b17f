"""Shared segmentation losses, compared with values computed by hand."""

import math

import pytest
import torch

from anymri.systems import losses
from anymri.systems.losses import (
    class_channels,
    cross_entropy_and_dice,
    cross_entropy_loss,
    rarity_weights,
    soft_dice_loss,
)
from anymri.systems.registry import spec
from anymri.systems.u_hved.recipe import segmentation_losses


def test_weighted_cross_entropy_weights_a_class_by_the_rest_of_its_sample():
    """The first sample has one voxel in four of class 1, the second sample none."""
    labels = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]])
    target = torch.stack([labels == 0, labels == 1], dim=1).float()[..., None, None]
    probabilities = torch.full_like(target, 0.5)
    probabilities[0, 1] = 0.001
    # Class 1, a quarter of the voxels, has the weight 3/4, its probability is clamped; class 0 has the weight 1/4; a
    # class that fills its sample has the weight 0.
    expected = -(3 / 4 * math.log(0.005) + 3 * 1 / 4 * math.log(0.5)) / 8
    found, _ = cross_entropy_and_dice(probabilities, target, rarity_weights(target))
    assert found.item() == pytest.approx(expected)


def test_u_hved_weights_classes_in_validation_alone():
    labels = torch.zeros(1, 4, 1, 1).long()
    labels[0, 0] = 1
    probabilities = torch.full((1, 4, 4, 1, 1), 0.25)
    trained, validated = (
        function(probabilities, labels)["ce"].item()
        for function in (segmentation_losses, spec("u_hved").segmentation_losses)
    )
    assert trained == pytest.approx(math.log(4))
    # A quarter of the voxels has the weight 3/4, the rest 1/4.
    assert validated == pytest.approx((1 / 4 * 3 / 4 + 3 / 4 * 1 / 4) * math.log(4))


@pytest.mark.parametrize("is_weighted", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=str)
def test_both_losses_at_once_equal_each_alone_with_their_gradients(is_weighted, layout, monkeypatch):
    """In pieces of 7 voxels, the last one shorter; probabilities below 0.005 have no gradient of the cross-entropy."""
    monkeypatch.setattr(losses, "_PIECE", 7)
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2, 4, 3, 4, 5, generator=generator, dtype=torch.float64)
    logits = logits.contiguous(memory_format=layout).requires_grad_()
    target = class_channels(torch.randint(0, 4, (2, 3, 4, 5), generator=generator), 4)
    probabilities = logits.softmax(1)
    assert (probabilities[target > 0] < losses.PROBABILITY_FLOOR).any()
    weights = rarity_weights(target) if is_weighted else None
    weighted = target if weights is None else target * weights[:, None]
    expected = cross_entropy_loss(probabilities, weighted), soft_dice_loss(probabilities, target)
    found = cross_entropy_and_dice(probabilities, target, weights)
    gradients = []
    for cross_entropy, dice in (found, expected):
        [gradient] = torch.autograd.grad(cross_entropy + 3 * dice, logits, retain_graph=True)
        gradients.append(gradient)
    torch.testing.assert_close(found, expected)
    # The target, and so the sizes of classes, are float32.
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)
