"""Entropy and disagreement of predictions, against values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from anymri.inference.uncertainty import disagreement, entropy, region_probabilities
from anymri.regions import region_mask, to_label_map


def voxels(*values):
    """Return probabilities (K, N, 1, 1) of N voxels, given one tuple of K per voxel."""
    return np.array(values, np.float32).T[:, :, None, None]


def test_entropy_is_zero_where_certain_and_one_where_all_tissues_are_equally_likely():
    found = entropy(voxels((0, 0, 0), (1, 1, 1), (1, 0, 0), (0.5, 0, 0), (1, 0.5, 0.5), (0.75, 0.5, 0.25))).ravel()
    np.testing.assert_allclose(found, [0, 0, 0, 0.5, 0.5, 1], atol=1e-3)
    assert found.dtype == np.float16


def test_entropy_of_unequal_tissues_follows_the_definition():
    tissues = (0.7, 0.2, 0.1, 0.0)  # background, oedema, necrotic core, enhancing
    expected = -sum(p * math.log(p) for p in tissues if p) / math.log(4)
    assert entropy(voxels((0.3, 0.1, 0.0))).item() == pytest.approx(expected, abs=1e-3)


def test_regions_of_a_network_of_classes_are_sums_of_its_classes():
    found = region_probabilities(voxels((0.1, 0.2, 0.3, 0.4), (0.4, 0.1, 0.2, 0.1)), "classes")
    np.testing.assert_allclose(found[:, :, 0, 0].T, [(0.9, 0.6, 0.4), (0.4, 0.2, 0.1)], rtol=1e-6)


def test_a_network_of_regions_and_its_label_map_agree_at_one_half():
    probabilities = torch.rand(4, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    found = region_probabilities(probabilities.numpy(), "regions")
    classes = to_label_map(probabilities, "regions").numpy()
    for region, values in zip(("WT", "TC", "ET"), found, strict=True):
        np.testing.assert_array_equal(values > 0.5, region_mask(classes, region))
    assert np.all(np.diff(found, axis=0) <= 0)


def test_networks_of_classes_and_of_regions_have_the_same_entropy():
    regions = voxels((0.9, 0.6, 0.4), (0.3, 0.3, 0.1))
    classes = voxels((0.1, 0.2, 0.3, 0.4), (0.7, 0.2, 0.0, 0.1))
    by_classes = entropy(region_probabilities(classes, "classes"))
    np.testing.assert_allclose(by_classes, entropy(region_probabilities(regions, "regions")), atol=1e-3)


def test_disagreement_is_twice_the_standard_deviation_of_the_region_that_differs_most():
    rng = np.random.default_rng(0)
    members = rng.uniform(size=(4, 3, 5, 6, 7)).astype(np.float32)
    expected = 2 * members.std(axis=0).max(axis=0)
    np.testing.assert_allclose(disagreement(iter(members)), expected, atol=1e-3)


def test_disagreement_is_zero_for_equal_predictions_and_one_for_opposite_ones():
    one = np.ones((3, 2, 2, 2), np.float16)
    assert np.all(disagreement([one, one, one]) == 0)
    assert np.all(disagreement([one, one * 0]) == 1)


def test_disagreement_of_one_prediction_does_not_exist():
    with pytest.raises(ValueError, match="two predictions"):
        disagreement([np.ones((3, 1, 1, 1))])
