import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anymri.errors import LabelError
from anymri.regions import CLASSES, SCHEMES, label_scheme, region_mask, to_label_map


def regions_of(scheme, value):
    """Return the regions that a voxel with this label value belongs to."""
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
def test_label_values_become_the_regions_of_their_data_set(scheme, by_value):
    assert {value: regions_of(scheme, value) for value in by_value} == by_value
    assert set(label_scheme(scheme).values) == set(by_value)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_values_outside_the_scheme_raise_an_error_with_file_and_value(scheme):
    for value in set(range(-1, 8)) - {0, *label_scheme(scheme).values}:
        with pytest.raises(LabelError, match=rf"case_seg.* {value}\b"):
            label_scheme(scheme).to_classes(np.array([0, value]), "case_seg.nii.gz")


@pytest.mark.parametrize("values", [[0, 0.5], [0, 70000.0], [-3.0, 0], [2.9]])
def test_values_that_are_not_a_label_map_raise_an_error(values):
    with pytest.raises(LabelError):
        label_scheme("brats2023").to_classes(np.array(values, dtype=np.float32), "x")


def test_values_inexact_from_a_scale_factor_are_rounded():
    labels = np.array([0, 0.99999997, 2.0000002, 3], dtype=np.float64)
    assert label_scheme("brats2023").to_classes(labels, "x").tolist() == [0, 1, 2, 3]


def test_unknown_scheme_raises_an_error_with_the_closest_name():
    with pytest.raises(LabelError, match="brats2023"):
        label_scheme("brats-2023")


def test_schemes_are_trainable_if_they_have_enhancing_tumour():
    assert [name for name, scheme in SCHEMES.items() if not scheme.trainable] == ["brats2012"]


@given(arrays(np.float32, (5, 2, 3, 2), elements=st.floats(-5, 5, width=32)))
def test_label_map_of_classes_is_the_most_likely_class(logits):
    assert (to_label_map(torch.from_numpy(logits), "classes").numpy() == logits.argmax(0)).all()


@given(arrays(np.float32, (4, 2, 3, 2), elements=st.floats(0, 1, width=32)))
def test_label_map_of_regions_is_nested(probabilities):
    labels = to_label_map(torch.from_numpy(probabilities), "regions").numpy()
    assert labels.dtype == np.uint8 and labels.max() < len(CLASSES)
    whole, core, enhancing, cavity = probabilities > 0.5
    assert (region_mask(labels, "WT") == whole).all()
    assert (region_mask(labels, "TC") == (whole & core)).all()
    assert (region_mask(labels, "ET") == (whole & core & enhancing)).all()
    assert (region_mask(labels, "RC") == (cavity & ~whole)).all()
