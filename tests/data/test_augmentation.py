"""Augmentation of patches: images, classes and corners alike, each chain as in its sheet."""

from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import ndimage

from anymri.data import distortions
from anymri.data.augmentation import Augmentation, augmentation

CORNERS = torch.tensor([[-3, 4, 9], [8, 15, 20]])
# Standard deviations of the four scans.
DEVIATION = torch.tensor([1.0, 2.0, 4.0, 0.0])


def noise(*shape, channels=4):
    """Return images and classes of random values, so that each voxel can be recognised."""
    rng = torch.Generator().manual_seed(0)
    return torch.randn(channels, *shape, generator=rng), torch.randint(1, 4, shape, generator=rng).byte()


def unmirrored(name, images, classes, seed):
    """Return augmented images and classes, mirrored back, and the axes that were mirrored."""
    changed, moved, corners = augmentation(name)(
        images.clone(), classes.clone(), CORNERS, seed, DEVIATION[: len(images)]
    )
    assert torch.equal(corners.sort(0).values, CORNERS)
    assert changed.dtype == images.dtype and changed.shape == images.shape and moved.dtype == classes.dtype
    mirrored = [axis for axis in range(3) if corners[0, axis] > corners[1, axis]]
    return changed.flip([axis + 1 for axis in mirrored]), moved.flip(mirrored), mirrored


@pytest.mark.parametrize(
    "name",
    ["none", "flip", "flip_intensity", "rotate_flip", "rotate_flip_intensity", "shift_flip", "shift_flip_in_plane"],
)
def test_augmentation_moves_images_and_classes_together_and_follows_its_seed(name):
    classes = torch.zeros(12, 12, 12, dtype=torch.uint8)
    classes[2:5, 3:9, 4:6] = 3
    images = torch.stack([classes.float() * 10] * 4)
    changed, moved, _ = unmirrored(name, images, classes, 5)
    assert "rotate" in name or torch.equal(moved, classes)
    for channel in changed:  # scaled and shifted by at most 10 %, so the tumour stays brighter
        assert torch.equal(channel > 20, moved > 0)
    images, classes = noise(12, 12, 12)
    once, again, other = (unmirrored(name, images, classes, seed)[0] for seed in (5, 5, 6))
    assert torch.equal(once, again) and (name in ("none", "flip")) == torch.equal(once, other)


@pytest.mark.parametrize("name", [name for name in get_args(Augmentation) if name != "none"])
def test_augmentation_does_not_depend_on_the_default_device(name):
    images, classes = noise(6, 6, 6)
    augment = augmentation(name)
    with torch.device("meta"):
        for seed in range(8):
            changed = augment(images.clone(), classes.clone(), CORNERS.clone(), seed, DEVIATION)
            assert all(tensor.device.type == "cpu" for tensor in changed)


@pytest.mark.parametrize(("name", "axes"), [("flip_intensity", 3), ("shift_flip", 3), ("shift_flip_in_plane", 2)])
def test_each_axis_is_mirrored_with_probability_one_half(name, axes):
    images, classes = noise(4, 4, 4)
    mirrored = [unmirrored(name, images, classes, seed)[2] for seed in range(100)]
    counts = [sum(axis in axes for axes in mirrored) for axis in range(3)]
    assert all(30 < count < 70 for count in counts[:axes]) and not any(counts[axes:])


def test_rotations_are_by_whole_degrees_in_one_plane_with_background_outside():
    images, classes = noise(64, 64, 4, channels=2)  # long enough for one degree in the planes of the short axis too
    rotated = {}
    for plane in ((0, 1), (1, 2), (0, 2)):
        for degrees in range(-10, 10):
            how = {"axes": plane, "reshape": False, "order": 0}
            channels = [ndimage.rotate(channel.numpy(), degrees, cval=-1, **how) for channel in images]
            rotated[np.stack(channels).tobytes()] = plane, degrees, ndimage.rotate(classes.numpy(), degrees, **how)
    found = []
    for seed in range(150):
        changed, moved, _ = unmirrored("rotate_flip", images, classes, seed)
        plane, degrees, expected = rotated[changed.contiguous().numpy().tobytes()]
        assert np.array_equal(moved.numpy(), expected)
        found.append((plane, degrees))
    planes, degrees = zip(*found, strict=True)
    assert {*degrees} == {*range(-10, 10)} and min(map(planes.count, planes)) > 30 and len({*planes}) == 3


def test_intensities_change_per_channel_and_slice_of_the_first_axis():
    images, classes = noise(12, 12, 12)
    rotated, _, _ = unmirrored("rotate_flip", images, classes, 7)
    changed, _, _ = unmirrored("rotate_flip_intensity", images, classes, 7)
    pairs = zip(rotated.flatten(0, 1), changed.flatten(0, 1), strict=True)
    scales, shifts = np.array([np.polyfit(a.flatten(), b.flatten(), 1) for a, b in pairs]).T
    expected = rotated * torch.from_numpy(scales).view(4, 12, 1, 1) + torch.from_numpy(shifts).view(4, 12, 1, 1)
    torch.testing.assert_close(changed, expected.float())
    for values, middle in ((scales, 1), (shifts, 0)):
        assert len({*values.round(4)}) > 40 and 0.08 < np.abs(values - middle).max() <= 0.1 + 1e-6


def test_one_share_of_each_scans_deviation_is_added_to_non_zero_voxels():
    images, classes = noise(12, 12, 12)
    images[3] = 0  # missing
    images[:, :3] = 0
    shares = []
    for seed in range(50):
        changed, _, _ = unmirrored("shift_flip", images, classes, seed)
        added = changed - images
        assert not added[:, :3].any() and not added[3].any()
        share = added[:3, 3:] / DEVIATION[:3].view(3, 1, 1, 1)
        torch.testing.assert_close(share, share[0, 0, 0, 0].expand_as(share), rtol=1e-3, atol=1e-5)
        shares.append(share.mean().item())
    assert -0.1 < min(shares) < -0.07 and 0.07 < max(shares) < 0.1


def test_nnunet_moves_images_and_classes_together_changes_intensities_and_follows_its_seed():
    grid = torch.stack(torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij")) - 11.5
    classes = (grid.norm(dim=0) < 8).to(torch.uint8) * 2
    images = torch.stack([classes.float()] * 4)
    corners = torch.zeros(2, 3).long()
    augment = augmentation("nnunet")
    results = [augment(images.clone(), classes.clone(), corners, seed, DEVIATION)[:2] for seed in range(24)]
    for changed, moved in results:
        assert moved.dtype == classes.dtype and set(moved.unique().tolist()) == {0, 2}
        inside, outside = changed[:, moved > 0].mean(1), changed[:, moved == 0].mean(1)
        assert (inside > outside + 1).all() and changed.isfinite().all()
    sizes = {int((moved > 0).sum()) for _, moved in results}
    recoloured = [not set(changed.unique().tolist()) <= {0, 2} for changed, _ in results]
    assert len(sizes) > 2 and 8 < sum(recoloured) < len(results)
    assert torch.equal(augment(images.clone(), classes.clone(), corners, 3, DEVIATION)[0], results[3][0])


@pytest.fixture
def without_intensities(monkeypatch):
    """Remove the changes of intensities from the chains of nnU-Net."""
    monkeypatch.setattr(distortions, "_sharpness_and_contrast", lambda images, rng, order, shifted=False: images)
    monkeypatch.setattr(distortions, "_gamma", lambda channel, rng: channel)


@pytest.mark.parametrize(
    ("distort", "degrees", "bounds", "share"),
    [(distortions.distort_nnunet, 30, (0.7, 1.4), 0.36), (distortions.distort_shaspec, 15, (0.85, 1.25), 0.488)],
)
def test_patches_are_rotated_about_their_middle_zoomed_alike_along_all_axes_or_deformed(
    without_intensities, distort, degrees, bounds, share
):
    """Voxels of the images are their coordinates, so that the output shows where each voxel was read."""
    axes = torch.meshgrid(*[torch.arange(15.0) - 7] * 3, indexing="ij")
    images = torch.stack([*axes, torch.ones_like(axes[0])])
    classes = 1 + (images[0] > 0.3).byte()
    moved, zooms, angles, deformed = 0, [], [], 0
    for seed in range(300):
        changed, labels = distort(images.clone(), classes.clone(), np.random.default_rng(seed))
        inside = changed[3] > 0.999
        assert inside[7, 7, 7] or "shaspec" in distort.__name__
        assert ((labels[inside] == 2) == (changed[0][inside] > 0.3))[changed[0][inside].abs() > 1].all()
        assert set(labels.unique().tolist()) <= {0, 1, 2}
        if torch.equal(changed, images):
            continue
        moved += 1
        here, there = images[:3, inside].T, changed[:3, inside].T
        matrix, residuals, *_ = np.linalg.lstsq(here.numpy(), there.numpy())
        if residuals.max() > 1e-3:
            deformed += 1
            continue
        zoom = np.cbrt(np.linalg.det(matrix))
        np.testing.assert_allclose(matrix.T @ matrix, zoom**2 * np.eye(3), atol=1e-4)
        zooms.append(zoom)
        angles.append(np.degrees(np.arccos(np.clip((np.trace(matrix / zoom) - 1) / 2, -1, 1))))
    assert abs(moved / 300 - share) < 0.09
    assert (deformed > 30) == ("shaspec" in distort.__name__)
    zoomed = [zoom for zoom in zooms if abs(zoom - 1) > 1e-4]
    assert bounds[0] <= min(zoomed) < bounds[0] + 0.05 and bounds[1] - 0.08 < max(zoomed) <= bounds[1]
    assert 0.3 < np.mean(np.array(zoomed) < 1) < 0.7
    assert degrees < max(angles) < degrees * 3**0.5 * 1.01


@pytest.mark.parametrize(("order", "is_exact"), [(1, False), (3, True)])
def test_cubic_splines_reproduce_squares_and_linear_ones_do_not(without_intensities, order, is_exact):
    axis = torch.arange(31.0)[:, None, None].expand(-1, 31, 31) - 15
    images, classes = torch.stack([axis, axis.square()]), torch.ones(31, 31, 31, dtype=torch.uint8)
    errors = []
    for seed in range(20):
        changed, _ = distortions.distort_nnunet(images, classes, np.random.default_rng(seed), (9, 9, 9), order=order)
        errors.append((changed[1] - changed[0].square()).abs().max().item())
    assert (max(errors) < 0.02) == is_exact and max(errors) < 0.3


def test_labels_are_resampled_linearly_by_class_or_by_region(without_intensities, monkeypatch):
    """A voxel with a third of each tissue is none of them, but it is in WT and TC."""
    classes = torch.zeros(3, 3, 3, dtype=torch.uint8)
    classes[0], classes[1], classes[2] = 2, 1, 3
    shares = {"NCR": 0.3, "ED": 0.3, "ET": 0.4}
    tissues = {1: "NCR", 2: "ED", 3: "ET"}

    def resampled(inside, read, order, cval=0):
        values = [shares[tissues[k]] for k in (1, 2, 3) if inside[{2: 0, 1: 1, 3: 2}[k]].all()]
        return np.full(read.shape[1:], sum(values))

    monkeypatch.setattr(distortions, "map_coordinates", resampled)
    read = np.zeros((3, 1, 1, 1), np.float32)
    found = [
        distortions._moved_labels(classes.numpy(), read, unions).item()
        for unions in (distortions._BY_CLASS, distortions._BY_REGION)
    ]
    assert found == [0, 1]


@pytest.mark.parametrize(
    ("distort", "gammas"), [(distortions.distort_nnunet, 0.4), (distortions.distort_shaspec, 0.15)]
)
def test_intensities_of_each_channel_change_independently_as_often_as_published(monkeypatch, distort, gammas):
    expected = {"_blur": 0.2 * 0.5, "_contrast": 0.15, "_coarsen": 0.25 * 0.5, "_gamma": gammas}
    calls = dict.fromkeys(expected, 0)
    for name in expected:

        def count(channel, rng, name=name, order=1):
            calls[name] += 1
            return channel

        monkeypatch.setattr(distortions, name, count)
    images, classes = noise(4, 4, 4)
    for seed in range(1000):
        distort(images, classes, np.random.default_rng(seed))
    assert {name: round(number / 4000, 3) for name, number in calls.items()} == pytest.approx(expected, abs=0.03)


def test_changes_of_intensities_keep_mean_deviation_order_or_range():
    channel, rng = noise(16, 16, 16)[0][0], np.random.default_rng(0)
    for change in (distortions._gamma, lambda channel, rng: -distortions._gamma(-channel, rng)):
        curved = change(channel, rng)
        assert torch.allclose(curved.mean(), channel.mean(), atol=1e-5)
        assert torch.allclose(curved.std(), channel.std(), rtol=1e-4)
        assert torch.equal(curved.flatten().argsort(), channel.flatten().argsort())
        assert not torch.allclose(curved, channel, atol=1e-3)
    contrast = distortions._contrast(channel, rng)
    assert channel.min() <= contrast.min() and contrast.max() <= channel.max()
    for smoother in (distortions._blur, partial(distortions._coarsen, order=1), partial(distortions._coarsen, order=3)):
        smooth = smoother(channel, rng)
        assert smooth.shape == channel.shape and smooth.std() < 0.95 * channel.std()


def test_nnunet_keeps_empty_voxels_empty():
    images, classes = noise(12, 12, 12)
    images[:, :5] = classes[:5] = 0
    for seed in range(60):
        changed, _ = distortions.distort_nnunet(images, classes, np.random.default_rng(seed))
        outside = ~changed.any(0)
        assert 0.1 < outside.float().mean() < 0.9
