"""M3AE beyond the laws of systems: position of its substitute, patches of pre-training, stored files."""

import pytest
import torch

from anymri.errors import ConfigurationError, WeightsError
from anymri.inference.tiling import Windows
from anymri.inference.windows import predict
from anymri.modalities import ALL, SUBSETS, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch, middle_corners
from anymri.systems.m3ae.masking import SIDE, draw_visible
from anymri.weights.convert import convert_checkpoint
from anymri.weights.store import load_weights
from parity import reference
from untrained import prepared

GRID = (20, 24, 18)
SOME = Subset.parse("T1c+FLAIR")
OBJECTIVES = registry.spec("m3ae").objectives


def create(**switches):
    torch.manual_seed(0)
    return registry.create("m3ae", preset="nano", **{"grid": GRID, **switches})


def substitute_of(system, sides, corners=None):
    images = torch.zeros(1, 4, *sides)
    with torch.no_grad():
        return system.encode(images, ALL.as_tensor(), corners).substitute[0]


def test_crop_without_position_gets_the_middle_of_the_substitute():
    system = create()
    assert torch.equal(substitute_of(system, (8, 16, 8)), system.substitute[0, :, 6:14, 4:20, 5:13])


def test_substitute_is_cropped_at_the_position_of_the_crop_and_mirrored_with_it():
    system = create()
    # From the middle (10, 12, 9): voxels 2..9 of the first axis, 16..9 backwards of the second, 8..15 of the third.
    corners = torch.tensor([[[-8, 4, -1], [-1, -3, 6]]])
    assert torch.equal(substitute_of(system, (8, 8, 8), corners), system.substitute[0, :, 2:10, 9:17, 8:16].flip(2))


def test_border_of_the_substitute_is_repeated_outside():
    system = create()
    cut = substitute_of(system, (8, 24, 8), torch.tensor([[[-13, -12, -40], [-6, 11, -33]]]))
    inside = system.substitute[0, :, :5, :, :1].expand(-1, -1, -1, 8)
    assert torch.equal(cut[:, 3:], inside) and torch.equal(cut[:, :3], inside[:, :1].expand(-1, 3, -1, -1))


@pytest.mark.parametrize("placement", ["scan", "box"])
def test_windows_get_the_substitute_at_their_position_in_scan_or_padded_box(placement):
    """A box of 16x12x24 voxels, padded to 16 along y, begins at voxel (3, 5, -2) from the middle of the scan."""
    system = create(placement=placement)
    images = torch.arange(16 * 12 * 24.0).view(1, 1, 16, 12, 24).repeat(1, 4, 1, 1, 1)
    seen = []
    encode_at = system._encode_at
    system._encode_at = lambda images, present, corners: (
        seen.append((images, corners)) or encode_at(images, present, corners)
    )
    volume = prepared(images[0], background=-1.0, origin=(3, 5, -2))
    predict(system, volume, [SOME], Windows((16, 16, 16), 0.5))
    windows = [(image, corner) for images, corners in seen for image, corner in zip(images, corners, strict=True)]
    assert len(windows) == 2
    for image, (first, last) in windows:
        assert (last - first == 15).all()
        # Along y, the first voxel of the box follows two voxels of padding.
        z = int(image[0, 0, 2, 0])
        expected = (3, 5 - 2, -2 + z) if placement == "scan" else (-10, -12, -9 + z)
        assert tuple(first.tolist()) == expected


def test_ablation_replaces_missing_modalities_by_zeros():
    system = create(substitute="zeros").train()
    assert "substitute" not in system.state_dict()
    named = OBJECTIVES["pretraining"](system, batch()).named()
    assert "substitute" not in named and named["total"] == named["reconstruction"]
    image = torch.randn(1, 4, 16, 16, 16)
    with torch.inference_mode():
        logits = system.eval()(image, SOME.as_tensor()).logits
        image[~SOME.as_tensor()] = 0
        torch.testing.assert_close(system(image, ALL.as_tensor()).logits, logits)


@pytest.mark.parametrize("subset", SUBSETS, ids=str)
def test_number_of_visible_patches_does_not_depend_on_the_subset(subset):
    visible = draw_visible(subset.as_tensor(), (32, 48, 32))
    patches = visible[0, :, ::SIDE, ::SIDE, ::SIDE]
    assert visible.shape == (1, 4, 32, 48, 32) and patches.sum() == 4 * 12 // 8
    assert not visible[~subset.as_tensor()].any()
    whole = patches.repeat_interleave(SIDE, 1).repeat_interleave(SIDE, 2).repeat_interleave(SIDE, 3)
    assert torch.equal(whole, visible[0])


def test_visible_patches_are_drawn_uniformly_per_sample():
    torch.manual_seed(0)
    available = torch.tensor([[True, False, True, False]]).repeat(400, 1)
    shown = draw_visible(available, (32, 32, 32))[..., ::SIDE, ::SIDE, ::SIDE].flatten(1).float().mean(0)
    expected = torch.tensor([0.25, 0, 0.25, 0]).repeat_interleave(8)
    torch.testing.assert_close(shown, expected, rtol=0, atol=0.08)


@pytest.mark.parametrize("sides", [(8, 8, 8), (24, 16, 40)], ids=str)
def test_crops_that_patches_do_not_fill_show_some_voxels(sides):
    visible = draw_visible(SOME.as_tensor(), sides)
    assert visible.shape == (1, 4, *sides) and visible.any() and not visible.all()


def batch(available=SOME, side=16, copies=1):
    images = torch.randn(copies, 4, side, side, side, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(0, 4, (1, side, side, side), generator=torch.Generator().manual_seed(2))
    flags = torch.cat([available.as_tensor(), ALL.as_tensor()])[:copies]
    return Batch.of(images, labels.expand(copies, -1, -1, -1), torch.ones_like(flags), flags)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_smallest_crop_trains_and_segments(objective):
    """With width 4, the first level has fewer groups than published."""
    system = create(width=4).train()
    named = OBJECTIVES[objective](system, batch(side=system.minimum_side)).named()
    named["total"].backward()
    assert all(p.grad.isfinite().all() for p in system.parameters() if p.grad is not None)
    volume = prepared(torch.randn(4, 5, 3, 4))
    probabilities = predict(system.eval(), volume, [SOME], Windows((8, 8, 8), 0.5))[0].probabilities
    assert probabilities.shape == (3, 5, 3, 4) and probabilities.isfinite().all()


@pytest.mark.parametrize("objective", ["train", "train_bottleneck"])
def test_distillation_compares_copies_of_one_patch_alone(objective):
    system, two = create().train(), batch(copies=2)
    assert "distillation" not in OBJECTIVES[objective](system, two).named()
    two.patch = torch.zeros(2).long()
    assert OBJECTIVES[objective](system, two).named()["distillation"] > 0
    two.images[1], two.available[1] = two.images[0], two.available[0]
    assert OBJECTIVES[objective](system, two).named()["distillation"] < 1e-9


def test_losses_are_finite_float32_in_mixed_precision():
    with torch.autocast("cpu", torch.bfloat16):
        named = OBJECTIVES["train"](create().train(), batch()).named()
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in named.values())


FIXTURE = reference.load("m3ae")


def checkpoint(stage):
    """Return a checkpoint as the authors save it."""
    model = FIXTURE["stages"][stage]
    state = reference.filled_state(FIXTURE["seed"], {**model, "parameters": model["parameters"].items()})
    return {"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}}


def converted(folder, stage, change=lambda state: None):
    stored = checkpoint(stage)
    change(stored["state_dict"])
    torch.save(stored, folder / "authors.pth")
    convert_checkpoint(folder / "authors.pth", folder / "w.safetensors", "m3ae")
    return folder / "w.safetensors"


def test_substitute_is_stored_beside_converted_weights(tmp_path):
    weights = converted(tmp_path, "finetune")
    system, card = load_weights(weights)
    beside = tmp_path / card.frozen_file
    shape = FIXTURE["config"]["substitute_image_shape"]
    assert list(system.substitute.shape) == [1, 4, *reversed(shape[2:])]
    # x, y, z of ours are z, y, x of theirs.
    assert system.substitute[0, 2, 5, 6, 7] == checkpoint("finetune")["state_dict"]["module.limage"][0, 2, 7, 6, 5]
    substitute = 4 * system.substitute.numel()
    rest = 4 * sum(p.numel() for p in system.parameters()) - substitute
    assert 0 < beside.stat().st_size - substitute < 1e4 and 0 < weights.stat().st_size - rest < 1e5
    beside.unlink()
    with pytest.raises(WeightsError, match=f"needs {beside.name}"):
        load_weights(weights)


def test_weights_of_pretraining_reconstruct_images_and_refuse_segmentation(tmp_path):
    system, _ = load_weights(converted(tmp_path, "pretrain"))
    images, present = system.stack({"t1": torch.randn(1, 16, 16, 16)})
    with torch.inference_mode():
        encoding = system.encode(images, present)
        reconstructed = system.reconstruct(encoding, present[..., None, None, None].expand_as(images))
        assert reconstructed.shape == images.shape
        with pytest.raises(ConfigurationError, match="cannot segment"):
            system.decode(encoding, present)


def test_missing_and_foreign_names_are_listed_without_writing_weights(tmp_path):
    def change(state):
        state["module.unet.conv5a.weight"] = state.pop("module.unet.conv2a.gn1.bias")

    with pytest.raises(WeightsError, match=r"1 missing \(unet\.encoder\.1\.1\.convs\.0\.norm\.bias\), 1 foreign"):
        converted(tmp_path, "finetune", change)
    assert not list(tmp_path.glob("*.safetensors"))


def test_middle_corners_are_those_of_a_centred_crop():
    corners = middle_corners(2, (8, 5, 4))
    assert corners.tolist() == [[[-4, -2, -2], [3, 2, 1]]] * 2
