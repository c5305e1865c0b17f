"""Metrics against their definitions, and the invariances that they must have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_erosion, distance_transform_edt
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from anymri.errors import ConfigurationError
from anymri.evaluation.metrics import METRICS, ONE_EMPTY_HD95_MM, axes_of, choose, conventions, dice, score
from anymri.evaluation.metrics.axes import voxel_mm3
from anymri.evaluation.metrics.calibration import BINS, RegionProbabilities, brier, reliability
from anymri.evaluation.metrics.comparison import Comparison
from anymri.evaluation.metrics.lesions import GLI_2023, group, score_2023
from anymri.evaluation.metrics.reconstruction import nmse, psnr, ssim
from anymri.evaluation.metrics.surfels import surfel_areas

SHAPE = (6, 5, 4)
masks = arrays(bool, SHAPE)
class_maps = arrays(np.uint8, SHAPE, elements=st.integers(0, 4))
spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3)
EMPTY, FULL = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
OF_MASKS = [name for name, metric in METRICS.items() if metric.needs == "masks"]


@pytest.mark.parametrize(
    ("name", "both_empty", "one_empty"),
    [
        ("dice", 1, 0),
        ("hd95", 0, ONE_EMPTY_HD95_MM),
        ("hd95_directed", 0, ONE_EMPTY_HD95_MM),
        ("hd95_area", 0, 374),
        ("hd95_sobel", 0, 0),
        ("assd", 0, ONE_EMPTY_HD95_MM),
        ("nsd_1mm", 1, 0),
        ("nsd_voxels_1mm", 1, 0),
        ("sensitivity", 1, 0),
        ("precision", 1, 0),
        ("volume_error", 0, 0.12),
        ("lesion_dice_2023", 1, 0),
        ("lesion_hd95_2023", 0, 374),
        ("lesion_hd95_2024", 0, 337),
        ("hd95_legacy_2024", 0, 337),
    ],
)
def test_empty_masks_follow_the_stated_rule(name, both_empty, one_empty):
    assert score(name, EMPTY, EMPTY) == both_empty
    assert score(name, FULL, EMPTY) == pytest.approx(one_empty)
    if name != "lesion_hd95_2024" and name.split("_")[0] != "lesion":  # small lesions are ignored
        assert score(name, EMPTY, FULL) == pytest.approx(one_empty)


def test_specificity_counts_the_background_of_the_whole_image():
    one = EMPTY.copy()
    one[0, 0, 0] = True
    assert score("specificity", one, EMPTY) == pytest.approx(1 - 1 / 120)
    assert score("specificity", FULL, FULL) == 1


@pytest.mark.parametrize(("voxels", "expected"), [(499, 0.0), (500, 2 * 500 / 1500)])
def test_the_size_rule_empties_a_predicted_et_below_500_voxels(voxels, expected):
    truth = np.ones((10, 10, 10), bool)
    prediction = (np.arange(1000) < voxels).reshape(truth.shape)
    assert score("dice_et500", prediction, truth) == pytest.approx(expected)
    assert score("dice_et500", prediction, ~truth) == (voxels < 500)
    assert score("dice", prediction, truth) == pytest.approx(2 * voxels / (voxels + 1000))


@settings(deadline=None, max_examples=30)
@given(masks, masks)
def test_symmetric_metrics_give_the_same_value_for_swapped_masks(a, b):
    for name in ("dice", "hd95", "hd95_directed", "hd95_area", "assd", "nsd_1mm", "nsd_voxels_1mm", "volume_error"):
        assert score(name, a, b) == pytest.approx(score(name, b, a)), name
    assert score("sensitivity", a, b) == score("precision", b, a)


@settings(deadline=None, max_examples=20)
@given(class_maps, spacings)
def test_a_perfect_prediction_is_perfect_by_every_metric(classes, spacing):
    comparison = Comparison(classes, classes.copy(), spacing)
    for name in OF_MASKS:
        metric = METRICS[name]
        if name.endswith("_2024") and (spacing != (1, 1, 1) or "legacy" in name):
            continue  # small predictions go by voxels, lesions by mm³ or not at all: even a perfect one may miss some
        if name == "dice_plus_one":
            continue  # below 1 also for a perfect prediction, and 0 for an empty one
        for region in set(metric.regions) - ({"ET"} if name.endswith("et500") else set()):
            perfect = 1 if metric.higher_is_better else 0
            assert metric.of(comparison, region) == pytest.approx(perfect, abs=1e-7), (name, region)


@settings(deadline=None, max_examples=40)
@given(masks.filter(np.any), masks.filter(np.any), spacings)
def test_voxel_surface_metrics_equal_their_definition_by_distance_maps(a, b, spacing):
    surfaces = [mask & ~binary_erosion(mask) for mask in (a, b)]
    maps = [distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    one, other = maps[1][surfaces[0]], maps[0][surfaces[1]]
    pooled = np.concatenate([one, other])
    expected = {
        "hd95": np.percentile(pooled, 95),
        "hd95_directed": max(np.percentile(one, 95), np.percentile(other, 95)),
        "assd": pooled.mean(),
        "nsd_voxels_0.5mm": ((one <= 0.5).mean() + (other <= 0.5).mean()) / 2,
        "nsd_voxels_2mm": ((one <= 2).mean() + (other <= 2).mean()) / 2,
    }
    for name, value in expected.items():
        assert score(name, a, b, spacing) == pytest.approx(value), name


@settings(deadline=None, max_examples=15)
@given(class_maps, class_maps, st.tuples(*[st.integers(0, 9)] * 3), st.tuples(*[st.integers(7, 9)] * 3))
def test_a_larger_image_around_the_masks_changes_no_metric_but_specificity(a, b, before, after):
    """Sobel surfaces and lesion rules depend on the border of the image, so the small one has a margin of 7."""
    small = [np.pad(classes, 7) for classes in (a, b)]
    large = [np.pad(classes, list(zip(before, after, strict=True))) for classes in small]
    first, second = Comparison(*small), Comparison(*large)
    for name in OF_MASKS:
        if name != "specificity":
            for region in METRICS[name].regions:
                assert METRICS[name].of(first, region) == METRICS[name].of(second, region), (name, region)


@settings(deadline=None, max_examples=15)
@given(class_maps, class_maps, st.permutations(range(3)), spacings)
def test_metrics_do_not_depend_on_the_order_of_axes(a, b, axes, spacing):
    """The rules of 2024 are an exception: their merging depends on the order of voxels."""
    turned = Comparison(a.transpose(axes), b.transpose(axes), [spacing[axis] for axis in axes])
    straight = Comparison(a, b, spacing)
    for name in OF_MASKS:
        if not name.endswith("_2024") and name != "hd95_sobel":
            # Four path-like voxels have a bent surface whose area depends on its triangulation at unequal spacing.
            if name in ("hd95_area", "nsd_1mm", "nsd_0.5mm", "nsd_2mm") or "lesion_hd95" in name:
                continue
            for region in METRICS[name].regions:
                assert METRICS[name].of(turned, region) == pytest.approx(METRICS[name].of(straight, region)), name


def test_areas_of_surfels_are_those_of_the_sheet():
    """Set voxels around a node: (0, 0, 0) weighs 128, (0, 0, 1) 64, (0, 1, 0) 32, ... (1, 1, 1) 1."""
    triangle, flat = 3**0.5 / 8, 2**0.5 / 2
    areas = surfel_areas(np.eye(3))
    expected = {
        0b10000000: triangle,
        0b11000000: flat,
        0b10010000: 2 * triangle,
        0b10000001: 2 * triangle,
        0b11100000: 0.5 + 3 * triangle,
        0b11000001: flat + triangle,
        0b10010100: 3 * triangle,
        0b11110000: 1.0,
        0b11101000: 6 * triangle,
        0b11100001: 0.5 + 4 * triangle,
        0b11000011: 2**0.5,
        0b10010110: 4 * triangle,
        0b11100100: flat + 3**0.5 / 2,
        0: 0.0,
    }
    for code, area in expected.items():
        assert areas[code] == pytest.approx(area), f"{code:08b}"
        assert areas[255 - code] == pytest.approx(area), f"{255 - code:08b}"


def test_areas_of_surfels_follow_the_spacing():
    areas = surfel_areas(np.diag([1.0, 2.0, 3.0]))
    assert areas[0b11110000] == pytest.approx(2 * 3)
    assert areas[0b11001100] == pytest.approx(1 * 3)
    assert areas[0b10101010] == pytest.approx(1 * 2)


def affine_of(*columns):
    affine = np.eye(4)
    affine[:3, :3] = np.transpose(columns)
    return affine


@pytest.mark.parametrize("seed", range(5))
def test_axes_at_right_angles_are_the_sizes_however_the_grid_is_turned(seed):
    sizes = np.random.default_rng(seed).uniform(0.4, 3, 3)
    affine = affine_of(*(Rotation.random(random_state=seed).as_matrix() * sizes).astype(np.float32).T)
    np.testing.assert_array_equal(axes_of(affine), np.diag(np.linalg.norm(affine[:3, :3], axis=0)))


def test_axes_of_a_sheared_grid_are_those_of_its_affine():
    affine = affine_of((-1, 0, 0), (0, -1, 0), (0, 1e-3, 2))
    np.testing.assert_array_equal(axes_of(affine), affine[:3, :3])


sheared = st.tuples(spacings, st.tuples(*[st.sampled_from([-0.6, 0.0, 0.4])] * 3)).map(
    lambda drawn: np.diag(drawn[0]) @ (np.eye(3) + np.array([[0, *drawn[1][:2]], [0, 0, drawn[1][2]], [0, 0, 0]]))
)


@settings(deadline=None, max_examples=30)
@given(masks.filter(np.any), masks.filter(np.any), sheared)
def test_voxel_surface_metrics_on_sheared_grids_are_those_of_world_coordinates(a, b, axes):
    one, other = (np.argwhere(mask & ~binary_erosion(mask)) @ axes.T for mask in (a, b))
    there, back = cKDTree(other).query(one)[0], cKDTree(one).query(other)[0]
    pooled = np.concatenate([there, back])
    expected = {
        "hd95": np.percentile(pooled, 95),
        "hd95_directed": max(np.percentile(there, 95), np.percentile(back, 95)),
        "assd": pooled.mean(),
        "volume_error": abs(int(a.sum()) - int(b.sum())) * abs(np.linalg.det(axes)) / 1000,
    }
    for name, value in expected.items():
        assert score(name, a, b, axes) == pytest.approx(value), name


def test_areas_of_surfels_on_a_sheared_grid_are_those_of_its_faces():
    x, y, z = axes = np.array([[1.0, 0, 0], [0.3, 2, 0], [0.2, -0.7, 3]])
    areas = surfel_areas(axes.T)
    for code, face in ((0b11110000, (y, z)), (0b11001100, (x, z)), (0b10101010, (x, y))):
        assert areas[code] == pytest.approx(np.linalg.norm(np.cross(*face)))


def test_distances_by_area_between_shifted_slabs_of_a_sheared_grid_are_the_shortest_ways():
    """A slab moved along a slanting axis is as far away as its surface, not as the steps along the axis."""
    a, b = np.zeros((2, 60, 60, 16), bool)
    a[:, :, 4:8] = b[:, :, 7:11] = True
    tilted = np.array([[1.0, 0, 0], [0, 1, 1], [0, 0, 1]])
    assert score("hd95_area", a, b, np.eye(3)) == score("hd95", a, b, np.eye(3)) == 3
    for name in ("hd95_area", "hd95"):
        assert score(name, a, b, tilted) == pytest.approx(3), name
    assert score("volume_error", a, a & ~b, tilted) == pytest.approx(3.6)


def test_the_threshold_of_lesions_goes_by_the_volume_of_sheared_voxels():
    truth = np.zeros((20, 20, 20), bool)
    truth[8:10, 8:13, 8:13] = True  # 50 voxels, of which the sides are longer than 1 mm
    axes = np.array([[1.0, 0.5, 0], [0, 1, 0.5], [0, 0, 1]])
    assert voxel_mm3(axes) == 1 and score_2023(~truth & False, truth, axes, GLI_2023).missed == 0
    assert score_2023(~truth & False, truth, 1.01 * axes, GLI_2023).missed == 1


def test_groups_are_numbered_in_the_order_of_their_first_voxels():
    mask = np.zeros((30, 30, 30), bool)
    mask[20, 2, 2] = mask[2, 20, 20] = mask[2, 20, 2] = mask[4, 20, 2] = True
    numbers = group(mask, 3)
    assert numbers[2, 20, 2] == numbers[4, 20, 2] == 1
    assert (numbers[2, 20, 20], numbers[20, 2, 2]) == (2, 3)


def test_a_lesion_at_the_threshold_is_ignored_even_if_the_header_rounds():
    truth = np.zeros((20, 20, 20), bool)
    truth[8:10, 8:13, 8:13] = True  # 50 voxels
    for spacing, kept in (((1, 1, 1), 0), ((1.0000001,) * 3, 0), ((1.01,) * 3, 1)):
        assert score_2023(~truth & False, truth, np.diag(spacing), GLI_2023).missed == kept


def test_errors_for_unknown_metrics_name_the_closest():
    with pytest.raises(ConfigurationError, match="Did you mean hd95"):
        choose(["hd59"])
    with pytest.raises(ConfigurationError, match="No metric"):
        choose([" "])
    assert [metric.name for metric in choose(["dice", " hd95", "dice"])] == ["dice", "hd95"]


def test_conventions_are_sentences_that_differ():
    texts = conventions(METRICS.values())
    assert len(set(texts.values())) == len(texts) and min(map(len, texts.values())) > 20


@settings(deadline=None)
@given(arrays(float, 50, elements=st.floats(0, 1)), arrays(bool, 50))
def test_reliability_curves_sum_to_all_voxels_and_errors_are_between_0_and_1(probability, present):
    curve = reliability(probability, present)
    assert curve.voxels.sum() == 50 and 0 <= curve.error <= 1
    assert np.dot(curve.voxels, curve.predicted) == pytest.approx(probability.sum())
    assert np.dot(curve.voxels, curve.observed) == pytest.approx(present.sum())
    assert brier(present.astype(float), present) == 0 and reliability(present.astype(float), present).error == 0
    assert 0 <= brier(probability, present) <= 1


def test_a_certain_and_wrong_network_has_the_largest_calibration_error():
    present = np.array([True, False])
    assert brier(1.0 - present, present) == 1 and reliability(1.0 - present, present).error == 1
    assert reliability(np.full(2, 0.5), present).error == 0
    assert np.flatnonzero(reliability(np.array([0.0, 1.0]), present).voxels).tolist() == [0, BINS - 1]


@pytest.mark.parametrize("kind", ["classes", "regions"])
def test_region_probabilities_are_sums_of_classes_or_the_output_for_the_region(kind):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), (2, 2, 2)).transpose(3, 0, 1, 2).astype(np.float32)
    truth = rng.integers(0, 4, (2, 2, 2)).astype(np.uint8)
    inside = truth >= 0
    inside[0] = False
    probability, present = RegionProbabilities(probabilities, kind, truth, inside).of("TC")
    expected = probabilities[1] + probabilities[3] if kind == "classes" else probabilities[1]
    np.testing.assert_allclose(probability, expected[1].ravel(), rtol=1e-6)
    np.testing.assert_array_equal(present, np.isin(truth[1].ravel(), (1, 3)))


def test_reconstructions_are_compared_inside_the_mask_only():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(12, 12, 12))
    mask = np.zeros(real.shape, bool)
    mask[3:9, 3:9, 3:9] = True
    reconstructed = np.where(mask, real, np.nan)
    assert psnr(reconstructed, real, mask) == np.inf and nmse(reconstructed, real, mask) == 0
    assert ssim(real, real, mask) == pytest.approx(1)
    off = real + 0.1
    assert psnr(off, real, mask) == pytest.approx(20 * np.log10(np.ptp(real[mask]) / 0.1))
    assert nmse(off, real, mask) == pytest.approx(0.01 * mask.sum() / (real[mask] ** 2).sum())
    assert ssim(rng.normal(size=real.shape), real, mask) < 0.3
    for metric in (psnr, ssim, nmse):
        assert np.isnan(metric(real, real, mask & False))
    for metric in (psnr, ssim):  # which need the range of the real scan
        assert np.isnan(metric(real, np.ones_like(real), mask))


def test_ssim_is_the_formula_of_its_paper():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(2, 12, 11, 11))
    mask = np.zeros(x.shape, bool)
    mask[5:7, 5, 5] = True  # windows of 11 around both lie inside the image
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.einsum("i,j,k->ijk", line, line, line) / line.sum() ** 3
    c1, c2 = (0.01 * np.ptp(y[mask])) ** 2, (0.03 * np.ptp(y[mask])) ** 2
    expected = []
    for start in (0, 1):
        u, v = (image[start : start + 11] for image in (x, y))
        mean_u, mean_v = (weights * u).sum(), (weights * v).sum()
        variance_u, variance_v = (weights * (u - mean_u) ** 2).sum(), (weights * (v - mean_v) ** 2).sum()
        above = (2 * mean_u * mean_v + c1) * (2 * (weights * (u - mean_u) * (v - mean_v)).sum() + c2)
        expected.append(above / ((mean_u**2 + mean_v**2 + c1) * (variance_u + variance_v + c2)))
    assert ssim(x, y, mask) == pytest.approx(np.mean(expected))


def test_dice_of_the_masks_of_a_real_network_is_that_of_their_source(real_data):
    """The expected values are those of SOURCE.md in that folder: channels ET, TC, WT. All metrics are finite."""
    import nibabel as nib

    folder = real_data / "region-label-pairs"
    expected = {"1": (0.955, 0.973, 0.967), "2": (0.961, 0.988, 0.979)}
    for sample, figures in expected.items():
        a, b = (
            np.asarray(nib.load(folder / f"SegResNet_sample_{sample}_{kind}.nii.gz").dataobj) > 0.5
            for kind in ("pred", "label")
        )
        assert [dice(a[i], b[i]) for i in range(3)] == pytest.approx(figures, abs=5e-4)
        assert [score("dice", a[i], b[i]) for i in range(3)] == pytest.approx(figures, abs=5e-4)
    # As one map of classes, in which the regions are nested even where those of the network are not.
    comparison = Comparison(*(np.select([*m], [3, 1, 2], 0).astype(np.uint8) for m in (a, b)))
    values = {(n, r): METRICS[n].of(comparison, r) for n in OF_MASKS for r in METRICS[n].regions}
    assert np.isfinite(list(values.values())).all()
    assert all(0 < values["hd95", r] < 100 for r in ("ET", "TC", "WT"))
