import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anymri.errors import LabelError
from anymri.regions import CLASSES, SCHEMES, label_scheme, region_mask, to_label_map


def regions_of(scheme, value):
    """Which regions a voxel with this label value belongs to."""
    classes = label_scheme(scheme).to_classes(np.array([value]), "a test")
    return {r for r in ("WT", "TC", "ET", "RC") if region_mask(classes, r)[0]}


WT, TC, ET = {"WT"}, {"WT", "TC"}, {"WT", "TC", "ET"}


@pytest.mark.parametrize(
    ("scheme", "by_value"),
    [
        ("brats2012", {1: WT, 2: TC}),
        ("brats2013", {1: TC, 2: WT, 3: TC, 4: ET}),
        ("brats2015", {1: TC, 2: WT, 3: TC, 4: ET}),
        ("brats2018", {1: TC, 2: WT, 4: ET}),
        ("brats2020", {1: TC, 2: WT, 4: ET}),
        ("brats2021", {1: TC, 2: WT, 4: ET}),
        ("brats2023", {1: TC, 2: WT, 3: ET}),
        ("brats2024", {1: TC, 2: WT, 3: ET, 4: {"RC"}}),
        ("brats_peds2024", {1: ET, 2: TC, 3: TC, 4: WT}),
    ],
)
def test_label_values_mean_what_their_data_set_says(scheme, by_value):
    assert {value: regions_of(scheme, value) for value in by_value} == by_value
    assert set(label_scheme(scheme).values) == set(by_value)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_value_outside_a_scheme_is_refused(scheme):
    for value in set(range(-1, 8)) - {0, *label_scheme(scheme).values}:
        with pytest.raises(LabelError, match=rf"case_seg.* {value}\b"):
            label_scheme(scheme).to_classes(np.array([0, value]), "case_seg.nii.gz")


@pytest.mark.parametrize("values", [[0, 0.5], [0, 70000.0], [-3.0, 0], [2.9]])
def test_what_is_no_label_map_is_refused(values):
    with pytest.raises(LabelError):
        label_scheme("brats2023").to_classes(np.array(values, dtype=np.float32), "x")


def test_values_blurred_by_a_scale_factor_are_whole():
    labels = np.array([0, 0.99999997, 2.0000002, 3], dtype=np.float64)
    assert label_scheme("brats2023").to_classes(labels, "x").tolist() == [0, 1, 2, 3]


def test_an_unknown_scheme_is_answered_with_the_closest():
    with pytest.raises(LabelError, match="brats2023"):
        label_scheme("brats-2023")


def test_a_scheme_without_enhancing_tumour_cannot_be_trained_on():
    assert [name for name, scheme in SCHEMES.items() if not scheme.trainable] == ["brats2012"]


@given(arrays(np.float32, (5, 2, 3, 2), elements=st.floats(-5, 5, width=32)))
def test_class_scores_become_the_most_likely_class_in_numpy_and_torch(scores):
    expected = scores.argmax(0)
    assert (to_label_map(scores, "classes") == expected).all()
    assert (to_label_map(torch.from_numpy(scores), "classes").numpy() == expected).all()


@given(arrays(np.float32, (4, 2, 3, 2), elements=st.floats(0, 1, width=32)))
def test_region_scores_become_nested_labels_in_numpy_and_torch(scores):
    labels = to_label_map(scores, "regions")
    assert labels.dtype == np.uint8 and labels.max() < len(CLASSES)
    assert (labels == to_label_map(torch.from_numpy(scores), "regions").numpy()).all()
    whole, core, enhancing, cavity = scores > 0.5
    assert (region_mask(labels, "WT") == whole).all()
    assert (region_mask(labels, "TC") == (whole & core)).all()
    assert (region_mask(labels, "ET") == (whole & core & enhancing)).all()
    assert (region_mask(labels, "RC") == (cavity & ~whole)).all()
