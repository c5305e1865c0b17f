"""Grids: corners, comparison, and the isotropic grid of a scan."""

from pathlib import Path

import numpy as np
import pytest

from anymri.data.image import Image
from anymri.prepare.grid import Grid, study_grid
from prepare.moved import as_image, lps_affine


def image(shape, affine):
    return Image(np.zeros(shape, dtype=np.float32), np.asarray(affine, dtype=float), Path("scan.nii.gz"))


def turned(affine, degrees):
    """Return an affine after a rotation of the world about x."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]]) @ affine


def test_corners_are_the_outer_corners_of_the_corner_voxels():
    grid = Grid((4, 5, 6), np.diag([2.0, 1.0, 3.0, 1.0]))
    np.testing.assert_allclose(grid.corners_mm.min(axis=0), (-1, -0.5, -1.5))
    np.testing.assert_allclose(grid.corners_mm.max(axis=0), (7, 4.5, 16.5))
    assert grid.voxel_volume_ml == pytest.approx(0.006)


def test_grids_differ_in_shape_or_place():
    grid = Grid((4, 5, 6), np.eye(4))
    near, far = np.eye(4), np.eye(4)
    near[0, 3], far[0, 3] = 0.005, 0.02
    assert grid.same_as(Grid((4, 5, 6), near))
    assert not grid.same_as(Grid((4, 5, 6), far))
    assert not grid.same_as(Grid((4, 5, 7), np.eye(4)))


def test_isotropic_lps_scan_keeps_its_own_grid():
    scan = as_image(np.zeros((24, 20, 18)))
    assert study_grid(scan).same_as(Grid.of(scan))


def test_other_orientation_gives_the_same_voxels_in_lps():
    scan = as_image(np.zeros((24, 20, 18)))
    flipped = scan.affine @ np.array([[-1, 0, 0, 23], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    assert study_grid(image((24, 18, 20), flipped)).same_as(Grid.of(scan))


@pytest.mark.parametrize("spacing", [(0.75, 0.75, 5.5), (1.0, 1.0, 5.0), (0.47, 0.47, 2.5), (1.1, 0.9, 1.3)])
@pytest.mark.parametrize("degrees", [0, 8, 19])
def test_study_grid_is_isotropic_oblique_as_the_scan_and_covers_it(spacing, degrees):
    scan = image((40, 44, 12), turned(lps_affine((40, 44, 12), spacing), degrees))
    grid = study_grid(scan)
    np.testing.assert_allclose(grid.spacing_mm, 1)
    np.testing.assert_allclose(grid.affine[:3, :3], scan.affine[:3, :3] / scan.spacing_mm, atol=1e-9)
    inside = np.linalg.solve(grid.affine, np.c_[Grid.of(scan).corners_mm, np.ones(8)].T)[:3]
    assert inside.min() >= -0.5 - 0.03
    assert np.all(inside.max(axis=1) <= np.array(grid.shape) - 0.5 + 0.03)
    assert np.all(np.array(grid.shape) <= np.ceil(np.array(scan.shape) * spacing))


def test_sheared_scan_gives_perpendicular_axes_that_cover_it():
    affine = lps_affine((30, 30, 30))
    affine[1, 2] = 0.3
    scan = image((30, 30, 30), affine)
    grid = study_grid(scan, 2.0)
    np.testing.assert_allclose(grid.affine[:3, :3].T @ grid.affine[:3, :3], 4 * np.eye(3), atol=1e-9)
    inside = np.linalg.solve(grid.affine, np.c_[Grid.of(scan).corners_mm, np.ones(8)].T)[:3]
    assert inside.min() >= -0.55
    assert np.all(inside.max(axis=1) <= np.array(grid.shape) - 0.45)
