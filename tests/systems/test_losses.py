"""Shared segmentation losses, compared with values computed by hand."""

import math

import pytest
import torch

from anymri.systems.losses import weighted_cross_entropy_loss
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
    assert weighted_cross_entropy_loss(probabilities, target).item() == pytest.approx(expected)


def test_u_hved_weights_classes_in_validation_alone():
    labels = torch.zeros(1, 4, 1, 1).long()
    labels[0, 0] = 1
    probabilities = torch.full((1, 4, 4, 1, 1), 0.25)
    trained, validated = (
        losses(probabilities, labels)["ce"].item()
        for losses in (segmentation_losses, spec("u_hved").segmentation_losses)
    )
    assert trained == pytest.approx(math.log(4))
    # A quarter of the voxels has the weight 3/4, the rest 1/4.
    assert validated == pytest.approx((1 / 4 * 3 / 4 + 3 / 4 * 1 / 4) * math.log(4))
