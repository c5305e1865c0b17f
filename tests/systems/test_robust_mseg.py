"""Switches of Robust-Mseg, and the crop that its image decoders fix."""

import pytest
import torch

from anymri.errors import ConfigurationError, ShapeError
from anymri.modalities import ALL, SUBSETS, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch
from anymri.training.configuration import resolve

CROP = 16
SOME = Subset.parse("T1c+FLAIR")
ORIGINAL = {"image_norm": "channel", "activated_gates": False, "norm_gains": True, "upsampling": "nearest"}


def create(**switches):
    torch.manual_seed(0)
    return registry.create("robust_mseg", **{"width": 2, "style_width": 2, "crop": CROP, **switches})


def images(*size):
    return torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(1))


def step(system, *size):
    labels = torch.randint(0, 4, (1, *size), generator=torch.Generator().manual_seed(2))
    batch = Batch.of(images(*size), labels, ALL.as_tensor(), ALL.as_tensor())
    return registry.spec("robust_mseg").objectives["train"](system.train(), batch).named()["total"]


@pytest.mark.parametrize("switches", [{}, ORIGINAL], ids=["port", "original"])
def test_every_parameter_receives_a_gradient_and_encodings_are_shared(switches):
    system = create(**switches)
    step(system, CROP, CROP, CROP).backward()
    assert not [n for n, p in system.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    system.eval()
    with torch.inference_mode():
        encoding = system.encode(images(CROP, CROP, CROP), ALL.as_tensor())
        for subset in (SOME, SUBSETS[0]):
            alone = system(images(CROP, CROP, CROP), subset.as_tensor()).logits
            shared = system.decode(encoding, subset.as_tensor()).logits
            torch.testing.assert_close(shared, alone, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_gated_fusion_equals_convolutions_of_concatenated_modalities():
    """As published: missing content is zero, and each convolution takes the concatenated content."""
    system = create().double()
    fusion = system.fusions[0]
    fusion.gate.bias.data.normal_()
    content = torch.randn(1, 4, 2, 8, 8, 8, dtype=torch.float64)
    contributions = zip(*(fusion.contributions(content[:, m], m) for m in range(4)), strict=True)
    found = fusion(*(torch.stack(each, dim=1) for each in contributions), SOME.as_tensor())
    masked = content * SOME.as_tensor()[..., None, None, None, None]
    gates = fusion.gate_norm(fusion.gate(masked.flatten(1, 2))).sigmoid()
    joined = fusion.join((masked * gates[:, :, None]).flatten(1, 2))
    torch.testing.assert_close(found, fusion.join_norm(joined))


@pytest.mark.parametrize("constant", [False, True])
def test_constant_dropout_keeps_dropout_in_evaluation(constant):
    system = create(constant_dropout=constant)
    with torch.inference_mode():
        one, two = (system(images(CROP, CROP, CROP), SOME.as_tensor()).logits for _ in range(2))
    assert torch.equal(one, two) != constant


def test_image_decoders_fix_the_crop_of_training_alone():
    system = create()
    with torch.inference_mode():
        assert system(images(24, 16, 32), SOME.as_tensor()).logits.shape == (1, 4, 24, 16, 32)
        encoding = system.encode(images(24, 24, 24), ALL.as_tensor())
        with pytest.raises(ShapeError, match=r"24x24x24 voxels cannot be reconstructed.*cube of 16"):
            system.decode(encoding, ALL.as_tensor(), reconstruct=True)
    with pytest.raises(ShapeError, match="nearest crop that works is 16x16x16"):
        step(system, 24, 24, 24)
    assert step(create(image_norm="channel"), 16, 24, 16).isfinite()


def test_training_crop_that_the_image_decoders_do_not_take_is_refused():
    def configured(*assignments):
        options = {"data": "somewhere", "label_scheme": "brats2023"}
        return resolve("robust_mseg", "corrected", options, assignments=assignments).recipe

    with pytest.raises(ConfigurationError, match=r"cube of 80 voxels.*\n.*train\.crop=80, or --set network\.crop=64"):
        configured("crop=64")
    assert configured("crop=64", "network.crop=64").stages[0].crop == (64, 64, 64)
    assert configured("crop=64", "network.image_norm=channel").stages[0].crop == (64, 64, 64)


@pytest.mark.parametrize(("crop", "nearest"), [(50, 48), (8, 16)])
def test_invalid_crop_is_refused_with_the_nearest_valid_one(crop, nearest):
    with pytest.raises(ConfigurationError, match=f"nearest crop that works is {nearest}"):
        create(crop=crop)
