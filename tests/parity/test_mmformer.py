"""mmFormer against the reference's outputs, losses and gradients. See `reference.py` for the folder of numbers."""

import pytest
import torch

from anymri.layers.streams import encode_each
from anymri.modalities import ALL
from anymri.systems.registry import spec
from parity.token_fixture import TokenFixture

FIXTURE = TokenFixture("mmformer")
MODEL, CASES = FIXTURE.json["model"], FIXTURE.cases
LEVELS = 5


def of_mode(mode):
    return [name for name, case in CASES.items() if case["mode"] == mode]


@pytest.fixture
def system():
    return FIXTURE.build(MODEL)


def test_converter_keeps_every_parameter(system):
    assert sum(p.numel() for p in system.parameters()) == MODEL["parameter_count"]


def test_a_checkpoint_of_the_original_repository_converts():
    """With names as data-parallel training saves them, and convolutions that nothing uses."""
    state = FIXTURE.state(MODEL)
    checkpoint = {f"module.{name}": value for name, value in state.items()}
    for modality in FIXTURE.json["modality_order"]:
        embed = state[f"{modality}_encode_conv.weight"]
        checkpoint[f"module.{modality}_decode_conv.weight"] = embed.transpose(0, 1)
        checkpoint[f"module.{modality}_decode_conv.bias"] = embed[0].flatten()
    convert = spec("mmformer").convert
    plain, wrapped = (convert(each) for each in (state, {"epoch": 1, "state_dict": checkpoint}))
    assert plain.network == wrapped.network and plain.state.keys() == wrapped.state.keys()
    assert all(torch.equal(plain.state[name], wrapped.state[name]) for name in plain.state)


@pytest.mark.parametrize("name", of_mode("eval"))
def test_evaluation_of_a_subset_matches(system, name):
    available = FIXTURE.available(CASES[name])
    with torch.inference_mode():
        FIXTURE.check_prediction(CASES[name], system.decode(FIXTURE.encode(system, available), available))


@pytest.mark.parametrize("name", of_mode("eval"))
def test_a_subset_of_a_shared_encoding_matches(system, name):
    with torch.inference_mode():
        encoding = system.encode(FIXTURE.images(), ALL.as_tensor(FIXTURE.config["batch"]))
        FIXTURE.check_prediction(CASES[name], system.decode(encoding, FIXTURE.available(CASES[name])))


@pytest.mark.parametrize("name", [name for name in of_mode("eval") if CASES[name]["inner"]])
@torch.inference_mode()
def test_what_the_decoder_and_the_second_transformer_see_matches(system, name):
    case, available = CASES[name], FIXTURE.available(CASES[name])
    seen = {}
    for part in ("transformer", "widen"):
        hook = lambda _, inputs, output, part=part: seen.update({part: (*inputs, output)})
        getattr(system, part).register_forward_hook(hook)
    system.decode(FIXTURE.encode(system, available), available)
    scales = encode_each(system.streams, FIXTURE.images(), available)
    for level in range(1, LEVELS):
        ours = dict(zip(system.modalities, scales[level - 1].unbind(1), strict=True))
        FIXTURE.check(case, f"dec_x{level}", torch.cat([ours[m] for m in FIXTURE.order], dim=1))
    FIXTURE.check(case, f"dec_x{LEVELS}", seen["widen"][1])
    # The fixture has the sequence before positions are added.
    positions = torch.cat([system.streams[m].position for m in FIXTURE.order], dim=1)
    FIXTURE.check(case, "tok_in", seen["transformer"][0] - positions)
    FIXTURE.check(case, "tok_out", seen["transformer"][1])


@pytest.mark.parametrize("name", of_mode("train"))
def test_training_outputs_match(system, name):
    FIXTURE.check_training_outputs(CASES[name], *FIXTURE.step(system, CASES[name]))


@pytest.mark.parametrize("name", of_mode("train"))
def test_losses_and_gradients_match(system, name):
    named = spec("mmformer").objectives["train"](system.train(), FIXTURE.batch(CASES[name])).named()
    FIXTURE.check_losses(CASES[name], named)
    if CASES[name].get("grad"):
        named["total"].backward()
        FIXTURE.check_gradients(CASES[name], MODEL, system)
