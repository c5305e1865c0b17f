"""Losses that several systems share, by hand."""

import math

import pytest
import torch

from anymri.systems.losses import weighted_cross_entropy_loss
from anymri.systems.registry import spec
from anymri.systems.u_hved.recipe import segmentation_losses


def test_classes_weigh_by_what_they_leave_of_their_own_sample():
    """One sample with one voxel in four of class 1, one without any."""
    labels = torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]])
    target = torch.stack([labels == 0, labels == 1], dim=1).float()[..., None, None]
    probabilities = torch.full_like(target, 0.5)
    probabilities[0, 1] = 0.001
    # 1/4 of class 1 weighs 3/4, its probability is clamped; 3/4 of class 0 weigh 1/4; a class alone weighs nothing.
    expected = -(3 / 4 * math.log(0.005) + 3 * 1 / 4 * math.log(0.5)) / 8
    assert weighted_cross_entropy_loss(probabilities, target).item() == pytest.approx(expected)


def test_u_hved_weighs_classes_where_its_learning_rate_is_steered_and_nowhere_else():
    labels = torch.zeros(1, 4, 1, 1).long()
    labels[0, 0] = 1
    probabilities = torch.full((1, 4, 4, 1, 1), 0.25)
    trained, steered = (
        losses(probabilities, labels)["ce"].item()
        for losses in (segmentation_losses, spec("u_hved").segmentation_losses)
    )
    assert trained == pytest.approx(math.log(4))
    # 1/4 of the voxels weighs 3/4, the rest 1/4.
    assert steered == pytest.approx((1 / 4 * 3 / 4 + 3 / 4 * 1 / 4) * math.log(4))
