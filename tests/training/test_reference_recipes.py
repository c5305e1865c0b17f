"""What recipes `reference` do as their authors' code: positions of patches, last batches, validation, stages."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from anymri.data.augmentation import augmentation
from anymri.data.cache import cache_case
from anymri.data.layouts import find_cases
from anymri.data.preprocessing import Preprocessing
from anymri.inference.windows import VolumePrediction
from anymri.modalities import ALL
from anymri.regions import label_scheme, region_mask
from anymri.systems import registry
from anymri.systems.batch import Batch
from anymri.systems.recipes.schema import Recipe, Stage
from anymri.systems.recipes.sources import OUR_DRAWS, OUR_SPLIT
from anymri.systems.recipes.validation import ValidationRules
from anymri.training.engine import train
from anymri.training.patches import Patches, batches
from anymri.training.sampling import random_start
from anymri.training.validation import validate
from small_runs import Recorder, configured, same, weights


@pytest.fixture(scope="module")
def case(place):
    """A phantom of 32 voxels per axis, uncropped, so that it has empty space around its brain."""
    settings = Preprocessing(crop_to_brain=False)
    return cache_case(find_cases(place / "cohort")[0], label_scheme("brats2023"), settings, place / "cache")


def stage(crop=8, **settings):
    return Stage(epochs=1, steps_per_epoch=4, crop=crop, **settings)


def starts(case, rule, count=300):
    rng = np.random.default_rng(0)
    return np.array([random_start(case, rule, rng) for _ in range(count)])


# Systems whose recipes deviate in nothing but the split and random draws.
@pytest.mark.parametrize("system", ["shaspec", "m3ae", "u_hved", "mmformer"])
def test_reference_deviates_only_in_what_cannot_be_had(system):
    assert registry.spec(system).recipes["reference"].deviations == (OUR_SPLIT, OUR_DRAWS)


@pytest.mark.parametrize("rule", ["region_nnunet", "region_shaspec"])
def test_patches_of_published_systems_are_centred_on_a_voxel_of_a_region(case, rule):
    centres = starts(case, stage(foreground_oversampling=1, foreground_sampling=rule), 200) + 4
    classes = case.read().classes.numpy()
    inside = [bool(region_mask(classes[tuple(centre)], "WT")) for centre in centres]
    assert all(inside)
    # WT, TC and ET are drawn alike, so ET, the smallest, is in the middle of at least a third of the patches.
    assert np.mean([region_mask(classes[tuple(centre)], "ET") for centre in centres]) > 0.3


def test_a_region_that_is_missing_gives_shaspec_patches_anywhere_and_nnunet_another_region(case, monkeypatch):
    monkeypatch.setattr(type(case), "has_region", lambda self, region: region == "WT")
    oversampled = {"foreground_oversampling": 1, "crop": 8}
    classes = case.read().classes.numpy()
    shares = {}
    for rule in ("region_nnunet", "region_shaspec"):
        found = starts(case, stage(foreground_sampling=rule, **oversampled), 200) + 4
        shares[rule] = np.mean([region_mask(classes[tuple(centre)], "WT") for centre in found])
    assert shares["region_nnunet"] == 1 and 0.2 < shares["region_shaspec"] < 0.6


def test_margins_keep_patches_from_the_ends_of_each_axis(case):
    found = starts(case, stage(patch_margins=(10, 3, 0)))
    assert found.min(0).tolist() == [10, 3, 0] and found.max(0).tolist() == [14, 21, 24]
    # Too long for the margin: without it.
    assert starts(case, stage(crop=24, patch_margins=(10, 3, 0)))[:, 0].max() == 8


def test_nnunets_patches_extend_beyond_the_box_by_half_of_their_border(case, monkeypatch):
    rule = stage(crop=8, augmented_from=13, foreground_oversampling=1, foreground_sampling="region_nnunet")
    for voxel, start in ((0, -1), (31, 27), (16, 12)):
        monkeypatch.setattr(type(case), "random_voxel", lambda self, region, rng, at=voxel: np.full(3, at))
        assert starts(case, rule, 1).tolist() == [[start] * 3]


def test_patches_longer_than_the_box_are_anywhere_around_it_within_the_scan(case):
    boxed = replace(case, shape=(20, 6, 20), start=(2, 1, 6), grid=(32, 32, 32))
    found = starts(boxed, stage(crop=8, patch_sampling="uniform_around"))
    assert found.min(0).tolist() == [0, -1, 0] and found.max(0).tolist() == [12, 0, 12]
    assert set(starts(boxed, stage(crop=8))[:, 1]) == {-1}


def test_half_of_the_patches_are_cut_smaller_or_larger_and_resized(case):
    patches = Patches([case], stage(crop=16, patch_scaling=0.25, augmentation="none"), 0)
    sides = []
    for index in range(60):
        images, labels, _, _, corners = patches[index]
        assert images.shape == (4, 16, 16, 16) and labels.shape == (16, 16, 16)
        sides.append(int(corners[1, 0] - corners[0, 0] + 1))
    assert 15 < sides.count(16) < 45 and min(sides) == 12 and 18 <= max(sides) <= 20


def test_augmentation_brings_in_voxels_from_around_the_patch(case):
    """A patch in the middle of a larger one of ones has no empty voxels, whatever is rotated and zoomed."""
    augment = augmentation("nnunet", (8, 8, 8))
    images, classes = torch.ones(4, 21, 21, 21), torch.ones(21, 21, 21, dtype=torch.uint8)
    corners = torch.tensor([[0, 0, 0], [7, 7, 7]])
    for seed in range(20):
        changed, moved, _ = augment(images.clone(), classes.clone(), corners, seed, torch.ones(4))
        assert changed.shape == (4, 8, 8, 8) and (moved == 1).all()
    patch = Patches([case], stage(crop=8, augmented_from=21, augmentation="none"), 0)[3]
    start = patch[4][0] - torch.tensor(case.read().origin)
    whole = case.read_patch(start.tolist(), (8, 8, 8))
    assert torch.equal(patch[0], whole.images) and torch.equal(patch[1], whole.classes.long())


def test_the_last_batch_of_an_epoch_is_smaller_and_each_patch_comes_once(case):
    settings = {"augmentation": "none", "batch_size": 3}
    one = [patch for batch in batches([case], stage(**settings, last_batch=2), 0, 0, 8, 0) for patch in batch.images]
    sizes = [len(batch.images) for batch in batches([case], stage(**settings, last_batch=2), 0, 0, 8, 0)]
    assert sizes == [3, 3, 3, 2] * 2
    single = [batch.images[0] for batch in batches([case], stage(augmentation="none"), 0, 0, 22, 0)]
    assert all(torch.equal(a, b) for a, b in zip(one, single, strict=True))
    later = [len(batch.images) for batch in batches([case], stage(**settings, last_batch=2), 0, 3, 2, 0)]
    assert later == [2, 3]


class Fixed:
    """A segmenter that predicts the same logits for each case; it keeps the subsets that were requested."""

    def __init__(self, logits):
        self.system = SimpleNamespace(eval=lambda: None)
        self.device = torch.device("cpu")
        self.logits, self.asked, self.sides = logits, [], []

    def predict(self, case, subsets):
        self.asked += subsets
        self.sides.append(tuple(case.classes.shape))
        logits = self.logits(case.classes)
        return [VolumePrediction(logits.sigmoid(), "regions", {}, logits=logits) for _ in subsets]


def wrong_nesting(classes):
    """Return logits that have TC right, WT empty and half of ET's probability."""
    core = torch.from_numpy(region_mask(classes.numpy(), "TC"))
    enhancing = torch.from_numpy(region_mask(classes.numpy(), "ET"))
    return torch.stack([torch.full(core.shape, -50.0), core * 100.0 - 50, enhancing * 50.0 - 50])


def dice_by(case, rule, **settings):
    rules = ValidationRules(dice=rule, **settings)
    return validate(Fixed(wrong_nesting), [case, case], lambda p, labels: {"sum": p.sum()}, rules, stage(crop=16), 0)


def test_dice_of_validation_follows_its_rule(case):
    enhancing = int(region_mask(case.read().classes.numpy(), "ET").sum())
    core = int(region_mask(case.read().classes.numpy(), "TC").sum())
    assert dice_by(case, "label_maps").dice == {"WT": 0, "TC": 0, "ET": 0, "mean": 0}
    assert dice_by(case, "regions").dice == pytest.approx({"WT": 0, "TC": 1, "ET": 0, "mean": 1 / 3})
    # Half of ET is in the sum of its probabilities of one half.
    soft = {"TC": 2 * core / (2 * core + 1), "ET": enhancing / (1.5 * enhancing + 1)}
    found = dice_by(case, "probabilities").dice
    assert {name: found[name] for name in soft} == pytest.approx(soft) and found["WT"] == pytest.approx(0)


def test_validation_on_patches_counts_voxels_of_all_together(case):
    segmenter = Fixed(wrong_nesting)
    rules = ValidationRules(dice="pooled", patches=5)
    centred = stage(crop=16, foreground_oversampling=1, foreground_sampling="region_nnunet", augmented_from=24)
    result = validate(segmenter, [case, case], lambda p, labels: {"sum": p.sum()}, rules, centred, 0)
    assert segmenter.sides == [(16, 16, 16)] * 5
    assert result.dice == pytest.approx({"WT": 0, "TC": 1, "ET": 0, "mean": 1 / 3})


def test_validation_draws_subsets_and_supervises_logits_if_asked(case):
    segmenter = Fixed(wrong_nesting)
    rules = ValidationRules(subsets="bernoulli", loss_of="logits")
    losses = []

    def loss(values, labels):
        losses.append(float(values.min()))
        return {"sum": values.sum()}

    for seed in range(20):
        validate(segmenter, [case], loss, rules, stage(), seed)
    assert len(set(map(str, segmenter.asked))) > 5 and len(segmenter.asked) == 20 and set(losses) == {-50.0}


def test_validation_uses_all_scans_beside_a_random_subset_if_asked(case):
    segmenter = Fixed(wrong_nesting)
    rules = ValidationRules(subsets="bernoulli_and_all")
    for seed in range(20):
        validate(segmenter, [case], lambda p, labels: {"sum": p.sum()}, rules, stage(), seed)
    drawn, complete = segmenter.asked[::2], segmenter.asked[1::2]
    assert set(complete) == {ALL} and len(set(drawn)) > 5


def test_loss_of_logits_needs_averaged_logits():
    values = registry.spec("u_hved").recipes["reference"].model_dump()
    values["window_values"] = "probabilities"
    with pytest.raises(ValueError, match=r"validation\.loss_of"):
        Recipe.model_validate(values)


SGD = "optimiser={name: sgd, learning_rate: 0.001, momentum: 0.99}"
BEST = (
    *("network.width=2", "steps_per_epoch=1", "batch_size=1", "schedule=poly_by_step", "validation_epochs=1", SGD),
    *("epochs=2", "whole.begins=best"),
)


def test_a_stage_begins_with_weights_momentum_and_iteration_of_the_best_validation(place, tmp_path, monkeypatch):
    """The first of two epochs is the best, so the second stage has one more; a resumed run equals it."""
    means = iter([])

    def fixed(*_):
        return SimpleNamespace(dice={"mean": next(means)}, loss=1.0)

    monkeypatch.setattr("anymri.training.engine.validate", fixed)
    configuration = configured(place / "cohort", place / "cache", *BEST)
    whole, found = Recorder(), [0.5, 0.2, 0.3, 0.1, 0.1]
    means = iter(found)
    train(configuration, tmp_path / "whole", whole)
    assert [row["epoch"] for row in whole.rows] == [1, 2, 0, 1, 2]
    assert [row["step"] for row in whole.rows] == [1, 2, 2, 3, 4]
    rates = [row["learning_rate"] / 0.001 for row in whole.rows[2:]]
    assert rates == pytest.approx([1, 0.5**0.9, 0], abs=1e-9)
    best = torch.load(tmp_path / "whole" / "checkpoints" / "best.pt")
    assert all("momentum_buffer" in state for state in best["optimiser"]["state"].values())
    for stop in (2, 3):
        means = iter(found)
        folder = tmp_path / f"parts{stop}"
        with pytest.raises(KeyboardInterrupt):
            train(configuration, folder, Recorder(stop_after=stop))
        means = iter(found[stop:])
        train(configuration, folder, Recorder(), resume=True)
        assert same(weights(tmp_path / "whole"), weights(folder))
        columns = ["epoch", "step", "learning_rate", "loss/total"]
        logs = [pd.read_csv(run / "log.csv")[columns] for run in (tmp_path / "whole", folder)]
        pd.testing.assert_frame_equal(*logs)


def test_a_second_stage_continues_the_momentum(place, tmp_path):
    steady = "whole.optimiser={name: sgd, learning_rate: 1.0e-30, momentum: 0.99}"
    after = {}
    for begins in ("best", "last"):
        settings = (*BEST, steady, "validation_share=0", "epochs=1", f"whole.begins={begins}")
        train(configured(place / "cohort", place / "cache", *settings), tmp_path / begins, Recorder())
        state = torch.load(tmp_path / begins / "checkpoints" / "state.pt")
        after[begins] = state["system"]["optimiser"]["state"]
    before = torch.load(tmp_path / "best" / "checkpoints" / "best.pt")["optimiser"]["state"]
    for key, new in after["last"].items():
        old = before[key]["momentum_buffer"]
        assert old.any()
        torch.testing.assert_close(after["best"][key]["momentum_buffer"], 0.99 * old + new["momentum_buffer"])


def test_the_first_stage_has_no_best_weights_to_begin_with():
    values = registry.spec("shaspec").recipes["reference"].model_dump()
    values["stages"] = values["stages"][1:]
    with pytest.raises(ValueError, match="begins"):
        Recipe.model_validate(values)


def test_m3ae_changes_intensities_of_the_substitute_too_alike_in_copies():
    torch.manual_seed(0)
    system = registry.create("m3ae", width=4, grid=[16, 16, 16]).train()
    images = torch.randn(1, 4, 16, 16, 16).expand(2, -1, -1, -1, -1)
    available = torch.tensor([[True, False, False, False], [False, True, False, False]])
    batch = Batch.of(images, torch.zeros(2, 16, 16, 16).long(), torch.ones_like(available), available)
    batch.patch = torch.zeros(2).long()
    scale, shift = system.draw_intensities(batch.images, batch.patch)
    assert scale.shape == shift.shape == (2, 4, 1, 1, 16)
    assert torch.equal(scale[0], scale[1]) and torch.equal(shift[0], shift[1])
    assert 0.9 <= scale.min() < 0.93 and 1.07 < scale.max() <= 1.1 and shift.abs().max() <= 0.1
    filled = []
    system.unet.register_forward_pre_hook(lambda module, arguments: filled.append(arguments[0]))
    system.draw_intensities = lambda images, patch: (2.0, 1.0)
    registry.spec("m3ae").objectives["train_varied"](system, batch)
    substitute = 2 * system.substitute[0] + 1
    assert torch.allclose(filled[0][0, 0], 2 * images[0, 0] + 1) and torch.allclose(filled[0][0, 1:], substitute[1:])


def test_ra_hved_draws_a_dropout_mask_for_each_pass():
    torch.manual_seed(0)
    objectives, system = registry.spec("ra_hved").objectives, registry.create("ra_hved", width=4).train()
    runs = []
    next(module for module in system.modules() if "Dropout" in type(module).__name__).register_forward_hook(
        lambda *_: runs.append(1)
    )
    available = torch.ones(1, 4, dtype=torch.bool)
    batch = Batch.of(torch.randn(1, 4, 32, 32, 32), torch.zeros(1, 32, 32, 32).long(), available, available)
    discriminator = registry.spec("ra_hved").discriminators["adversarial_two_encodings"](system, 4)
    counts = []
    for name in ("adversarial", "adversarial_two_encodings"):
        runs.clear()
        objectives[name](system, batch, discriminator)
        counts.append(len(runs))
    assert counts[1] == 2 * counts[0] > 0
