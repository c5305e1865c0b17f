"""Ensembles: combination of classes and regions, STAPLE, mirrored scans, disagreement, what is refused."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from anymri.data.case import read_study
from anymri.data.layouts import find_cases
from anymri.errors import ConfigurationError
from anymri.inference.combining import as_regions, mean, staple
from anymri.inference.ensemble import Ensemble, load_model, mirrored, mirrorings
from anymri.inference.segmenter import Segmenter
from anymri.modalities import ALL, Subset
from anymri.regions import region_mask
from anymri.synthesis.phantoms import write_cohort
from anymri.systems.contract import Encoding, Prediction, System
from untrained import card, write_weights


@dataclass
class Images(Encoding):
    images: torch.Tensor


class Threshold(System):
    """A system without layers: the tumour is where the sum of the images is above a threshold, in steps by region."""

    output_kind = "regions"

    def __init__(self, threshold):
        super().__init__()
        self.steps = torch.nn.Parameter(threshold + torch.arange(3.0)[:, None, None, None])

    def _encode(self, images, present):
        return Images(present, images)

    def _decode(self, encoding, available, reconstruct):
        used = encoding.images.masked_fill(~available[..., None, None, None], 0)
        return Prediction(4 * (used.sum(1, keepdim=True) - self.steps), self.output_kind)


class Classes(Threshold):
    """The same with classes as output."""

    output_kind = "classes"

    def _decode(self, encoding, available, reconstruct):
        regions = super()._decode(encoding, available, reconstruct).logits
        return Prediction(torch.cat([torch.zeros_like(regions[:, :1]), regions], dim=1), self.output_kind)


def member(threshold, kind=Threshold, **changes):
    segmenter = Segmenter(kind(threshold), card(**changes))
    segmenter.inputs = {"weights": {"file": f"{threshold}.safetensors", "sha256": str(threshold)}}
    return segmenter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), 1, size=32)[0]


@pytest.fixture(scope="module")
def study(folder):
    return read_study(find_cases(folder)[0])


def box(*sides):
    """Return a volume of 20^3 that is 1 in a box and 0 around it."""
    volume = np.zeros((20, 20, 20), np.float32)
    volume[tuple(slice(*side) for side in sides)] = 1
    return volume


def region_prediction(whole):
    return np.stack([whole, whole * 0, whole * 0])


@pytest.mark.parametrize("kind", [Threshold, Classes])
def test_equal_members_give_the_result_of_one(study, kind):
    one = member(1.0, kind).segment(study)
    both = Ensemble([member(1.0, kind), member(1.0, kind)]).segment(study)
    np.testing.assert_array_equal(one.classes, both.classes)
    assert one.classes.any() and not both.disagreement.any()


def test_an_ensemble_is_between_its_members(study):
    small, large = member(2.0), member(0.0)
    volumes = [each.segment(study).volumes_ml["WT"] for each in (small, Ensemble([small, large]), large)]
    assert 0 < volumes[0] < volumes[1] < volumes[2]


def test_disagreement_is_where_the_members_differ(study):
    small, large = member(2.0), member(0.0)
    result = Ensemble([small, large]).segment(study)
    differ = small.segment(study).classes != large.segment(study).classes
    assert result.disagreement.shape == result.classes.shape
    assert result.disagreement[differ].mean() > 5 * result.disagreement[~differ].mean()


def test_members_of_both_kinds_are_combined_as_regions(study):
    mixed = Ensemble([member(1.0), member(1.0, Classes)])
    predicted = mixed.predict(study, ALL)
    assert predicted.kind == "regions" and predicted.probabilities.shape == (3, *study.images["T1"].shape)
    assert mixed.segment(study, "T1c").subset == Subset.parse("T1c")


def test_each_member_prepares_and_tiles_the_case_by_its_own_card(study):
    whole = card().preprocessing.model_copy(update={"crop_to_brain": False})
    one, other = member(1.0), member(1.0, preprocessing=whole, window=16)
    assert one.prepare(study).images.shape != other.prepare(study).images.shape
    result = Ensemble([one, other]).segment(study)
    assert result.classes.shape == one.segment(study).classes.shape


def test_voxels_outside_the_brain_box_are_background(study):
    predicted = Ensemble([member(-100.0, Classes), member(-100.0, Classes)]).predict(study, ALL)
    prepared = member(0.0).prepare(study)
    outside = np.ones(prepared.grid, bool)
    outside[prepared.box] = False
    assert outside.any() and (predicted.probabilities[0][outside] == 1).all()
    assert not (predicted.probabilities[1:, outside]).any()


def test_mean_of_classes_stays_classes():
    rng = np.random.default_rng(0)
    one, other = rng.dirichlet(np.ones(4), (2, 3, 3, 3)).astype(np.float32).transpose(0, 4, 1, 2, 3)
    combined, kind = mean([one, other], ["classes", "classes"])
    assert kind == "classes"
    np.testing.assert_allclose(combined, (one + other) / 2, rtol=1e-6)


def test_mean_of_both_kinds_is_the_mean_of_their_regions():
    classes = np.array([0.1, 0.2, 0.3, 0.4], np.float32).reshape(4, 1, 1, 1)
    regions = np.array([0.7, 0.6, 0.2], np.float32).reshape(3, 1, 1, 1)
    combined, kind = mean([classes, regions], ["classes", "regions"])
    assert kind == "regions"
    np.testing.assert_allclose(combined.ravel(), [(0.9 + 0.7) / 2, (0.6 + 0.6) / 2, (0.4 + 0.2) / 2], rtol=1e-6)


def test_the_cavity_is_the_fourth_region_of_both_kinds():
    classes = np.array([0.1, 0.1, 0.1, 0.1, 0.6], np.float32).reshape(5, 1, 1, 1)
    regions = np.array([0.1, 0.1, 0.1, 0.8], np.float32).reshape(4, 1, 1, 1)
    assert as_regions(classes, "classes")[3] == np.float32(0.6) and as_regions(regions, "regions")[3] == np.float32(0.8)


def test_staple_outvotes_a_member_that_differs():
    most, other = box((5, 15), (5, 15), (5, 15)), box((5, 15), (5, 15), (12, 18))
    combined = staple([region_prediction(each) for each in (most, most, other)], ["regions"] * 3)
    np.testing.assert_array_equal(combined[0] > 0.5, most > 0.5)
    assert not combined[1:].any()


def test_staple_of_equal_or_empty_masks_is_that_mask():
    mask = box((5, 15), (5, 15), (5, 15))
    for each in (mask, mask * 0):
        np.testing.assert_array_equal(staple([region_prediction(each)] * 2, ["regions"] * 2)[0], each)


def test_staple_keeps_regions_nested(study):
    result = Ensemble([member(t) for t in (0.0, 1.0, 2.0)], combine="staple").segment(study, probabilities=True)
    whole, core, enhancing = (region_mask(result.classes, region) for region in ("WT", "TC", "ET"))
    assert enhancing.any() and not (enhancing & ~core).any() and not (core & ~whole).any()
    assert result.probabilities.shape == (3, *result.classes.shape)


def test_mirrorings_are_all_sets_of_the_axes():
    assert mirrorings("") == [()] and mirrorings("x") == [(), (0,)]
    assert len(set(mirrorings("xyz"))) == 8 and mirrorings("xyz")[0] == ()


def test_a_mirrored_case_is_mirrored_in_its_grid(study):
    prepared = member(0.0).prepare(study)
    assert prepared.box[0].start != 0 or prepared.box[0].stop != prepared.grid[0]
    turned = mirrored(prepared, (0, 2))
    expected = prepared.paste(prepared.images.numpy())[:, ::-1, :, ::-1]
    np.testing.assert_array_equal(turned.paste(turned.images.numpy()), expected)
    back = mirrored(turned, (0, 2))
    assert back.box == prepared.box and torch.equal(back.images, prepared.images)


def test_mirroring_a_system_without_direction_changes_nothing(study):
    alone = member(1.0).segment(study)
    flipped = Ensemble([member(1.0)], flips="xyz").segment(study)
    np.testing.assert_array_equal(alone.classes, flipped.classes)


def test_mirrored_scans_make_the_result_of_a_network_symmetric(folder, tmp_path):
    weights = write_weights(tmp_path / "w.safetensors")
    ensemble = Ensemble.load([weights], "cpu", flips="x")
    prepared = ensemble.members[0].prepare(read_study(find_cases(folder)[0]))
    direct, turned = (ensemble.members[0].predict(mirrored(prepared, axes), [ALL])[0] for axes in ((), (0,)))
    expected = (direct.probabilities + turned.probabilities.flip([1])) / 2
    predicted = ensemble.predict(read_study(find_cases(folder)[0]), ALL)
    np.testing.assert_allclose(predicted.probabilities[(slice(None), *prepared.box)], expected, atol=1e-6)
    assert not torch.equal(direct.probabilities, turned.probabilities.flip([1]))


def test_several_weights_are_loaded_and_named_in_the_provenance(folder, tmp_path):
    paths = [write_weights(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1)]
    model = load_model(paths, "cpu", "torch", "mean")
    result = model.segment(folder, "T1c", tmp_path / "out")
    assert len({each["sha256"] for name, each in result.inputs.items() if name.startswith("weights")}) == 2
    assert result.card.origin.startswith("ensemble of 2 weights by mean") and result.card.system == "u_hved"
    assert (tmp_path / "out" / "disagreement.nii.gz").exists()


def test_one_weights_file_is_a_segmenter(tmp_path):
    path = write_weights(tmp_path / "w.safetensors")
    assert isinstance(load_model(path, "cpu", "torch", "mean"), Segmenter)
    assert isinstance(load_model([path], "cpu", "torch", "mean", "x"), Ensemble)


def test_what_does_not_fit_together_is_refused(tmp_path):
    path = write_weights(tmp_path / "w.safetensors")
    with pytest.raises(ConfigurationError, match="same weights"):
        Ensemble.load([path, tmp_path / "." / "w.safetensors"], "cpu")
    with pytest.raises(ConfigurationError, match="'stapel'") as refusal:
        Ensemble([member(0.0), member(1.0)], combine="stapel")
    assert "Did you mean staple" in refusal.value.fix
    with pytest.raises(ConfigurationError, match="two predictions"):
        Ensemble([member(0.0)])
    for flips in ("w", "xx"):
        with pytest.raises(ConfigurationError, match="axes"):
            Ensemble([member(0.0)], flips=flips)
    with pytest.raises(ConfigurationError, match="resection cavity"):
        Ensemble([member(0.0), member(1.0, network={"num_classes": 5})])


def test_reconstruction_is_refused(study):
    with pytest.raises(ConfigurationError, match="does not reconstruct"):
        Ensemble([member(0.0), member(1.0)]).segment(study, reconstruct=True)
