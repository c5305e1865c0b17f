"""U-Net beyond the laws of systems: presence of modalities, packing of voxels, its losses, modality dropout."""

import numpy as np
import pytest
import torch

from anymri.errors import ConfigurationError, WeightsError
from anymri.modalities import ALL, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch
from anymri.systems.unet_dropout.losses import COARSE, losses, split_losses
from anymri.systems.unet_dropout.network import depth_to_space, space_to_depth
from anymri.systems.unet_dropout.recipe import RECIPES
from anymri.training.cohort.missing import random_subset
from anymri.weights.convert import convert_checkpoint

SIDE = 16
SOME = Subset.parse("T1c+FLAIR")


def create(**switches):
    torch.manual_seed(0)
    return registry.create("unet_dropout", **{"preset": "nano", "width": 8, **switches})


def batch(available):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 4, SIDE, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, 4, (2, SIDE, SIDE, SIDE), generator=generator)
    return Batch.of(images, labels, ALL.as_tensor(2), available.as_tensor(2))


def logits_of(labels, sure=12.0):
    """Logits of a network that is sure of the labels, and those of its coarse output."""
    logits = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float() * sure
    cubes = torch.nn.functional.max_pool3d((labels > 0).float()[:, None], COARSE)
    return logits, (2 * cubes - 1) * sure


def test_conversion_is_refused_without_writing_weights(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "authors.pth")
    with pytest.raises(WeightsError, match=r"no authors' weights(.|\n)*anymri train unet_dropout"):
        convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors", "unet_dropout")
    assert not (tmp_path / "w.safetensors").exists()


def test_missing_modality_differs_from_an_image_of_zeros():
    system = create()
    with torch.no_grad():
        system.stem.presence.weight.normal_()
    zeroed = batch(SOME).images * SOME.as_tensor()[..., None, None, None]
    with torch.inference_mode():
        missing, zeros = (system(zeroed, subset.as_tensor(2)).logits for subset in (SOME, ALL))
    assert not torch.allclose(missing, zeros)


def test_voxels_are_packed_and_unpacked_without_a_change():
    images = torch.arange(2 * 3 * 4 * 6 * 8.0).view(2, 3, 4, 6, 8)
    packed = space_to_depth(images)
    assert packed.shape == (2, 24, 2, 3, 4)
    assert torch.equal(packed[0, :8, 0, 0, 0], images[0, 0, :2, :2, :2].flatten())
    assert torch.equal(depth_to_space(packed), images)


@pytest.mark.parametrize("blocks", [(1, 1), (1, 1, 2)])
def test_coarse_output_exists_in_training_alone(blocks):
    system = create(blocks=blocks)
    assert system(batch(ALL).images, ALL.as_tensor(2)).coarse is None
    coarse = system.train()(batch(ALL).images, ALL.as_tensor(2)).coarse
    assert coarse.shape == (2, 1, SIDE // COARSE, SIDE // COARSE, SIDE // COARSE)


def test_losses_vanish_for_the_truth_and_name_what_is_wrong():
    labels = torch.zeros(1, SIDE, SIDE, SIDE, dtype=torch.long)
    labels[:, 4:12, 4:12, 4:12] = 2
    labels[:, 6:10, 6:10, 6:10] = 3
    logits, coarse = logits_of(labels)
    assert split_losses(logits, coarse, labels).total < 0.01
    enhancing, _ = logits_of(torch.where(labels > 0, 3, 0))  # every tumour voxel called ET
    wrong = split_losses(enhancing, coarse, labels).terms
    assert max(wrong["tumour"], wrong["whole"], wrong["coarse"]) < 0.01
    assert min(wrong["parts"], wrong["dice"]) > 0.5
    nothing, none = logits_of(torch.zeros_like(labels))
    wrong = split_losses(nothing, none, labels).terms
    assert min(wrong[name] for name in ("tumour", "whole", "coarse")) > 0.5


def test_gradients_of_a_patch_outside_the_brain_are_finite():
    empty, system = batch(ALL), create(blocks=(2, 2, 3)).train()
    empty.labels.zero_()
    empty.images.zero_()
    losses(system, empty).total.backward()
    assert all(parameter.grad.isfinite().all() for parameter in system.parameters())


@pytest.mark.parametrize("switches", [{"blocks": (3,)}, {"blocks": (1, 0)}, {"width": 12}])
def test_networks_that_cannot_be_built_are_refused(switches):
    with pytest.raises(ConfigurationError, match="cannot be built with"):
        create(**switches)


@pytest.mark.parametrize("recipe", ["full", "nano"])
def test_recipes_drop_each_modality_in_half_of_the_steps(recipe):
    rng = np.random.default_rng(0)
    for stage in RECIPES[recipe].stages:
        drawn = np.array([random_subset(np.ones(4, bool), rng, stage.subsets) for _ in range(2000)])
        # Where all are dropped, in 1/16 of the draws, one of the four is kept.
        np.testing.assert_allclose(drawn.mean(0), 0.5 + 1 / 64, atol=0.04)
        assert len(np.unique(drawn, axis=0)) == 15
