"""Rigid registration: it finds known movements, keeps aligned headers, and says when it cannot."""

import numpy as np
import pytest

from anymri.data.image import Image, read_image
from anymri.errors import ImageError
from anymri.prepare.registration import register
from anymri.synthesis.phantoms import phantom
from prepare.moved import as_image, cropped, error_mm, moved, other_contrast, worn

MODALITIES = ("T1", "T1c", "T2", "FLAIR")
SPACINGS = ((1.3, 1.3, 1.3), (0.9, 0.9, 3.0), (0.9, 0.9, 5.0))


@pytest.fixture(scope="module")
def head():
    """Return the four scans of a phantom with a small brain."""
    return {name: as_image(array, (2.0,) * 3, name) for name, array in phantom(5, 56).images.items()}


def test_known_movement_between_two_contrasts_is_found_twice_the_same(head):
    rng = np.random.default_rng(1)
    moving, truth = moved(head["FLAIR"], (9.0, -7.0, 12.0), (8.0, -11.0, 6.0), (1.5, 1.5, 3.0))
    scan = worn(moving, rng)
    found, again = (register(scan, head["T1c"]) for _ in range(2))
    np.testing.assert_allclose(found.transform, again.transform, rtol=0, atol=1e-9)
    assert found.accepted, found.reason
    assert error_mm(found.transform, truth, head["T1c"]) < 1
    assert found.overlap > 0.94 > found.overlap_before
    assert found.residual_mm < 0.7


def test_aligned_scans_keep_their_headers(head):
    found = register(worn(head["T2"], np.random.default_rng(2)), head["T1"])
    assert found.accepted, found.reason
    np.testing.assert_array_equal(found.transform, np.eye(4))
    assert found.shift_mm == found.angle_degrees == 0


def test_header_far_away_does_not_matter(head):
    far = np.eye(4)
    far[:3, 3] = 700, -500, 300
    scan = Image(head["T2"].array, far @ head["T2"].affine, head["T2"].path)
    found = register(scan, head["T1c"])
    assert found.accepted, found.reason
    assert found.overlap_before == 0
    assert error_mm(found.transform, far, head["T1c"]) < 1


@pytest.mark.parametrize("scale", [1, 0.3])  # with fine voxels, it vanishes at the finest resolution too
def test_brain_smaller_than_the_coarsest_voxel_is_refused(head, scale):
    mask = np.zeros(head["T2"].shape, bool)
    mask[20, 20, 20] = True
    fine = Image(head["T2"].array, head["T2"].affine * ([scale] * 3 + [1]), head["T2"].path)
    with pytest.raises(ImageError, match="smaller than a voxel of 8 mm"):
        register(fine, head["T1c"], mask)


def test_mirrored_scan_is_refused(head):
    scan = head["FLAIR"]
    found = register(Image(np.ascontiguousarray(scan.array[::-1]), scan.affine, scan.path), head["T1c"])
    assert not found.accepted and "left and right are exchanged" in found.reason


def test_few_slices_of_the_brain_are_not_aligned(head):
    middle = head["T2"].array.shape[2] // 2
    affine = head["T2"].affine.copy()
    affine[2, 3] += affine[2, 2] * middle
    found = register(Image(head["T2"].array[:, :, middle : middle + 6], affine, head["T2"].path), head["T1c"])
    assert not found.accepted


def test_other_head_is_refused_or_flagged(head):
    other = phantom(11, 56).images["T2"]
    stretched = Image(other.astype(np.float32), head["T1c"].affine @ np.diag([0.8, 1.25, 0.8, 1]), head["T2"].path)
    found = register(stretched, head["T1c"])
    assert not found.accepted
    assert found.reason.endswith(".")


def trial(seed, real=None):
    """Return the error and the registration of one random movement.

    real  stripped scan of a patient, which gets another contrast; by default two scans of a phantom
    """
    rng = np.random.default_rng((18, seed))
    if real is None:
        scans = phantom((18, seed), 72).images
        first, second = rng.choice(MODALITIES, 2, replace=False)
        fixed, other = (as_image(scans[name], (2.1,) * 3, name) for name in (first, second))
    else:
        fixed, other = real, other_contrast(real)
    angles, shift = _direction(rng) * rng.uniform(0, 20), _direction(rng) * rng.uniform(0, 20)
    moving, truth = moved(other, angles, shift, SPACINGS[rng.integers(len(SPACINGS))])
    found = register(worn(moving, rng, 0.15, rng.uniform(0.02, 0.06)), worn(fixed, rng))
    return error_mm(found.transform, truth, fixed), found


def _direction(rng):
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


@pytest.mark.acceptance
def test_95_of_100_movements_are_found_within_a_millimetre_and_none_is_silently_wrong(real_data):
    names = ("brats-gli-00000-000/BraTS-GLI-00000-000-t1c", "brats-gli-00001-000/BraTS-GLI-00001-000-t1n")
    patients = [cropped(read_image(real_data / f"{name}.nii.gz")) for name in names]
    results = [trial(seed) for seed in range(60)] + [trial(seed, patients[seed % 2]) for seed in range(60, 100)]
    assert sum(found.accepted and error < 1 for error, found in results) >= 95
    assert max(error for error, found in results if found.accepted) < 2
