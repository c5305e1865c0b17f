"""Training on synthetic cases, which are made when they are needed."""

import numpy as np
import pytest
import torch

from anymri.data.preprocessing import Preprocessing
from anymri.errors import ConfigurationError
from anymri.training.cohort.missing import one_modality, several_modalities
from anymri.training.cohort.synthetic import PATCHES_PER_CASE, SyntheticCases, synthetic_case, validation_cases
from anymri.training.configuration import resolve
from anymri.training.engine import train
from anymri.training.patches import Patches
from anymri.weights.store import load_weights
from small_runs import Recorder, same, weights

COARSE = Preprocessing(normalisation="zscore_background_zero", coarsening=4)
SETTINGS = ("network.width=8", "crop=32", "preprocessing.coarsening=4", "epochs=2", "steps_per_epoch=2")


def cases(total=40):
    return SyntheticCases(0, total, COARSE)


def configured(*assignments):
    return resolve("unet_dropout", "starter", {"data": "synthetic", "device": "cpu"}, None, [*SETTINGS, *assignments])


@pytest.fixture(autouse=True)
def _few_cases(monkeypatch):
    monkeypatch.setattr("anymri.training.cohort.synthetic.AT_ONCE", 2)
    monkeypatch.setattr("anymri.training.cohort.synthetic.VALIDATION_CASES", 1)


def test_a_case_depends_on_seed_and_number_alone():
    many = cases()
    first = many[3].read()
    many[4], many[5]
    again = many[3].read()
    assert torch.equal(first.images, again.images) and torch.equal(first.classes, again.classes)
    assert not torch.equal(first.images, synthetic_case(1, 3, COARSE).read().images)
    assert first.images.shape[1:] < (40, 48, 40) and first.present.all()


def test_few_cases_are_kept_in_memory_and_each_has_its_patches():
    many = cases()
    numbers = [many.index_of(patch) for patch in range(40 * PATCHES_PER_CASE)]
    assert np.bincount(numbers).tolist() == [PATCHES_PER_CASE] * 40
    assert numbers[:9] == [0, 1, 0, 1, 0, 1, 0, 1, 2]
    for number in range(3):
        many[number]
    assert list(many._made) == [1, 2]
    with pytest.raises(IndexError):
        many[40]


def test_validation_cases_are_not_trained_on():
    recipe = configured().recipe
    (held_out,) = validation_cases(recipe)
    trained = SyntheticCases.of(recipe)
    assert all(held_out.shape != case.shape or held_out.scale.tolist() != case.scale.tolist() for case in trained)


def test_patches_alternate_between_one_and_several_modalities():
    stage = configured().recipe.stages[0]
    patches = Patches(cases(), stage, 0)
    for index in range(4):
        available = patches[index][3]
        assert available[0].sum() == 1 and available[1].sum() >= 2


def test_single_modalities_are_drawn_by_their_shares_and_exist():
    rng = np.random.default_rng(0)
    every = np.ones(4, dtype=bool)
    drawn = np.array([one_modality(every, rng) for _ in range(4000)])
    np.testing.assert_allclose(drawn.mean(0), [0.25, 0.22, 0.32, 0.21], atol=0.03)
    some = np.array([True, False, False, True])
    assert {tuple(one_modality(some, rng).tolist()) for _ in range(50)} == {
        (True, *(False,) * 3),
        (*(False,) * 3, True),
    }
    several = np.array([several_modalities(every, rng) for _ in range(4000)])
    assert several.sum(1).min() == 2 and several.all(1).mean() == pytest.approx(0.35, abs=0.03)
    pair = (several == [False, True, False, True]).all(1)
    assert pair.mean() == pytest.approx(0.25 + 0.4 / 10, abs=0.03)
    assert len(np.unique(several, axis=0)) == 11
    assert several_modalities(some, rng).tolist() == some.tolist()
    alone = np.array([False, False, True, False])
    assert several_modalities(alone, rng).tolist() == alone.tolist()


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    train(configured(), tmp_path / "whole", Recorder())
    with pytest.raises(KeyboardInterrupt):
        train(configured(), tmp_path / "parts", Recorder(stop_after=1))
    train(configured(), tmp_path / "parts", Recorder(), resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    _, card = load_weights(tmp_path / "whole")
    assert card.trained_on == [SyntheticCases.of(configured().recipe).description]
    assert card.label_scheme == "brats2023" and card.preprocessing.coarsening == 4


@pytest.mark.parametrize("setting", ["missing=0.4", "split.folds=2", "subsets=fixed"])
def test_settings_about_the_files_of_cases_are_refused(tmp_path, setting):
    with pytest.raises(ConfigurationError, match=rf"which {setting.split('=')[0].split('.')[0]} would need"):
        train(configured(setting), tmp_path / "run", Recorder())
    assert not (tmp_path / "run" / "config.yaml").exists()
