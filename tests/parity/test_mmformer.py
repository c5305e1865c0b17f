"""mmFormer against the reference's outputs, losses and gradients. See `reference.py` for the folder of fixtures."""

import pytest
import torch

from anymri.layers.preactivation import LEVELS
from anymri.layers.streams import encode_each
from anymri.systems.registry import spec
from parity.token_fixture import TokenFixture, recorded_modules

FIXTURE = TokenFixture("mmformer")
MODEL, CASES = FIXTURE.json["model"], FIXTURE.cases


def names(mode, key=None):
    return [name for name, case in CASES.items() if case["mode"] == mode and (key is None or case.get(key))]


@pytest.fixture(scope="module")
def system():
    return FIXTURE.build(MODEL)


@pytest.fixture(scope="module")
def encoding_of_all(system):
    return FIXTURE.encode_all(system)


@pytest.fixture(scope="module", params=names("train"))
def step(request, system):
    """One case of mode `train`, and its step."""
    return CASES[request.param], FIXTURE.step(system, CASES[request.param])


def test_converter_keeps_every_parameter(system):
    assert sum(p.numel() for p in system.parameters()) == MODEL["parameter_count"]


def test_converter_ignores_the_unused_convolutions_of_the_original_repository():
    state = FIXTURE.state(MODEL)
    unused = {}
    for modality in FIXTURE.json["modality_order"]:
        embed = state[f"{modality}_encode_conv.weight"]
        unused[f"{modality}_decode_conv.weight"] = embed.transpose(0, 1)
        unused[f"{modality}_decode_conv.bias"] = embed[0].flatten()
    plain, whole = (spec("mmformer").convert(each) for each in (state, state | unused))
    assert set(whole.unused) == unused.keys()
    assert plain.network == whole.network and plain.state.keys() == whole.state.keys()
    assert all(torch.equal(plain.state[name], whole.state[name]) for name in plain.state)


@pytest.mark.parametrize("name", names("eval"))
@torch.inference_mode()
def test_prediction_matches(system, name):
    """Also compares the inputs of the decoder and of the second transformer where the fixture has them."""
    case, available = CASES[name], FIXTURE.available(CASES[name])
    modules = {"transformer": system.transformer, "widen": system.widen}
    with recorded_modules(modules) as seen:
        FIXTURE.check_prediction(case, system.decode(FIXTURE.encode(system, available), available))
    if case.get("inner"):
        scales = encode_each(system.streams, FIXTURE.images(), available)
        for level in range(1, LEVELS):
            ours = dict(zip(system.modalities, scales[level - 1].unbind(1), strict=True))
            FIXTURE.check(case, f"dec_x{level}", torch.cat([ours[m] for m in FIXTURE.order], dim=1))
        FIXTURE.check(case, f"dec_x{LEVELS}", seen["widen"][1])
        # The fixture has the sequence before positions are added.
        positions = torch.cat([system.streams[m].position for m in FIXTURE.order], dim=1)
        FIXTURE.check(case, "tok_in", seen["transformer"][0] - positions)
        FIXTURE.check(case, "tok_out", seen["transformer"][1])


@pytest.mark.parametrize("name", names("eval"))
@torch.inference_mode()
def test_prediction_from_a_shared_encoding_matches(system, encoding_of_all, name):
    FIXTURE.check_prediction(CASES[name], system.decode(encoding_of_all, FIXTURE.available(CASES[name])))


def test_training_outputs_match(step):
    FIXTURE.check_training_outputs(*step)


def test_losses_match(step):
    case, computed = step
    FIXTURE.check_losses(case, computed.losses)


def test_gradients_match(step):
    case, computed = step
    if case.get("grad"):
        FIXTURE.check_gradients(case, MODEL, computed.gradients)
