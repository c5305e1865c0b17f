"""Baseline beyond the laws of systems: substitutes, deep supervision, modality dropout."""

import numpy as np
import pytest
import torch

from anymri.errors import ConfigurationError, WeightsError
from anymri.modalities import ALL, MODALITIES, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch
from anymri.systems.unet_dropout.recipe import LEVEL_WEIGHTS, RECIPES, losses
from anymri.training.cohort.missing import random_subset
from anymri.weights.convert import convert_checkpoint

SIDE = 32
SOME = Subset.parse("T1c+FLAIR")


def create(**switches):
    torch.manual_seed(0)
    return registry.create("unet_dropout", **{"preset": "nano", "width": 4, **switches})


def batch(available):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 4, SIDE, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, 4, (2, SIDE, SIDE, SIDE), generator=generator)
    return Batch.of(images, labels, ALL.as_tensor(2), available.as_tensor(2))


def test_conversion_is_refused_without_writing_weights(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "authors.pth")
    with pytest.raises(WeightsError, match=r"no authors' weights(.|\n)*anymri train unet_dropout"):
        convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors", "unet_dropout")
    assert not (tmp_path / "w.safetensors").exists()


def test_learnt_constant_replaces_a_missing_modality():
    system = create()
    with torch.no_grad():
        system.substitute.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1, 1))
    filled = batch(SOME).images.clone()
    for modality in ("T1", "T2"):
        filled[:, MODALITIES.index(modality)] = system.substitute[0, MODALITIES.index(modality)].item()
    with torch.inference_mode():
        logits = system(batch(SOME).images, SOME.as_tensor(2)).logits
        torch.testing.assert_close(logits, system(filled, ALL.as_tensor(2)).logits, rtol=0, atol=0)
    losses(system.train(), batch(SOME)).total.backward()
    assert (system.substitute.grad.flatten() != 0).tolist() == [flag is False for flag in SOME.flags]


def test_zeros_replace_missing_modalities_on_request():
    system = create(substitute="zeros")
    assert system.substitute is None
    images = batch(SOME).images
    zeroed = images * SOME.as_tensor()[..., None, None, None]
    with torch.inference_mode():
        logits = system(images, SOME.as_tensor(2)).logits
        torch.testing.assert_close(logits, system(zeroed, ALL.as_tensor(2)).logits, rtol=0, atol=0)


def test_deep_supervision_heads_run_in_training_alone():
    system = create()
    assert not system(batch(ALL).images, ALL.as_tensor(2)).deep_supervision
    heads = [level["head"] for level in system.unet.up_layers]
    ran = []
    for head in heads:
        head.register_forward_hook(lambda module, *_: ran.append(module))
    with torch.inference_mode():
        system(batch(ALL).images, ALL.as_tensor(2))
        assert ran == heads[-1:]
        deep_supervision = system.train()(batch(ALL).images, ALL.as_tensor(2)).deep_supervision
    assert [logits.shape[-1] for logits in deep_supervision] == [SIDE // 2, SIDE // 4] and ran[1:] == heads[1:]
    assert not system.eval()(batch(ALL).images, ALL.as_tensor(2)).deep_supervision


def test_total_weights_resolutions_by_halves():
    named = losses(create().train(), batch(SOME)).named()
    expected = sum(w * (named[f"level{i}_dice"] + named[f"level{i}_ce"]) for i, w in enumerate(LEVEL_WEIGHTS))
    torch.testing.assert_close(named["total"], expected)
    assert sum(LEVEL_WEIGHTS) == pytest.approx(1) and LEVEL_WEIGHTS[0] == 2 * LEVEL_WEIGHTS[1] == 4 * LEVEL_WEIGHTS[2]


def test_wrong_number_of_levels_is_refused():
    with pytest.raises(ConfigurationError, match="blocks of 3 levels"):
        create(blocks=(1, 1, 1))


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_drop_each_modality_in_half_of_the_steps(recipe):
    rng = np.random.default_rng(0)
    for stage in RECIPES[recipe].stages:
        drawn = np.array([random_subset(np.ones(4, bool), rng, stage.subsets) for _ in range(2000)])
        # Where all are dropped, in 1/16 of the draws, one of the four is kept.
        np.testing.assert_allclose(drawn.mean(0), 0.5 + 1 / 64, atol=0.04)
        assert len(np.unique(drawn, axis=0)) == 15
