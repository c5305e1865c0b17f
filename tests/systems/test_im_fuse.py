"""IM-Fuse beyond the common laws: its switches, its only crop, and the choice that its converter needs."""

import pytest
import torch

from anymri.errors import ConfigurationError, WeightsError
from anymri.modalities import ALL, Subset
from anymri.systems import registry
from anymri.systems.batch import Batch
from anymri.weights.convert import convert_checkpoint
from anymri.weights.store import load_weights
from parity.token_fixture import TokenFixture

CROP = 32
NETWORK = {"width": 2, "token_width": 8, "mlp_width": 8, "heads": 2, "crop": CROP}
SOME = Subset.parse("T1c+FLAIR")
VARIANTS = [
    {"interleaved": interleaved, "mamba_skip": mamba_skip, "first_skip": first_skip}
    for interleaved in (True, False)
    for mamba_skip in (True, False)
    for first_skip in (True, False)
]


def create(**switches):
    torch.manual_seed(0)
    return registry.create("im_fuse", **{**NETWORK, **switches})


def images(channels=4):
    return torch.randn(1, channels, CROP, CROP, CROP, generator=torch.Generator().manual_seed(1))


# Every pair of values of two switches is in one of these.
PAIRWISE = [each for each in VARIANTS if each["first_skip"] == (each["interleaved"] == each["mamba_skip"])]


@pytest.fixture(
    params=PAIRWISE, ids=lambda switches: "-".join(name for name, on in switches.items() if on), scope="module"
)
def system(request):
    return create(**request.param)


def test_subset_of_a_shared_encoding_equals_the_subset_alone(system):
    available = SOME.as_tensor()
    with torch.inference_mode():
        shared = system.decode(system.encode(images(), ALL.as_tensor()), available).logits
        alone = system(images().masked_fill(~available[..., None, None, None], torch.nan), available).logits
    torch.testing.assert_close(shared, alone, rtol=1e-4, atol=1e-4)


def test_every_parameter_receives_a_gradient(system):
    labels = torch.randint(0, 4, (1, CROP, CROP, CROP), generator=torch.Generator().manual_seed(2))
    batch = Batch.of(images(), labels, ALL.as_tensor(), ALL.as_tensor())
    registry.spec("im_fuse").objectives["train"](system.train(), batch).total.backward()
    system.eval()
    assert not [n for n, p in system.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_all_variants_give_different_logits():
    with torch.inference_mode():
        logits = [create(**switches)(images(), SOME.as_tensor()).logits for switches in VARIANTS]
    assert all((one - other).abs().max() > 0.01 for i, one in enumerate(logits) for other in logits[:i])


@pytest.mark.parametrize("switches", [VARIANTS[0], VARIANTS[-1]], ids=["all", "none"])
def test_order_of_two_modalities_does_not_change_the_logits(switches):
    names = ("T1c", "FLAIR")
    one, other = create(modalities=names, **switches), create(modalities=names[::-1], **switches)
    other.load_state_dict(one.state_dict(), strict=False)
    if not switches["mamba_skip"]:
        for fusion in [*other.fusions.values()][:-1]:
            weight = fusion.reduce.conv.weight
            weight.data = torch.cat(weight.chunk(2, dim=1)[::-1], dim=1)
    with torch.inference_mode():
        expected = one(images(2), torch.ones(1, 2, dtype=torch.bool)).logits
        found = other(images(2).flip(1), torch.ones(1, 2, dtype=torch.bool)).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_changed_weights_change_the_next_logits():
    """Nothing that depends on weights alone is kept from one encoding to the next."""
    system = create()
    with torch.inference_mode():
        before = system(images(), SOME.as_tensor()).logits
        for parameter in [system.token_reader.tokens, system.skip_readers["0"].norm.bias]:
            parameter.add_(1)
        changed = system(images(), SOME.as_tensor()).logits
        again = create()
        again.load_state_dict(system.state_dict())
        assert (changed - before).abs().max() > 0.01
        torch.testing.assert_close(again(images(), SOME.as_tensor()).logits, changed, rtol=0, atol=0)


@pytest.fixture(scope="module")
def authors(tmp_path_factory):
    """Path of a checkpoint as data-parallel training saves it, its crop, and whether its skips have Mamba blocks.

    It is the variant with the fewest weights.
    """
    fixture = TokenFixture("im_fuse")
    variant = min(fixture.json["variants"].values(), key=lambda variant: variant["parameter_count"])
    state = {f"module.{name}": value for name, value in fixture.state(variant).items()}
    path = tmp_path_factory.mktemp("authors") / "model_last.pth"
    torch.save({"epoch": 1, "state_dict": state}, path)
    return path, fixture.config["crop"], variant["mamba_skip"]


def test_conversion_without_the_order_of_tokens_is_refused(authors, tmp_path):
    with pytest.raises(WeightsError, match=r"does not show.*interleaved: true .*\n.*--set interleaved=VALUE"):
        convert_checkpoint(authors[0], tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize("interleaved", [True, False])
def test_conversion_takes_the_order_of_tokens(authors, tmp_path, interleaved):
    path, crop, _ = authors
    convert_checkpoint(path, tmp_path / "w.safetensors", switches={"interleaved": interleaved})
    system, loaded = load_weights(tmp_path / "w.safetensors")
    assert system.token_reader.interleaved == loaded.network["interleaved"] == interleaved
    assert loaded.window == system.crop == (crop, crop, crop)


@pytest.mark.parametrize(("switch", "error"), [("mamba_skip", WeightsError), ("interlaced", ConfigurationError)])
def test_conversion_refuses_switches_that_do_not_fit(authors, tmp_path, switch, error):
    path, _, mamba_skip = authors
    with pytest.raises(error, match=switch):
        convert_checkpoint(path, tmp_path / "w.safetensors", switches={"interleaved": True, switch: not mamba_skip})
    assert not (tmp_path / "w.safetensors").exists()


def test_encoders_of_missing_modalities_and_heads_for_training_never_run():
    system = create()
    ran = set()
    for name, module in system.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.add(name))
    with torch.inference_mode():
        system(images(), SOME.as_tensor())
    assert {name.split(".")[1] for name in ran if name.startswith("streams.")} == set(SOME)
    assert not [name for name in ran if name.startswith(("shared_decoder", "decoder.heads"))]
