"""Realistic cases: reproducible, well-formed, and true to physics where tissue is compared with tissue."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from anymri.errors import ConfigurationError
from anymri.modalities import ALL, MODALITIES
from anymri.regions import ED, ET, NCR
from anymri.synthesis.anatomy import CSF, GREY, OUTSIDE, WHITE
from anymri.synthesis.realistic.generator import COMPLETE, generate
from anymri.synthesis.realistic.lesions import VOLUME_ML

COARSE = 4.0  # mm, for what does not depend on detail
ENOUGH = 30  # voxels for a mean


@pytest.fixture(scope="module")
def cases():
    return [generate(3, index) for index in range(10)]


@pytest.fixture(scope="module")
def coarse_cases():
    return [generate(8, index, COARSE) for index in range(40)]


def mean(case, modality, mask):
    """Return the mean brightness under a mask, or NaN of few voxels."""
    return case.images[modality][mask].mean() if mask.sum() >= ENOUGH else np.nan


def ratios(cases, modality, mask_of, other_of):
    """Return one ratio of mean brightness per case that has both."""
    values = np.array([mean(c, modality, mask_of(c)) / mean(c, modality, other_of(c)) for c in cases])
    values = values[np.isfinite(values)]
    assert len(values) >= 5
    return values


def healthy(tissue):
    """Return a function: mask of a tissue of a case inside its borders, two voxels or more from the tumour."""
    return lambda case: binary_erosion(case.tissue == tissue) & ~binary_dilation(case.labels > 0, iterations=2)


def label(value):
    return lambda case: case.labels == value


def test_same_seed_and_index_give_the_same_voxels_in_any_order():
    first = generate(4, 2, COARSE)
    generate(4, 3, COARSE)
    again = generate(4, 2, COARSE)
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.brain, again.brain)
    assert (first.available, first.kind, first.lesions) == (again.available, again.kind, again.lesions)
    for modality in MODALITIES:
        np.testing.assert_array_equal(first.images[modality], again.images[modality])


@pytest.mark.parametrize("other", [(4, 1), (5, 0)])
def test_another_seed_or_index_gives_another_brain(other):
    assert (generate(4, 0, COARSE).tissue != generate(*other, COARSE).tissue).mean() > 0.1


def test_case_has_the_same_brain_and_tumour_on_a_finer_grid():
    coarse, fine = generate(3, 3, COARSE), generate(3, 3, 2.0)
    for of in (lambda c: c.brain, lambda c: c.labels > 0):
        small = of(fine).reshape(40, 2, 48, 2, 40, 2).mean((1, 3, 5)) > 0.5
        large = of(coarse)
        assert 2 * (small & large).sum() / (small.sum() + large.sum()) > 0.85


def test_volumes_have_the_shape_and_types_that_are_documented(cases):
    for case in cases:
        assert set(case.images) == set(MODALITIES)
        assert case.labels.shape == case.brain.shape == case.tissue.shape == (80, 96, 80)
        assert (case.labels.dtype, case.brain.dtype, case.tissue.dtype) == (np.uint8, bool, np.uint8)
        assert {image.dtype for image in case.images.values()} == {np.dtype(np.float32)}
        assert {image.shape for image in case.images.values()} == {(80, 96, 80)}


def test_shape_can_be_chosen():
    case = generate(0, 0, COARSE, shape=(24, 28, 20))
    assert case.images["T2"].shape == case.labels.shape == (24, 28, 20)
    assert case.brain.mean() > 0.8  # the middle of the head


def test_a_tumour_may_be_outside_of_a_small_grid():
    for index in range(3):
        assert generate(1, index, 1.0, shape=(64, 64, 64), easy=True).tissue.any()


def test_scans_are_positive_in_the_brain_mask_and_zero_outside(cases):
    for case in cases:
        for image in case.images.values():
            assert np.isfinite(image).all()
            np.testing.assert_array_equal(image > 0, case.brain)
        np.testing.assert_array_equal(case.tissue != OUTSIDE, case.brain)
        assert case.brain[case.labels > 0].all()


def test_brains_have_the_size_of_human_brains(coarse_cases):
    volumes = [case.brain.sum() * COARSE**3 / 1000 for case in coarse_cases]
    assert min(volumes) > 850 and max(volumes) < 2100
    assert 1200 < np.median(volumes) < 1600


def test_tumours_have_the_volumes_that_are_documented(coarse_cases):
    with_tumour = [case for case in coarse_cases if case.lesions == 1]
    volumes = np.array([(case.labels > 0).sum() * COARSE**3 / 1000 for case in with_tumour])
    assert len(volumes) > 15
    assert volumes.min() > 0.9 * VOLUME_ML[0] and volumes.max() < 1.1 * VOLUME_ML[1]
    assert volumes.max() > 10 * volumes.min()
    for case in coarse_cases:
        assert case.labels.any() == (case.lesions > 0) == (case.kind != "healthy")


def test_cases_of_a_kind_have_its_labels(coarse_cases):
    kinds = {case.kind for case in coarse_cases}
    assert len(kinds) >= 5
    for case in coarse_cases:
        necrotic, enhancing = (case.labels == NCR).sum(), (case.labels == ET).sum()
        if necrotic + enhancing < ENOUGH:
            continue
        share = enhancing / (necrotic + enhancing)
        if case.kind == "solid":
            assert share > 0.85
        elif case.kind == "non_enhancing":
            assert share < 0.2
        elif case.kind == "cystic":
            assert share < 0.5
        assert case.kind != "oedema_only"


def test_easy_cases_always_have_a_large_tumour():
    for index in range(6):
        case = generate(11, index, COARSE, easy=True)
        assert (case.labels > 0).sum() * COARSE**3 / 1000 > 7


def test_missing_modalities_have_the_documented_frequency(coarse_cases):
    complete = np.mean([case.available == ALL for case in coarse_cases])
    assert abs(complete - COMPLETE) < 3 * np.sqrt(COMPLETE * (1 - COMPLETE) / len(coarse_cases))
    assert len({str(case.available) for case in coarse_cases}) > 6


def test_enhancing_tumour_is_brighter_than_the_rest_on_t1c_in_every_case(cases):
    for other in (NCR, ED):
        values = ratios(cases, "T1c", label(ET), label(other))
        assert values.min() > 1 and np.median(values) > 1.25  # a thin rim in thick slices is hardly visible
    assert ratios(cases, "T1c", label(ET), healthy(WHITE)).min() > 1.0


def test_enhancing_tumour_is_not_bright_on_t1(cases):
    assert ratios(cases, "T1", label(ET), healthy(WHITE)).max() < 1.2


def test_oedema_is_bright_on_flair_and_t2_and_dark_on_t1_in_every_case(cases):
    assert ratios(cases, "FLAIR", label(ED), healthy(WHITE)).min() > 1.05
    assert ratios(cases, "T2", label(ED), healthy(WHITE)).min() > 1.05
    assert np.median(ratios(cases, "T1", label(ED), healthy(WHITE))) < 0.95


def test_fluid_is_dark_on_flair_and_t1_and_bright_on_t2(cases):
    for modality in ("T1", "T1c", "FLAIR"):
        assert np.median(ratios(cases, modality, healthy(CSF), healthy(WHITE))) < 0.75
    assert ratios(cases, "T2", healthy(CSF), healthy(WHITE)).min() > 1.2


@pytest.mark.parametrize(("modality", "brighter"), [("T1", WHITE), ("T1c", WHITE), ("T2", GREY), ("FLAIR", GREY)])
def test_grey_and_white_matter_have_the_order_of_the_modality(cases, modality, brighter):
    darker = GREY + WHITE - brighter
    assert np.median(ratios(cases, modality, healthy(brighter), healthy(darker))) > 1.03


@pytest.mark.parametrize(
    "request_",
    [
        {"seed": -1, "index": 0},
        {"seed": 0, "index": -1},
        {"seed": 0, "index": 0, "spacing": 0.5},
        {"seed": 0, "index": 0, "spacing": 9.0},
        {"seed": 0, "index": 0, "shape": (8, 96, 80)},
    ],
)
def test_request_out_of_range_is_refused(request_):
    with pytest.raises(ConfigurationError):
        generate(**request_)
