"""Resampling: exact where voxels meet, unbiased at edges and on coarse grids, labels without interpolated values."""

import itertools

import numpy as np
import pytest

from anymri.prepare.grid import Grid
from anymri.prepare.resampling import resample, resample_labels
from anymri.prepare.rigid import rotated
from anymri.synthesis.phantoms import phantom
from prepare.moved import as_image, lps_affine

SIZE = 56


@pytest.fixture(scope="module")
def labels():
    return phantom(3, SIZE).labels


def dice(first, second):
    """Return the smallest Dice over the regions WT, TC (1, 3) and ET (3)."""
    pairs = [(np.isin(first, r), np.isin(second, r)) for r in ((1, 2, 3), (1, 3), (3,))]
    return min(2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs)


def covering(shape, spacing):
    """Return a grid around the world's origin that covers a volume of 1 mm voxels."""
    new = tuple(int(np.ceil(side / step)) for side, step in zip(shape, spacing, strict=True))
    return Grid(new, lps_affine(new, spacing))


@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("axes", list(itertools.permutations(range(3)))[1:4])
def test_flips_and_axis_orders_keep_every_value_and_move_none(axes, order):
    values = np.random.default_rng(0).standard_normal((9, 10, 11)).astype(np.float32)
    scan = as_image(values)
    flipped = np.transpose(values, axes)[::-1, :, ::-1]
    permutation = np.zeros((4, 4))
    permutation[list(axes), range(3)] = permutation[3, 3] = 1
    mirror = np.diag([-1.0, 1.0, -1.0, 1.0])
    mirror[[0, 2], 3] = flipped.shape[0] - 1, flipped.shape[2] - 1
    affine = scan.affine @ permutation @ mirror
    np.testing.assert_array_equal(resample(flipped, affine, Grid.of(scan), order=order), values)


def test_linear_function_of_the_world_is_reproduced_through_a_sheared_affine_and_a_transform():
    affine = lps_affine((30, 30, 30), (1.2, 0.8, 1.0))
    affine[0, 2], affine[1, 0] = 0.3, -0.2
    normal = np.array([0.5, -1.0, 2.0])
    indices = np.indices((30, 30, 30)).reshape(3, -1)
    values = (normal @ (affine[:3, :3] @ indices + affine[:3, 3:])).reshape(30, 30, 30)
    transform = rotated((10, -5, 20), np.zeros(3), np.array([1.0, 2.0, -1.0]))
    grid = covering((10, 10, 10), (1.0, 1.0, 1.0))
    places = transform[:3] @ grid.affine @ np.vstack([np.indices(grid.shape).reshape(3, -1), np.ones(1000)])
    np.testing.assert_allclose(resample(values, affine, grid, transform).ravel(), normal @ places, atol=1e-4)


def test_outer_half_of_thick_slices_is_as_bright_as_the_slice_and_beyond_is_outside():
    scan = as_image(np.full((8, 8, 4), 5.0), (1.0, 1.0, 5.0))
    grid = Grid((8, 8, 30), lps_affine((8, 8, 30)))
    fine = resample(scan.array, scan.affine, grid, outside=-1)
    assert np.all(fine[:, :, 5:25] == 5)
    assert np.all(fine[:, :, :5] == -1)
    assert np.all(fine[:, :, 25:] == -1)


def test_coarse_grid_holds_means_instead_of_single_voxels():
    noise = np.random.default_rng(0).standard_normal((48, 48, 48))
    smooth = resample(noise, lps_affine(noise.shape), covering(noise.shape, (4.0, 4.0, 4.0)))
    assert smooth.std() < 0.2
    assert resample(noise, lps_affine(noise.shape), covering(noise.shape, (1.4, 1.4, 1.4))).std() > 0.4


@pytest.mark.parametrize(
    ("spacing", "least"), [((2.0, 2.0, 2.0), 0.9), ((1.0, 1.0, 5.0), 0.9), ((0.5, 0.5, 0.5), 0.99)]
)
def test_labels_there_and_back_keep_their_regions(labels, spacing, least):
    # Each voxel of a small phantom is larger than a millimetre of a patient.
    fine = labels.repeat(3, 0).repeat(3, 1).repeat(3, 2) if spacing[2] > 1 else labels
    affine = lps_affine(fine.shape)
    grid = covering(fine.shape, spacing)
    there = resample_labels(fine, affine, grid)
    assert set(np.unique(there)) <= {0, 1, 2, 3}
    assert dice(resample_labels(there, grid.affine, Grid(fine.shape, affine)), fine) >= least


def test_rotated_labels_come_back(labels):
    fine = labels.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    affine = lps_affine(fine.shape)
    transform = rotated((10, 15, -20), np.zeros(3), np.array([3.0, 0.5, -2.0]))
    there = resample_labels(fine, affine, Grid(fine.shape, affine), transform)
    back = resample_labels(there, affine, Grid(fine.shape, affine), np.linalg.inv(transform))
    assert dice(back, fine) >= 0.95
    assert abs((there > 0).sum() / (fine > 0).sum() - 1) < 0.01


def test_no_class_appears_between_two_others():
    pair = np.zeros((12, 12, 12), dtype=np.uint8)
    pair[3:9, 3:9, 3:6], pair[3:9, 3:9, 6:9] = 1, 3
    grid = Grid((24, 24, 24), lps_affine((24, 24, 24), (0.5, 0.5, 0.5)))
    for shift in (0.0, 0.2, 0.5):
        moved = resample_labels(pair, lps_affine(pair.shape), grid, rotated((0, 0, 0), np.zeros(3), np.full(3, shift)))
        assert set(np.unique(moved)) == {0, 1, 3}


def test_label_map_without_labels_or_outside_the_grid_is_empty():
    empty = np.zeros((8, 8, 8), dtype=np.uint8)
    far = rotated((0, 0, 0), np.zeros(3), np.full(3, 100.0))
    grid = covering(empty.shape, (1.0, 1.0, 1.0))
    assert not resample_labels(empty, lps_affine(empty.shape), grid).any()
    assert not resample_labels(empty + 1, lps_affine(empty.shape), grid, far).any()
