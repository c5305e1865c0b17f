from dataclasses import replace

import numpy as np
import pytest

from anymri.data.case import Case, read_study
from anymri.data.image import write_image
from anymri.data.preprocessing import Preprocessing, _side, background_value, coarse_classes, intensity_cap, preprocess
from anymri.errors import ImageError

AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
BOX = (slice(4, 15), slice(3, 17), slice(5, 13))


def study(folder, background=0.0, mask=False, **changes):
    """Return T1c and FLAIR of a box-shaped brain, smaller on FLAIR, with intensities around 100."""
    rng = np.random.default_rng(0)
    scans = {}
    for modality, inset in (("T1c", 0), ("FLAIR", 1)):
        scan = np.full((20, 20, 20), background, np.float32)
        inner = tuple(slice(s.start + inset, s.stop - inset) for s in BOX)
        scan[inner] = rng.normal(100, 20, scan[inner].shape)
        scans[modality] = changes.get(modality, scan)
    for name, scan in scans.items():
        write_image(folder / f"{name}.nii.gz", scan, AFFINE)
    brain = None
    if mask:
        brain = folder / "mask.nii.gz"
        inside = np.zeros((20, 20, 20), np.float32)
        inside[BOX] = 0.99999997
        write_image(brain, inside, AFFINE)
    return read_study(Case("case", {m: folder / f"{m}.nii.gz" for m in scans}, brain_mask=brain))


@pytest.mark.parametrize("background", [0.0, -3.5])
@pytest.mark.parametrize("mask", [False, True])
def test_brain_is_cropped_and_standardised_for_any_background(tmp_path, background, mask):
    data = preprocess(study(tmp_path, background, mask), Preprocessing())
    assert data.box == BOX and str(data.subset) == "T1c+FLAIR" and data.grid == (20, 20, 20)
    # T1c fills the brain, so its statistics are exact; FLAIR's include the rim where it is background.
    t1c, flair = data.scans["T1c"], data.scans["FLAIR"]
    assert t1c.mean() == pytest.approx(0, abs=1e-5) and t1c.std() == pytest.approx(1, abs=1e-5)
    assert flair.mean() == pytest.approx(0, abs=1e-5)
    assert flair[0, 0, 0] == pytest.approx(data.background[3].item())


def test_missing_modalities_are_zero(tmp_path):
    data = preprocess(study(tmp_path, background=-3.5), Preprocessing())
    assert data.present.tolist() == [False, True, False, True]
    assert not data.images[[0, 2]].any() and not data.background[[0, 2]].any()


def test_background_can_be_zero_after_standardising(tmp_path):
    whole = Preprocessing(normalisation="zscore_background_zero", crop_to_brain=False)
    data = preprocess(study(tmp_path), whole)
    assert data.images.shape == (4, 20, 20, 20)
    assert not data.images[:, :4].any() and not data.background.any()


def test_coarser_voxels_are_means_and_their_values_return_to_the_voxels_of_the_box(tmp_path):
    fine = preprocess(study(tmp_path), Preprocessing(normalisation="divide_255"))
    data = preprocess(study(tmp_path), Preprocessing(normalisation="divide_255", coarsening=2))
    # Sides of 11, 14 and 8 voxels become whole cubes within the grid.
    assert data.box == (slice(4, 16), slice(3, 17), slice(5, 13)) and data.images.shape == (4, 6, 7, 4)
    assert data.images[1, 0, 0, 0].item() == pytest.approx(fine.images[1, :2, :2, :2].mean().item())
    refined = data.refined(data.images)
    assert refined.shape == (4, 12, 14, 8) and data.paste(refined.numpy()).shape == (4, 20, 20, 20)
    assert refined[1].mean() == pytest.approx(data.images[1].mean().item())


@pytest.mark.parametrize("grid", [19, 20])
def test_cubes_at_the_end_of_a_grid_are_inside_it(tmp_path, grid):
    scan = np.random.default_rng(0).normal(100, 20, (grid,) * 3).astype(np.float32)
    whole = replace(study(tmp_path), images={"T1c": scan}, brain=np.ones((grid,) * 3, dtype=bool))
    data = preprocess(whole, Preprocessing(coarsening=2))
    assert data.box == (slice(0, grid // 2 * 2),) * 3
    assert data.images[1].mean() == pytest.approx(0, abs=1e-5) and data.images[1].std() == pytest.approx(1, abs=0.01)


def test_coarser_classes_are_those_of_most_voxels():
    classes = np.zeros((4, 4, 4), np.uint8)
    classes[:2, :2] = 3
    classes[0, :2, :2] = 1  # as many voxels of 1 as of 3
    classes[2, 2, 2] = 2
    assert coarse_classes(classes, 2)[0, 0].tolist() == [1, 3] and coarse_classes(classes, 2).sum() == 4


def test_last_slice_of_each_axis_can_be_dropped(tmp_path):
    data = preprocess(study(tmp_path), Preprocessing(drop_last_slice=True))
    assert data.box == tuple(slice(s.start, s.stop - 1) for s in BOX)


@pytest.mark.parametrize(
    ("minimum", "box"),
    [
        # The brain is in voxels 40 to 99; the code of IM-Fuse takes 40 to 98, and widens that.
        (59, (40, 99)),
        (60, (40, 100)),
        (61, (39, 101)),
        (62, (39, 101)),
        (128, (6, 134)),
        (150, (0, 150)),
    ],
)
def test_box_is_widened_by_the_authors_rule(minimum, box):
    settings = Preprocessing(drop_last_slice=True, minimum_box=minimum)
    assert _side(slice(40, 100), 200, settings) == slice(*box)


def test_widened_box_stays_within_the_scan(tmp_path):
    data = preprocess(study(tmp_path), Preprocessing(minimum_box=18))
    assert all(axis.start >= 0 and axis.stop <= 20 and axis.stop - axis.start >= 16 for axis in data.box)
    assert data.images.shape[1:] == tuple(axis.stop - axis.start for axis in data.box)


def test_divide_255_only_scales_intensities(tmp_path):
    one = study(tmp_path)
    data = preprocess(one, Preprocessing(normalisation="divide_255", crop_to_brain=False))
    np.testing.assert_allclose(data.scans["T1c"], one.images["T1c"] / 255, rtol=1e-6)


def test_percentiles_become_the_range_from_0_to_1(tmp_path):
    """The percentiles are those of voxels other than the background: the brain is smaller on FLAIR than on T1c."""
    one = study(tmp_path)
    data = preprocess(one, Preprocessing(normalisation="percentiles"))
    assert not data.background.any() and data.images.min() == 0 and data.images.max() == 1
    for modality, scan in one.images.items():
        low, high = np.percentile(scan[scan != 0], (1, 99))
        np.testing.assert_allclose(data.scans[modality], np.clip((scan[BOX] - low) / (high - low), 0, 1), atol=1e-6)


def test_intensities_are_capped_at_the_last_frequent_bin_of_a_histogram_of_whole_numbers():
    scan = np.zeros((10, 10, 10), np.float32)
    scan[2:, 0] = np.repeat([100, 101], 40).reshape(8, 10)
    scan[2:, 1], scan[2:, 2] = 70, 30
    scan[5, 5, 5] = 1000.5
    # Bins of width 1.0005: 100 and 101 are in different ones of 40 voxels each.
    assert intensity_cap(scan) == 69
    assert intensity_cap(scan / 2000) == np.inf and intensity_cap(np.where(scan > 1000, scan, 0)) == np.inf


@pytest.mark.filterwarnings("ignore:.*is it a label map")
def test_capped_scans_are_standardised_over_the_voxels_that_differ_from_the_first(tmp_path):
    rng = np.random.default_rng(0)
    scan = np.zeros((20, 20, 20), np.float32)
    scan[BOX] = rng.integers(100, 104, scan[BOX].shape)
    scan[4, 3, 5:9] = 900
    settings = Preprocessing(normalisation="zscore_capped", crop_to_brain=False)
    data = preprocess(study(tmp_path, T1c=scan), settings)
    cap = intensity_cap(scan)
    assert 101 <= cap <= 103
    inside = np.minimum(scan, cap)[scan > 0]
    expected = np.where(scan > 0, (np.minimum(scan, cap) - inside.mean()) / inside.std(), 0)
    np.testing.assert_allclose(data.scans["T1c"], expected, atol=1e-5)
    # FLAIR is smaller, and has statistics of its own voxels alone.
    flair = data.scans["FLAIR"]
    assert flair[flair != 0].mean() == pytest.approx(0, abs=1e-5) and not data.background.any()


def test_brain_can_be_that_of_one_scan_where_it_exists(tmp_path):
    one = study(tmp_path)
    inset = tuple(slice(s.start + 1, s.stop - 1) for s in BOX)
    data = preprocess(one, Preprocessing(brain_from="FLAIR"))
    assert data.box == inset and data.scans["T1c"].mean() == pytest.approx(0, abs=1e-5)
    assert preprocess(one, Preprocessing(brain_from="T2")).box == BOX


def test_box_can_begin_a_voxel_before_the_brain():
    settings = Preprocessing(slice_before=True)
    assert _side(slice(40, 100), 200, settings) == slice(39, 100) and _side(slice(0, 9), 9, settings) == slice(0, 9)


def test_holes_of_the_brain_can_count_in_its_statistics(tmp_path):
    one = study(tmp_path)
    for scan in one.images.values():
        scan[8:11, 8:11, 8:10] = 0
    for fill in (False, True):
        data = preprocess(one, Preprocessing(normalisation="zscore_background_zero", fill_holes=fill))
        assert data.scans["T1c"][5, 6, 4] == pytest.approx(0) or fill
        assert data.scans["T1c"].mean() == pytest.approx(0, abs=1e-5)
    assert data.scans["T1c"][5, 6, 4] < -1


def test_pasting_restores_the_position_of_the_box(tmp_path):
    data = preprocess(study(tmp_path), Preprocessing())
    values = np.ones(data.images.shape[1:], np.uint8)
    whole = data.paste(values)
    assert whole.shape == data.grid and whole.sum() == values.size and whole[BOX].all()


def test_head_without_constant_background_is_all_brain(tmp_path):
    noisy = np.random.default_rng(1).normal(size=(20, 20, 20)).astype(np.float32)
    assert background_value(noisy) is None
    assert preprocess(study(tmp_path, FLAIR=noisy), Preprocessing()).images.shape[1:] == (20, 20, 20)


def test_scan_that_is_constant_in_the_brain_raises_an_error_with_its_file(tmp_path):
    flat = np.zeros((20, 20, 20), np.float32)
    flat[0, 0, 0] = 0.5  # not constant in the whole scan
    with pytest.raises(ImageError, match=r"FLAIR\.nii\.gz"):
        preprocess(study(tmp_path, mask=True, FLAIR=flat), Preprocessing())


def test_a_mask_of_a_small_part_of_the_head_is_no_brain_mask(tmp_path):
    whole, tumour = study(tmp_path, mask=True), np.zeros((20, 20, 20), bool)
    tumour[6:10, 6:10, 6:10] = True  # 64 of 1232 voxels
    with pytest.raises(ImageError, match=r"mask\.nii\.gz has only 5\.2 % as many voxels as the head"):
        preprocess(replace(whole, brain=tumour), Preprocessing())


def test_a_brain_mask_is_compared_with_the_head_and_not_with_noise_around_it(tmp_path):
    head = np.random.default_rng(1).normal(0, 1, (20, 20, 20)).astype(np.float32)
    head[5:15, 5:15, 5:15] += 100
    brain = np.zeros((20, 20, 20), bool)
    brain[6:12, 6:12, 6:12] = True  # 2.7 % of the volume and 21.6 % of the head
    loaded = replace(study(tmp_path, mask=True), images={"T1c": head}, brain=brain)
    assert preprocess(loaded, Preprocessing()).images.shape[1:] == (6, 6, 6)
