"""mmFormer beyond the common laws: the order of its tokens, its only crop, and what is not computed."""

import pytest
import torch
from torch import nn

from anymri.errors import ConfigurationError
from anymri.modalities import ALL, MODALITIES, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch
from anymri.systems.crops import as_sides
from anymri.systems.families.tokens.blocks import SEQUENCE
from anymri.systems.mmformer.fusion import fuse_tokens
from anymri.training.configuration import resolve
from anymri.weights.convert import convert_checkpoint
from anymri.weights.store import load_weights
from parity.token_fixture import TokenFixture

CROP = 32
TOKENS = 8
NETWORK = {"width": 2, "token_width": 8, "mlp_width": 8, "heads": 2, "crop": CROP}
SOME = Subset.parse("T1c+FLAIR")


def create(**switches):
    torch.manual_seed(0)
    return registry.create("mmformer", **{**NETWORK, **switches})


def images(batch_size=1):
    return torch.randn(batch_size, 4, CROP, CROP, CROP, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("aligned", [False, True], ids=["published", "aligned"])
def test_voxel_reads_the_tokens_at_its_position_only_if_aligned(aligned):
    system = create(aligned_tokens=aligned)
    # Tokens with two channels: their modality and their position.
    tokens = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(TOKENS), indexing="ij"), dim=-1)[None]
    positions, available = torch.zeros_like(tokens), ALL.as_tensor()
    features = fuse_tokens(
        tokens, positions, available, nn.Identity(), system.sequence, system.aligned_tokens, system.crop
    )
    where = features.flatten(2)[0].T.unflatten(1, (4, 2))
    for voxel in range(TOKENS):
        if aligned:
            expected = [[MODALITIES.index(m), voxel] for m in SEQUENCE]
        else:
            ordered = [[MODALITIES.index(m), position] for m in SEQUENCE for position in range(TOKENS)]
            expected = ordered[4 * voxel : 4 * voxel + 4]
        assert where[voxel].tolist() == expected


def test_network_with_aligned_tokens_trains_and_shares_encodings():
    system = create(aligned_tokens=True)
    with torch.inference_mode():
        shared = system.decode(system.encode(images(), ALL.as_tensor()), SOME.as_tensor()).logits
        alone = system(images().masked_fill(~SOME.as_tensor()[..., None, None, None], torch.nan), SOME.as_tensor())
        published = create()(images(), SOME.as_tensor()).logits
    torch.testing.assert_close(shared, alone.logits, rtol=1e-4, atol=1e-4)
    assert (shared - published).abs().max() > 0.01
    objective(system.train(), batch_of(ALL.as_tensor(), ALL.as_tensor()))["total"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in system.parameters())


@pytest.mark.parametrize(
    ("switches", "message"),
    [({"crop": 50}, "multiples of 16, such as 48"), ({"crop": 16}, "such as 32"), ({"heads": 3}, "divides")],
)
def test_invalid_arguments_are_refused_with_the_nearest_valid_ones(switches, message):
    with pytest.raises(ConfigurationError, match=message):
        create(**switches)


def configured(*assignments):
    options = {"data": "somewhere", "label_scheme": "brats2023"}
    return resolve("mmformer", "nano", options, assignments=assignments).recipe


def test_recipe_with_another_crop_is_refused():
    with pytest.raises(ConfigurationError, match=r"cube of 64 voxels.*\n.*whole\.crop=64, or --set network\.crop=48"):
        configured("whole.crop=48")
    assert configured("crop=48", "network.crop=48").network["crop"] == 48


def test_converted_weights_store_the_crop_of_their_network(tmp_path):
    fixture = TokenFixture("mmformer")
    torch.save({"state_dict": fixture.state(fixture.json["model"])}, tmp_path / "authors.pth")
    convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors")
    system, loaded = load_weights(tmp_path / "w.safetensors")
    assert loaded.window == system.crop == as_sides(fixture.config["crop"])


def test_prediction_runs_only_the_modules_that_it_needs():
    system = create()
    ran = set()
    for name, module in system.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    with torch.inference_mode():
        system(images(), SOME.as_tensor())
    streams = {name.split(".")[1] for name in ran if name.startswith("streams.")}
    assert streams == set(SOME)
    assert not [name for name in ran if name.startswith(("shared_decoder", "decoder.heads"))]
    assert "transformer.attention.1" in ran and "streams.FLAIR.transformer.attention.1" in ran


def batch_of(present, available):
    labels = torch.randint(0, 4, (len(present), CROP, CROP, CROP), generator=torch.Generator().manual_seed(2))
    return Batch.of(images(len(present)), labels, present, available)


def objective(system, batch):
    return registry.spec("mmformer").objectives["train"](system, batch).named()


def test_only_scans_that_exist_have_a_loss_of_the_modality_alone():
    """T1 is in one sample, T2 in none; FLAIR is not in the subset of the step, and still has its loss."""
    present = torch.cat([Subset.parse("T1+T1c+FLAIR").as_tensor(), Subset.parse("T1c+FLAIR").as_tensor()])
    available = torch.cat([Subset.parse("T1+T1c").as_tensor(), Subset.parse("T1c").as_tensor()])
    system = create(dropout=0.0).train()
    batch = batch_of(present, available)
    named = objective(system, batch)
    assert {name for name in named if name.startswith("alone")} == {
        f"alone_{m}_{kind}" for m in ("T1", "T1c", "FLAIR") for kind in ("ce", "dice")
    }
    first = objective(system, Batch(*(tensor[:1] for tensor in vars(batch).values())))
    both = [named[name].item() for name in ("alone_T1_ce", "alone_T1_dice")]
    assert both == pytest.approx([first[name].item() for name in ("alone_T1_ce", "alone_T1_dice")], rel=1e-5)
    assert named["total"].item() == pytest.approx(sum(v.item() for k, v in named.items() if k != "total"))
