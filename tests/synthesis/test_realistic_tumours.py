"""Growth of tumours in plain white matter, and what skull stripping keeps of a brain."""

import numpy as np
import pytest
from numpy.random import PCG64, Generator
from scipy.ndimage import binary_dilation, label

from anymri.regions import ED, ET, NCR
from anymri.synthesis.realistic.cores import Texture
from anymri.synthesis.realistic.lesions import KINDS, Plan
from anymri.synthesis.realistic.space import Space, smooth_field
from anymri.synthesis.realistic.stripping import MARGIN_MM, TIGHT_MM, Stripping, draw_stripping, strip
from anymri.synthesis.realistic.tissues import Tissues
from anymri.synthesis.realistic.tumours import EDGE_SHARE, grow

SPACE = Space((40, 40, 40), 2.0)
WHERE = np.arange(np.prod(SPACE.shape))
CENTRE = np.zeros(3, dtype=np.float32)


def random(seed=0):
    return Generator(PCG64(seed))


def white_matter(surface=-30.0):
    nothing = np.zeros(len(WHERE), np.float32)
    far = np.full(len(WHERE), 30, np.float32)
    return Tissues(
        csf=nothing,
        grey=nothing,
        white=nothing + 1,
        ventricle=nothing,
        iron=nothing,
        to_ventricle=far,
        surface=nothing + np.float32(surface),
        cortex=far,
    )


def texture(seed):
    rng = random(seed)
    return Texture(*(smooth_field(rng, SPACE, bump).ravel() for bump in (22, 10, 5)))


def plan(kind, volume_ml=30.0, core_share=0.5):
    return Plan(kind, np.array([30, 0, 20], np.float32), volume_ml, core_share, 0.0, 1.0)


def grown(plans, seed=0, healthy=None, kept=None):
    """Return the tumour of plans at one centre, and its labels as a volume."""
    position = SPACE.positions(WHERE)
    template = tuple(line + offset for line, offset in zip(position, (40, 0, 20), strict=True))
    kept = np.ones(len(WHERE), bool) if kept is None else kept
    healthy = healthy or white_matter()
    placed = [(one, CENTRE) for one in plans]
    tumour = grow(random(seed), placed, position, template, healthy, kept, texture(seed), SPACE.spacing)
    return tumour, tumour.labels.reshape(SPACE.shape)


def millilitres(mask):
    return mask.sum() * SPACE.spacing**3 / 1000


@pytest.mark.parametrize("kind", KINDS)
def test_tumour_has_the_volumes_of_its_plan(kind):
    share = 0.0 if kind == "oedema_only" else 0.5
    _, labels = grown([plan(kind, 30, share)])
    assert millilitres(labels > 0) == pytest.approx(30, rel=0.02)
    assert millilitres((labels == NCR) | (labels == ET)) == pytest.approx(30 * share, rel=0.05)


def test_ring_encloses_the_necrosis():
    enclosed = []
    for seed in range(8):
        _, labels = grown([plan("ring", 60, 0.6)], seed)
        border = binary_dilation(labels == NCR) & (labels != NCR)
        enclosed.append((labels[border] == ET).mean())
    assert np.median(enclosed) > 0.65 and max(enclosed) > 0.85  # some have gaps


def test_cyst_is_one_smooth_piece():
    _, labels = grown([plan("cystic", 60, 0.6)])
    pieces, count = label(labels == NCR)
    assert np.bincount(pieces.ravel())[1:].max() > 0.95 * (labels == NCR).sum() and count < 6


def test_oedema_of_one_lesion_does_not_cover_the_core_of_another():
    alone, _ = grown([plan("solid", 20, 0.5)])
    both, _ = grown([plan("solid", 20, 0.5), plan("oedema_only", 60, 0.0)])
    core = np.isin(alone.labels, (NCR, ET))
    assert core.any() and np.array_equal(both.labels[core], alone.labels[core])
    assert (both.labels == ED).sum() > 2 * (alone.labels == ED).sum()


def test_soft_shares_agree_with_the_labels():
    tumour, _ = grown([plan("ring")])
    assert (tumour.oedema[tumour.labels > 0] >= EDGE_SHARE[0]).all()
    assert (tumour.oedema[tumour.labels == 0] <= EDGE_SHARE[1]).all()
    assert (tumour.core[np.isin(tumour.labels, (NCR, ET))] >= 0.5).all()
    assert (tumour.necrosis[tumour.labels == NCR] > 0.5).all()
    assert (tumour.necrosis[tumour.labels == ET] <= 0.5).all()


def test_blood_occurs_in_haemorrhagic_tumours_alone():
    for kind in ("ring", "haemorrhagic"):
        tumour, _ = grown([plan(kind, 60, 0.6)])
        assert (tumour.blood.max() > 0.5) == (kind == "haemorrhagic")


def test_tumour_stays_in_the_mask_and_out_of_the_ventricles():
    x = SPACE.positions(WHERE)[0]
    healthy = white_matter()
    healthy.ventricle[x > 12] = 1
    _, labels = grown([plan("ring", 40)], healthy=healthy, kept=x > -10)
    assert not labels[x.reshape(SPACE.shape) <= -10].any()
    assert (labels[x.reshape(SPACE.shape) > 12] > 0).mean() < 0.01


def test_mask_cuts_and_leaves_what_was_drawn():
    healthy = white_matter()
    depth = SPACE.positions(WHERE)[2]
    healthy.surface[:] = depth  # the brain is below 0
    for margin in (-4.0, 0.0, 3.0):
        kept, scalp = strip(Stripping(margin, 0.0, 0.0), healthy, texture(0))
        np.testing.assert_array_equal(kept, depth < margin)
        assert not scalp.any()
    pieces = 0
    for seed in range(6):
        kept, scalp = strip(Stripping(0.0, 0.0, 5.0), healthy, texture(seed))
        assert kept[scalp].all() and (depth[scalp] >= 0).all() and (depth[scalp] < 5).all()
        pieces += scalp.sum()
    assert pieces > 0


def test_about_half_of_the_masks_have_no_mistake():
    drawn = [draw_stripping(random(seed)) for seed in range(400)]
    low, high = MARGIN_MM
    assert 0.4 < np.mean([low <= one.margin_mm <= high for one in drawn]) < 0.85
    assert 0.07 < np.mean([one.remnant_mm > 0 for one in drawn]) < 0.18
    assert min(one.margin_mm for one in drawn) >= low - TIGHT_MM[1]
