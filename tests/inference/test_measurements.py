"""Measurements of label maps: volumes, axial diameters, lesions and sides, on shapes whose values are known."""

import csv
import io
import math

import numpy as np
import pytest
from nibabel.affines import from_matvec
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from anymri.inference.diameters import axial_axis, axial_diameters, slice_distance_mm
from anymri.inference.gains import expected_gains
from anymri.inference.lesions import find_lesions, middle_of, side_of, without_small
from anymri.inference.measurements import as_table, filled, intensity_statistics, measure
from anymri.modalities import SUBSETS, Subset
from anymri.regions import ED, ET, NCR, RC

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def turned(degrees, axis="z"):
    """Return a rotation (3, 3) about a world axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rows = {"x": [[1, 0, 0], [0, c, -s], [0, s, c]], "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]]}
    return np.array(rows[axis], dtype=float)


def grid(shape, spacing=(1, 1, 1), rotation=None):
    """Return the affine of a grid around the world's origin."""
    matrix = (np.eye(3) if rotation is None else rotation) @ np.diag(np.array(spacing, float)) @ np.diag([-1, -1, 1])
    return from_matvec(matrix, -matrix @ ((np.array(shape) - 1) / 2))


def ellipsoid(shape, affine, semi_axes, centre=(0, 0, 0), rotation=None):
    """Return the voxels whose centres are in an ellipsoid of the world, bool."""
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = voxels @ affine[:3, :3].T + affine[:3, 3] - centre
    return (((world @ (np.eye(3) if rotation is None else rotation)) / semi_axes) ** 2).sum(-1) <= 1


def in_orientation(array, affine, axes):
    """Return an array and its affine with other stored axes."""
    change = ornt_transform(io_orientation(affine), axcodes2ornt(axes))
    return apply_orientation(array, change), affine @ inv_ornt_aff(change, array.shape)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.5, 0.9, 3), (1, 1, 5), (3, 1, 1)])
def test_diameters_of_an_ellipsoid_are_its_axes_in_the_axial_plane(spacing):
    shape = tuple(int(64 / mm) | 1 for mm in spacing)
    affine = grid(shape, spacing)
    found = axial_diameters(ellipsoid(shape, affine, (20, 12, 16)), affine)
    voxel = max(spacing[:2])
    assert found.longest_mm == pytest.approx(40, abs=voxel)
    assert found.perpendicular_mm == pytest.approx(24, abs=voxel)
    assert found.slice_index == shape[2] // 2
    assert found.product_mm2 == found.longest_mm * found.perpendicular_mm


@pytest.mark.parametrize("degrees", [17, 45, 70])
def test_diameters_do_not_depend_on_the_direction_of_the_ellipsoid_in_the_plane(degrees):
    affine = grid((63, 63, 21))
    found = axial_diameters(ellipsoid((63, 63, 21), affine, (20, 12, 8), rotation=turned(degrees)), affine)
    assert found.longest_mm == pytest.approx(40, abs=1) and found.perpendicular_mm == pytest.approx(24, abs=1)
    start, end = np.array(found.longest_ends_mm)
    angle = math.degrees(math.atan2(*(end - start)[1::-1])) % 180
    assert min(abs(angle - degrees), 180 - abs(angle - degrees)) < 6


def test_diameters_of_an_oblique_scan_are_measured_in_its_slices_in_millimetres():
    rotation = turned(20, "x")
    affine = grid((63, 63, 21), (1, 1, 2), rotation)
    found = axial_diameters(ellipsoid((63, 63, 21), affine, (20, 12, 16), rotation=rotation), affine)
    assert found.longest_mm == pytest.approx(40, abs=1) and found.perpendicular_mm == pytest.approx(24, abs=1)
    np.testing.assert_allclose(np.ptp(found.longest_ends_mm, axis=0)[0], found.longest_mm, atol=0.5)


def test_diameters_are_exact_on_a_sheared_grid():
    affine = LPS.copy()
    affine[0, 1] = 0.4  # rows are displaced along x
    affine[:3, 3] = -affine[:3, :3] @ [31, 31, 3]
    found = axial_diameters(ellipsoid((63, 63, 7), affine, (20, 12, 30)), affine)
    assert found.longest_mm == pytest.approx(40, abs=1.1) and found.perpendicular_mm == pytest.approx(24, abs=1.1)
    assert slice_distance_mm(affine) == pytest.approx(1)


@pytest.mark.parametrize("axes", ["RAS", "SAL", "PIR", "ASL"])
def test_diameters_do_not_depend_on_the_stored_orientation(axes):
    affine = grid((40, 30, 20), (1, 1.2, 2))
    mask = ellipsoid((40, 30, 20), affine, (12, 8, 10), centre=(3, -2, 1), rotation=turned(30))
    expected = axial_diameters(mask, affine)
    stored, stored_affine = in_orientation(mask, affine, axes)
    found = axial_diameters(stored, stored_affine)
    assert found.longest_mm == pytest.approx(expected.longest_mm)
    assert found.perpendicular_mm == pytest.approx(expected.perpendicular_mm, abs=0.1)
    plane = np.linalg.inv(stored_affine) @ [*found.longest_ends_mm[0], 1]
    assert plane[axial_axis(stored_affine)] == pytest.approx(found.slice_index)


def test_a_row_of_voxels_is_as_long_as_its_voxels():
    mask = np.zeros((20, 20, 5), dtype=bool)
    mask[4:14, 7, 2] = True
    found = axial_diameters(mask, grid(mask.shape, (1.5, 1, 1)))
    assert found.longest_mm == pytest.approx(15)
    assert found.perpendicular_mm == pytest.approx(1, abs=0.11) and found.slice_index == 2


def test_the_second_diameter_is_perpendicular_and_crosses_the_first():
    affine = grid((48, 48, 9), (0.8, 1.1, 3))
    found = axial_diameters(ellipsoid((48, 48, 9), affine, (14, 9, 9), rotation=turned(25)), affine)
    (a, b), (c, d) = np.array(found.longest_ends_mm), np.array(found.perpendicular_ends_mm)
    assert np.linalg.norm(b - a) == pytest.approx(found.longest_mm)
    assert np.linalg.norm(d - c) == pytest.approx(found.perpendicular_mm)
    assert (b - a) @ (d - c) == pytest.approx(0, abs=1e-6)
    assert ((a - b) @ (c - b)) * ((b - a) @ (c - a)) > 0  # between the ends of the first
    side = np.cross(b - a, c - a)[2] * np.cross(b - a, d - a)[2]
    assert side < 0  # one end on each side


def a_c_shape():
    """Return the mask of a C whose open ends are 10 mm apart, in one slice."""
    mask = np.zeros((40, 40, 3), dtype=bool)
    mask[5:35, 5:35, 1] = True
    mask[11:35, 11:29, 1] = False
    return mask


def test_a_diameter_does_not_cross_what_is_outside_of_the_lesion():
    mask = a_c_shape()
    found = axial_diameters(mask, LPS)
    assert found.longest_mm == pytest.approx(math.hypot(30, 6), abs=1)  # along one of the three bars
    whole = axial_diameters(mask, LPS, inside=filled(np.ones_like(mask), LPS))
    assert whole.longest_mm == pytest.approx(math.hypot(30, 30), abs=1.5)


def a_ring(middle):
    """Return classes of an enhancing ring, outer radius 14 mm, with a core of radius 10 mm of a class."""
    shape = (41, 41, 7)
    affine = grid(shape)
    classes = np.where(ellipsoid(shape, affine, (14, 14, 99)), ET, 0).astype(np.uint8)
    classes[ellipsoid(shape, affine, (10, 10, 99))] = middle
    return classes, affine


@pytest.mark.parametrize("middle", [NCR, ED, 0])
def test_a_ring_is_measured_across_its_core(middle):
    (lesion,) = measure(*a_ring(middle)).regions["ET"].lesions
    assert lesion.diameters.longest_mm == pytest.approx(28, abs=1)
    assert lesion.diameters.perpendicular_mm == pytest.approx(28, abs=1)


def test_a_ring_is_not_measured_across_a_resection_cavity():
    (lesion,) = measure(*a_ring(RC), num_classes=5).regions["ET"].lesions
    assert lesion.diameters.longest_mm == pytest.approx(
        2 * math.sqrt(14**2 - 10**2), abs=2.5
    )  # a tangent of the cavity


def test_the_slice_of_a_diameter_is_counted_in_the_whole_volume():
    classes = np.zeros((40, 40, 40), np.uint8)
    classes[10:30, 12:24, 22] = ET
    classes[10:22, 12:24, 23:27] = ET
    (lesion,) = measure(classes, LPS).regions["ET"].lesions
    assert lesion.diameters.slice_index == 22


@pytest.mark.parametrize(
    ("semi_axes", "spacing", "measurable"),
    [
        ((8, 6, 8), (1, 1, 1), True),
        ((8, 4, 8), (1, 1, 1), False),  # 8 mm across
        ((8, 6, 0.4), (1, 1, 1), False),  # on one slice
        ((8, 5.5, 20), (1, 1, 6), False),  # at least 12 mm are needed, twice the distance of the slices
        ((8, 7, 20), (1, 1, 6), True),
    ],
)
def test_lesions_are_measurable_by_the_rule_of_rano(semi_axes, spacing, measurable):
    shape = (41, 41, 11)
    affine = grid(shape, spacing)
    ((lesion,), _) = find_lesions(ellipsoid(shape, affine, semi_axes), affine)
    assert lesion.measurable is measurable


def test_volumes_of_regions_and_classes_follow_the_affine():
    classes = np.zeros((30, 30, 10), np.uint8)
    classes[5:25, 5:25, 2:8] = ED
    classes[8:18, 8:18, 3:7] = NCR
    classes[10:15, 10:15, 4:6] = ET
    affine = grid(classes.shape, (0.5, 1, 3), turned(10))
    found = measure(classes, affine)
    et, ncr, wt = 5 * 5 * 2 * 1.5e-3, (10 * 10 * 4 - 50) * 1.5e-3, 20 * 20 * 6 * 1.5e-3
    assert found.classes_ml == pytest.approx({"NCR": ncr, "ED": wt - ncr - et, "ET": et})
    volumes = {name: region.volume_ml for name, region in found.regions.items()}
    assert volumes == pytest.approx({"WT": wt, "TC": ncr + et, "ET": et})


def test_volumes_at_other_probabilities_and_the_uncertain_share_are_those_of_the_probabilities():
    classes = np.zeros((10, 10, 10), np.uint8)
    classes[:, :, :4] = ET
    certain = np.zeros((10, 10, 10), np.float16)
    certain[:, :, :3], certain[:, :, 3], certain[:, :, 4:6] = 0.9, 0.6, 0.3
    found = measure(classes, LPS, np.stack([certain] * 3)).as_json()["regions"]["ET"]
    assert found["volume_ml"] == 0.4
    assert found["volume_ml_at_0.25"] == 0.6 and found["volume_ml_at_0.75"] == 0.3
    assert found["uncertain_share"] == 0.25
    assert "volume_ml_at_0.25" not in measure(classes, LPS).as_json()["regions"]["ET"]


def test_an_empty_label_map_has_volumes_of_zero_and_no_lesions():
    probabilities = np.full((3, 8, 8, 8), 0.3, np.float16)
    found = measure(np.zeros((8, 8, 8), np.uint8), LPS, probabilities, middle_mm=0.0).as_json()
    for region in found["regions"].values():
        assert region["volume_ml"] == 0 and region["side"] is None and not region.get("lesions")
        assert "uncertain_share" not in region and region["volume_ml_at_0.25"] == pytest.approx(0.512)
    assert found["classes"] == {name: {"volume_ml": 0.0} for name in ("NCR", "ED", "ET")}


def test_lesions_are_components_that_touch_by_a_corner_and_the_smallest_are_only_counted():
    mask = np.zeros((40, 40, 40), dtype=bool)
    mask[2:7, 2:7, 2:7] = mask[7:12, 7:12, 7:12] = True  # 250 voxels
    mask[30:36, 30:36, 30:36] = True  # 216 voxels
    mask[20:25, 20:25, 20:22] = True  # 50 voxels: not above the threshold
    mask[20, 2, 2] = True
    lesions, small = find_lesions(mask, LPS)
    assert [each.volume_ml for each in lesions] == pytest.approx([0.250, 0.216])
    assert sorted(small) == pytest.approx([0.001, 0.050])
    assert lesions[1].centre_mm == pytest.approx((-32.5, -32.5, 32.5))


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SAR"])
def test_sides_are_those_of_the_patient_in_every_orientation(axes):
    affine = grid((60, 20, 20))

    def side(*boxes):
        mask = np.zeros((60, 20, 20), dtype=bool)
        for start, stop in boxes:  # x grows to the patient's left
            mask[start:stop, 5:15, 5:15] = True
        return side_of(*in_orientation(mask, affine, axes), middle_mm=0.0)

    assert side((40, 50)) == "left" and side((10, 20)) == "right"
    assert side((10, 20), (40, 50)) == "both"
    assert side((25, 36)) == "midline"
    assert side((29, 50)) == "left"  # 5 % of it are beyond the middle
    assert side((10, 20), (28, 40)) == "midline"
    assert side() is None


@pytest.mark.parametrize("skull", [False, True])
def test_the_middle_of_the_head_is_found_with_and_without_skull(skull):
    shape = (80, 60, 60)
    affine = grid(shape)
    scan = np.zeros(shape, np.float32)
    scan[ellipsoid(shape, affine, (25, 25, 25), centre=(7, 0, 0))] = 100
    if skull:
        scan += np.random.default_rng(0).uniform(0, 10, shape).astype(np.float32)
    scan[0, 0, 0] = 500
    assert middle_of(scan, affine) == pytest.approx(7, abs=1)
    assert middle_of(*in_orientation(scan, affine, "RAS")) == pytest.approx(7, abs=1)


def test_holes_are_filled_in_axial_slices_alone():
    mask = np.zeros((9, 9, 9), dtype=bool)
    mask[2:7, 2:7, 2:7] = True
    mask[4, 4, :] = False  # a channel along z: a hole in every axial slice
    tunnel = filled(mask, LPS)
    assert tunnel[4, 4, 2:7].all() and tunnel.sum() == 125
    mask[4, 2:, 4] = False  # open to the back in one slice
    assert not filled(mask, LPS)[4, 4, 4]


def test_the_sum_of_products_has_the_five_largest_measurable_lesions():
    classes = np.zeros((130, 30, 4), np.uint8)
    sides = [(12, 10), (13, 11), (14, 12), (15, 13), (16, 14), (17, 15), (5, 4)]
    start = 1
    for width, height in sides:
        classes[start : start + width, 2 : 2 + height] = ET
        start += width + 3
    found = measure(classes, LPS).regions["ET"]
    assert len(found.lesions) == 7 and sum(each.measurable for each in found.lesions) == 6
    products = sorted(each.diameters.product_mm2 for each in found.lesions if each.measurable)
    assert found.sum_of_products_mm2 == pytest.approx(sum(products[1:]))


def test_statistics_have_the_keys_and_units_of_totalsegmentator():
    classes = np.zeros((6, 6, 6), np.uint8)
    classes[1:3], classes[3] = ED, ET
    scan = np.where(classes == ET, 30, 10).astype(np.float32)
    found = intensity_statistics(classes, scan, grid(classes.shape, (1, 1, 2)))
    assert found["ED"] == {"volume": 144.0, "intensity": 10.0}
    assert found["WT"] == {"volume": 216.0, "intensity": pytest.approx(50 / 3, abs=0.01)}
    assert set(found) == {"WT", "TC", "ET", "ED"}
    assert intensity_statistics(classes * 0, scan, LPS) == {}


def test_the_table_has_the_values_of_the_json():
    classes = np.zeros((40, 30, 12), np.uint8)
    classes[4:16, 4:16, 2:8], classes[24:36, 4:16, 2:8] = ED, ET
    content = {"case": "A, B"} | measure(classes, LPS, middle_mm=-20.0).as_json()
    rows = list(csv.DictReader(io.StringIO(as_table(content))))
    assert {row["case"] for row in rows} == {"A, B"}
    found = {(row["structure"], row["lesion"], row["name"]): row["value"] for row in rows}
    assert len(found) == len(rows)
    assert float(found["ED", "", "volume_ml"]) == content["classes"]["ED"]["volume_ml"]
    assert found["WT", "", "side"] == "both"
    for number, lesion in enumerate(content["regions"]["WT"]["lesions"], start=1):
        assert float(found["WT", str(number), "longest_mm"]) == lesion["longest_mm"]
        assert float(found["WT", str(number), "centre_x_mm"]) == lesion["centre_ras_mm"][0]


def dice_table():
    """Return a table in which every modality adds 0.1, and T1c 0.3 more to ET."""
    return {
        str(subset): {"WT": 0.4 + 0.1 * len(subset), "ET": 0.1 + 0.1 * len(subset) + 0.3 * ("T1c" in subset)}
        for subset in SUBSETS
    }


def test_gains_are_the_differences_of_the_rows_of_the_table():
    t1c, t2 = expected_gains(Subset.parse("T1+FLAIR"), dice_table())
    assert (t1c.modality, t2.modality) == ("T1c", "T2")
    assert t1c.change == pytest.approx({"WT": 0.1, "ET": 0.4})
    assert t2.change == pytest.approx({"WT": 0.1, "ET": 0.1})
    assert t2.as_json()["ET"] == {"before": 0.3, "after": 0.4, "change": 0.1}
    assert expected_gains(SUBSETS[-1], dice_table()) == ()


def test_gains_are_unknown_without_a_table_or_without_the_row_of_the_subset():
    table = dice_table()
    assert expected_gains(Subset.parse("T1"), None) is None
    del table["T1"]
    assert expected_gains(Subset.parse("T1"), table) is None
    table["T1+T2"] = {"WT": 0.7, "ET": math.nan}
    (only,) = (gain for gain in expected_gains(Subset.parse("T2"), table) if gain.modality == "T1")
    assert set(only.change) == {"WT"}


def test_the_largest_diameters_are_those_of_the_lesion_with_the_largest_product():
    classes = np.zeros((60, 60, 12), np.uint8)
    classes[2:40, 2:6, 2:12] = ET  # more volume, smaller product
    classes[2:22, 20:40, 5] = ET
    found = measure(classes, LPS)
    assert {end[2] for line in found.largest_diameters_mm for end in line} == {5.0}
    assert measure(classes * 0, LPS).largest_diameters_mm == []


def test_small_tumours_are_removed_but_never_the_largest():
    classes = np.zeros((20, 20, 20), np.uint8)
    classes[2:6, 2:6, 2:6] = 2  # 64 voxels with a core
    classes[3, 3, 3] = 3
    classes[10:12, 10:12, 10:12] = 1
    classes[15, 15, 15] = 2
    assert (without_small(classes, 1.0, 8.0) > 0).sum() == 72
    kept = without_small(classes, 1.0, 9.0)
    assert (kept > 0).sum() == 64 and kept[3, 3, 3] == 3
    assert (without_small(classes, 0.001, 1.0) > 0).sum() == 64
    assert not without_small(np.zeros_like(classes), 1.0, 9.0).any()
