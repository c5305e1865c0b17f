"""Parts of the generator of realistic cases: contrasts, kinds, fields, deformation, scanner."""

import numpy as np
import pytest
from numpy.random import PCG64, Generator

from anymri.modalities import MODALITIES
from anymri.synthesis.realistic.acquisition import acquire, draw_acquisition
from anymri.synthesis.realistic.contrasts import draw_contrasts
from anymri.synthesis.realistic.deformation import draw_deformation, locate, push
from anymri.synthesis.realistic.lesions import COUNTS, EASY_VOLUME_ML, KINDS, VOLUME_ML, draw_plans
from anymri.synthesis.realistic.pools import MOST, Pool, draw_pools, pool_distance
from anymri.synthesis.realistic.shapes import FAR_MM, ellipsoid, tube, union
from anymri.synthesis.realistic.space import Space, smooth_field
from anymri.synthesis.realistic.tissues import draw_build

COARSE = Space((40, 48, 40), 4.0)


def random(seed=0):
    return Generator(PCG64(seed))


@pytest.fixture(scope="module")
def plans():
    build = draw_build(random())
    return [draw_plans(random(index), build) for index in range(400)]


@pytest.mark.parametrize("easy", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_contrasts_keep_what_physics_demands(kind, easy):
    for seed in range(200):
        drawn = draw_contrasts(random(seed), kind, easy)
        t1, t1c, t2, flair = (drawn[modality] for modality in MODALITIES)
        assert t1.csf < t1.grey < t1.white == 1
        assert t1.necrosis < t1.oedema < t1.white and t1.enhancing < t1.white
        assert t1c.csf < t1c.grey < t1c.white == 1
        assert t1c.necrosis < t1c.oedema < t1c.white
        assert t1c.enhancing >= 1.15 and min(t1c.veins, t1c.choroid, t1c.arteries) > 1
        assert t2.white < t2.grey < t2.csf == 1
        assert t2.white < t2.oedema < t2.csf and t2.white < t2.white_lesion
        assert t2.arteries < t2.csf / 2
        assert flair.csf < flair.white < flair.grey == 1 < flair.oedema
        assert flair.csf <= flair.necrosis <= flair.oedema
        if kind == "cystic":
            assert t2.necrosis > 0.8 and flair.necrosis < 1


def test_easy_contrasts_are_the_visible_ones():
    for seed in range(50):
        drawn = draw_contrasts(random(seed), "ring", easy=True)
        assert drawn["FLAIR"].oedema >= 1.5 and drawn["T1c"].enhancing >= 1.4


def test_kinds_and_numbers_of_lesions_have_the_documented_frequency(plans):
    with_tumour = [case for case in plans if case]
    for kind, share in KINDS.items():
        found = np.mean([case[0].kind == kind for case in with_tumour])
        assert abs(found - share) < 3.5 * np.sqrt(share * (1 - share) / len(with_tumour))
        assert found > 0
    for count, share in enumerate(COUNTS):
        found = np.mean([len(case) == count for case in plans])
        assert abs(found - share) < 3.5 * np.sqrt(share * (1 - share) / len(plans))
    assert sum(KINDS.values()) == pytest.approx(1) and sum(COUNTS) == pytest.approx(1)


def test_plans_stay_in_their_ranges(plans):
    for case in plans:
        for number, plan in enumerate(case):
            assert plan.volume_ml <= (VOLUME_ML[1] if number == 0 else case[0].volume_ml / 2)
            assert number > 0 or plan.volume_ml >= VOLUME_ML[0]
            assert 0 <= plan.shift_mm <= min(9, plan.radius_mm / 2)
            assert 0 <= plan.core_share <= 1
            assert (plan.core_share == 0) == (plan.kind == "oedema_only")
    pushed = np.mean([plan.shift_mm > 0 for case in plans for plan in case])
    assert 0.6 < pushed < 0.8


def test_easy_plans_always_have_a_large_lesion():
    build = draw_build(random())
    for seed in range(30):
        first = draw_plans(random(seed), build, easy=True)[0]
        assert first.volume_ml >= EASY_VOLUME_ML[0]


def test_field_has_mean_zero_and_variance_one_and_does_not_depend_on_the_grid():
    fields = np.stack([smooth_field(random(seed), COARSE, 20) for seed in range(60)])
    assert abs(fields.mean()) < 0.05
    assert abs(fields.std() - 1) < 0.05
    fine = smooth_field(random(), Space((80, 96, 80), 2.0), 20).reshape(40, 2, 48, 2, 40, 2).mean((1, 3, 5))
    assert np.corrcoef(fine.ravel(), fields[0].ravel())[0, 1] > 0.99


def test_signed_distances_are_distances():
    x = np.linspace(-30, 30, 61, dtype=np.float32)
    line = (x, np.zeros_like(x), np.zeros_like(x))
    np.testing.assert_allclose(ellipsoid(line, (0, 0, 0), (10, 10, 10)), np.abs(x) - 10, atol=0.02)
    wide = ellipsoid(line, (0, 0, 0), (10, 5, 20))
    assert wide[x == 10] == pytest.approx(0, abs=1e-3) and wide[x == 11] == pytest.approx(1, rel=0.15)
    np.testing.assert_allclose(tube(line, ((0, 0, 0, 2), (0, 0, 9, 2))), np.abs(x) - 2, atol=1e-3)
    blended = union(np.float32([-1.0, 3.0, 0.5]), np.float32([5.0, 3.0, 0.5]), 4)
    assert blended[0] == -1 and blended[1] < 3 and blended[2] < 0.5


def test_located_point_has_the_template_position():
    deformation = draw_deformation(random(), COARSE)
    target = np.array([20, -30, 25], dtype=np.float32)
    centre = locate(deformation, COARSE, target)
    lines = COARSE.lines()
    index = tuple(int(np.abs(line.ravel() - c).argmin()) for line, c in zip(lines, centre, strict=True))
    voxel = np.array([line.ravel()[i] for line, i in zip(lines, index, strict=True)])
    found = deformation.template[(slice(None), *index)] + deformation.linear @ (centre - voxel)
    assert np.linalg.norm(found - target) < 1


def test_mass_effect_moves_tissue_outwards_and_spares_the_distance():
    space = Space((80, 96, 80), 2.0)
    before, after = draw_deformation(random(2), space), draw_deformation(random(2), space)
    centre = np.array([20, 0, 10], dtype=np.float32)
    push(after, space, centre, 20.0, 6.0)
    moved = after.template - before.template
    x, y, z = space.lines()
    outwards = np.stack(np.broadcast_arrays(x - centre[0], y - centre[1], z - centre[2]))
    distance = np.linalg.norm(outwards, axis=0)
    size = np.linalg.norm(moved, axis=0)
    assert 3 < size.max() < 8
    assert size[distance > 105].max() == 0
    strong = size > 2
    template_outwards = np.einsum("ij,j...->i...", after.linear, outwards)
    assert ((moved * template_outwards).sum(0)[strong] < 0).all()  # the template point comes from further inside


def test_scanner_keeps_the_brightness_of_an_even_object_and_adds_the_noise_that_was_drawn():
    kept = np.arange(np.prod(COARSE.shape))
    depth = np.full(len(kept), 99, dtype=np.float32)
    clean = np.ones(COARSE.shape, dtype=np.float32)
    for seed in range(20):
        drawn = draw_acquisition(random(seed), COARSE)
        for matrix in drawn.matrices:
            np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-4)
            assert matrix.min() >= 0
        assert 0.004 <= drawn.noise <= 0.09 and 200 <= drawn.scale <= 2000
        value = acquire(random(seed), drawn, clean, kept, depth, COARSE)
        assert (value >= 1).all() and np.isfinite(value).all()
        spread = value.std() / value.mean()
        assert 0.5 * drawn.noise * drawn.gamma < spread < 3 * (drawn.noise + drawn.bias + abs(drawn.ramp)) * drawn.gamma


def test_thick_slices_ghosts_and_shifts_occur():
    matrices = [draw_acquisition(random(seed), COARSE).matrices for seed in range(200)]
    spread = np.array([[1 / (matrix**2).sum(1).mean() for matrix in three] for three in matrices])
    assert 0.05 < (spread[:, 2] > 1.9 * np.median(spread[:, 2])).mean() < 0.6
    far = np.array([max(np.triu(m, 8).max() for m in three[:2]) > 0.02 for three in matrices])
    assert 0.01 < far.mean() < 0.2


def test_pools_are_inside_their_box_alone():
    pool = Pool((40.0, 6.0, -2.0), (8.0, 5.0, 6.0))
    x = np.array([40, 40, -40, 49, 90], np.float32)
    y, z = np.full(5, 6, np.float32), np.full(5, -2, np.float32)
    y[1] = 12  # a millimetre beyond the second semi-axis
    distance = pool_distance((x, y, z), (pool,))
    assert distance[0] < -3 and distance[1] == pytest.approx(1, abs=0.2) and distance[2] == distance[4] == FAR_MM
    assert distance[3] > 0 and (pool_distance((x, y, z), ()) == FAR_MM).all()


def test_pools_are_near_the_surface_of_the_brain_and_few():
    drawn = [draw_pools(random(seed)) for seed in range(50)]
    assert {len(pools) for pools in drawn} == set(range(MOST + 1))
    assert all(1 < axis < 25 for pools in drawn for pool in pools for axis in pool.semi_axes)
