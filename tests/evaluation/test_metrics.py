import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_erosion, distance_transform_edt

from anymri.evaluation.metrics import ONE_EMPTY_HD95_MM, dice, hd95

masks = arrays(bool, (6, 5, 4))
EMPTY, FULL = np.zeros((6, 5, 4), bool), np.ones((6, 5, 4), bool)


def test_empty_masks_follow_the_stated_rule():
    assert (dice(EMPTY, EMPTY), dice(EMPTY, FULL)) == (1, 0)
    assert (hd95(EMPTY, EMPTY), hd95(EMPTY, FULL)) == (0, ONE_EMPTY_HD95_MM)


@given(masks, masks)
def test_metrics_do_not_care_which_mask_is_which(a, b):
    assert dice(a, b) == dice(b, a) and hd95(a, b) == pytest.approx(hd95(b, a))


@settings(deadline=None)
@given(masks.filter(np.any), masks.filter(np.any), st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3))
def test_hd95_equals_the_definition_by_distance_maps(a, b, spacing):
    surfaces = [mask & ~binary_erosion(mask) for mask in (a, b)]
    maps = [distance_transform_edt(~surface, sampling=spacing) for surface in surfaces]
    pooled = np.concatenate([maps[1][surfaces[0]], maps[0][surfaces[1]]])
    assert hd95(a, b, spacing) == pytest.approx(np.percentile(pooled, 95))


def test_dice_of_a_real_networks_masks_is_that_of_their_source(real_data):
    """Figures of SOURCE.md in that folder: channels ET, TC, WT."""
    import nibabel as nib

    folder = real_data / "region-label-pairs"
    expected = {"1": (0.955, 0.973, 0.967), "2": (0.961, 0.988, 0.979)}
    for sample, figures in expected.items():
        a, b = (
            np.asarray(nib.load(folder / f"SegResNet_sample_{sample}_{kind}.nii.gz").dataobj) > 0.5
            for kind in ("pred", "label")
        )
        assert [dice(a[i], b[i]) for i in range(3)] == pytest.approx(figures, abs=5e-4)
        assert all(0 < hd95(a[i], b[i]) < 100 for i in range(3))
