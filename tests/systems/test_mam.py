"""MaM beyond the laws of systems: sums of its decoder, gradients of a step, crops, the ablation, checkpoints."""

import pytest
import torch
from torch.nn.functional import conv3d

from anymri.errors import ConfigurationError, WeightsError
from anymri.inference.tiling import Windows
from anymri.inference.windows import predict
from anymri.modalities import ALL, SUBSETS, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch
from anymri.systems.losses import at_level
from anymri.systems.mam.network import DecoderLevel
from anymri.weights.convert import convert_checkpoint
from anymri.weights.store import load_weights
from parity import filler, reference
from untrained import prepared

SOME = Subset.parse("T1c+FLAIR")
OBJECTIVE = registry.spec("mam").objectives["train"]


def create(**switches):
    torch.manual_seed(0)
    return registry.create("mam", preset="nano", **{"crop": 32, **switches})


def images(system, batch_size=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch_size, len(system.modalities), *(system.crop or (32, 32, 32)), generator=generator)


def batch(system, present=ALL, available=SOME):
    x = images(system)
    labels = torch.randint(0, 4, x[:, 0].shape, generator=torch.Generator().manual_seed(2))
    return Batch.of(x, labels, present.as_tensor(), available.as_tensor())


def test_contributions_of_skips_add_up_to_the_convolution_with_zeros_for_missing_ones():
    torch.manual_seed(0)
    level = DecoderLevel(below_channels=8, channels=12)
    below, skips = torch.randn(2, 8, 4, 4, 4), torch.randn(3, 2, 4, 8, 8, 8)
    seen = []
    level.join.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    level(below, [level.contribution(skips[0], 0), level.contribution(skips[2], 2)])
    skips[1] = 0
    conv = level.join.conv
    joined = torch.cat([level.up(below), *skips], dim=1)
    torch.testing.assert_close(seen[0], conv3d(joined, conv.weight, conv.bias, padding=1), rtol=1e-5, atol=1e-5)


def test_transformer_runs_for_missing_modalities_and_replaces_them_alone():
    system = create(crop=64, width=1, max_width=16)
    ran = []
    system.transformer.register_forward_hook(lambda *_: ran.append(1))
    with torch.inference_mode():
        encoding = system.encode(images(system), ALL.as_tensor())
        whole = system.decode(encoding, ALL.as_tensor()).coarsest
        assert not ran
        some = system.decode(encoding, SOME.as_tensor()).coarsest
    same = (some == whole).flatten(2).all(2)
    assert ran and torch.equal(same, SOME.as_tensor())


def test_evaluation_runs_encoders_of_the_subset_and_the_finest_head():
    system = create()
    ran = set()
    for name, module in system.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    with torch.inference_mode():
        system(images(system), SOME.as_tensor())
    assert {name.split(".")[1] for name in ran if name.startswith("encoders.")} == set(SOME)
    assert {name for name in ran if name.startswith("heads.")} == {"heads.0"}


@pytest.mark.parametrize("subset", [SUBSETS[0], SOME], ids=str)
def test_missing_modalities_are_targets_without_gradient(subset):
    system = create().train()
    named = OBJECTIVE(system, batch(system, available=subset)).named()
    named["total"].backward()
    learnt = {name for name, e in system.encoders.items() if any(p.grad is not None for p in e.parameters())}
    assert learnt == set(subset) and named["reconstructed"] > 0


@torch.no_grad()
def test_scans_that_do_not_exist_are_not_reconstructed():
    system = create(crop=64, width=1, max_width=16).train()
    whole = batch(system, available=SOME)
    one, two = (Subset.parse(s).as_tensor() for s in ("T1+T1c+FLAIR", "T1c+FLAIR"))
    errors = [
        OBJECTIVE(system, Batch.of(whole.images, whole.labels, p, whole.available)).named()
        for p in (whole.present, one, two)
    ]
    assert "reconstructed" not in errors[2] and errors[0]["reconstructed"] != errors[1]["reconstructed"]
    segmentation = [named["total"] - named.get("reconstructed", 0) for named in errors]
    torch.testing.assert_close(segmentation[0], segmentation[1])
    torch.testing.assert_close(segmentation[0], segmentation[2])


def test_deep_supervision_targets_are_every_other_voxel():
    row = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 1, 8, 8, 8)
    assert torch.equal(at_level(row, 0), row)
    assert at_level(row, 1)[0, 0, :, 0, 0].tolist() == [1, 3, 5, 7]
    assert at_level(row, 2)[0, 0, :, 0, 0].tolist() == [2, 6]


def test_crop_with_one_voxel_at_the_coarsest_level_trains_and_segments():
    system = create().train()
    named = OBJECTIVE(system, batch(system)).named()
    named["total"].backward()
    assert all(p.grad.isfinite().all() for p in system.parameters() if p.grad is not None)
    volume = prepared(torch.randn(4, 5, 3, 4))
    probabilities = predict(system.eval(), volume, [SOME], Windows((64, 64, 64), 0.5))[0].probabilities
    assert probabilities.shape == (3, 5, 3, 4) and probabilities.isfinite().all()


@pytest.mark.parametrize(
    ("switches", "message"),
    [({"crop": 50}, "multiples of 32, such as 64"), ({"crop": 16}, "such as 32"), ({"heads": 3}, "divides")],
)
def test_invalid_network_is_refused_with_valid_values(switches, message):
    with pytest.raises(ConfigurationError, match=message):
        create(**switches)


def test_ablation_has_zeros_for_missing_features_and_takes_any_crop():
    system = create(reconstruction=False).train()
    assert not {"tokens", "positions", "transformer"} & {name.split(".")[0] for name, _ in system.named_parameters()}
    assert "reconstructed" not in OBJECTIVE(system, batch(system)).named()
    x = torch.randn(1, 4, 32, 64, 32)
    with torch.inference_mode():
        coarsest = system.eval()(x, SOME.as_tensor()).coarsest
    assert not coarsest[~SOME.as_tensor()].any() and coarsest[SOME.as_tensor()].any()


FIXTURE = reference.load("mam")
CASE = FIXTURE["cases"][0]


def converted(folder, change=lambda state: None):
    values = filler.fill(CASE["seed"], dict(map(tuple, CASE["parameters"])), FIXTURE["integers"])
    state = {name: torch.from_numpy(value) for name, value in values.items()}
    change(state)
    torch.save({"network_weights": state, "current_epoch": 499}, folder / "authors.pth")
    convert_checkpoint(folder / "authors.pth", folder / "w.safetensors", "mam")
    return state, *load_weights(folder / "w.safetensors")


def test_converted_modalities_and_axes_are_in_our_order(tmp_path):
    state, system, card = converted(tmp_path)
    assert card.window == system.crop == tuple(reversed(CASE["crop"]))
    # Theirs are FLAIR, T1, T1c, T2 and z, y, x: T2 is the third of ours and the fourth of theirs.
    assert torch.equal(system.tokens[2, :, 0, 1, 0], state["learned_bottleneck_tokens"][3, :, 0, 1, 0])
    assert torch.equal(system.tokens[2, :, 1, 0, 0], state["learned_bottleneck_tokens"][3, :, 0, 0, 1])
    grid = (4, *system.tokens.shape[2:], -1)
    theirs = state["feature_reconstruction.pos_embedding"].view(grid)
    assert torch.equal(system.positions.view(grid)[3, 1, 1, 0], theirs[0, 0, 1, 1])
    kernel = state["modality_specific_encoders.3.stages.0.0.convs.0.conv.weight"]
    assert torch.equal(system.encoders["T2"].levels[0][0].conv.weight[..., 2, 1, 0], kernel[..., 0, 1, 2])


def test_checkpoint_of_the_ablation_converts(tmp_path):
    def change(state):
        for name in list(state):
            if name.startswith(("learned", "feature_reconstruction")):
                del state[name]

    _, system, _ = converted(tmp_path, change)
    assert system.transformer is None and system.crop is None


def test_missing_and_foreign_names_are_listed_without_writing_weights(tmp_path):
    def change(state):
        state["decoder.stages.9.convs.0.conv.weight"] = state.pop("decoder.stages.4.convs.0.conv.weight")

    with pytest.raises(
        WeightsError, match=r"1 missing \(decoder\.0\.join\.conv\.weight\), 1 foreign \(decoder\.stages\.9"
    ):
        converted(tmp_path, change)
    assert not list(tmp_path.glob("*.safetensors"))
