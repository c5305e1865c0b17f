"""IM-Fuse against the reference's outputs, losses and gradients. See `reference.py` for the folder of fixtures."""

from functools import cache

import numpy as np
import pytest
import torch

from anymri.layers.mamba import FusedTokens, Mamba, Slab
from anymri.systems.im_fuse.converter import our_name
from anymri.systems.registry import spec
from parity import filler, reference
from parity.token_fixture import TokenFixture, recorded_modules

FIXTURE = TokenFixture("im_fuse")
VARIANTS, CASES = FIXTURE.json["variants"], FIXTURE.cases
BLOCKS = {block["name"]: block for block in FIXTURE.json["mamba_blocks"]}


def names(*modes, key=None):
    return [name for name, case in CASES.items() if case["mode"] in modes and (key is None or case.get(key))]


# Networks and their outputs are computed once for all tests that read them.
@cache
def built(variant):
    return FIXTURE.build(VARIANTS[variant], interleaved=VARIANTS[variant]["interleaved"])


@cache
def encoding_of_all(variant):
    return FIXTURE.encode_all(built(variant))


@cache
@torch.inference_mode()
def predicted(name):
    """Return the prediction of a case's subset, encoded alone, and inputs and outputs of modules on the way."""
    system, available = built(CASES[name]["variant"]), FIXTURE.available(CASES[name])
    modules = {f"dec_x{int(level) + 1}": fusion for level, fusion in system.fusions.items()}
    with recorded_modules({"tokens": system.transformer, **modules}) as seen:
        return system.decode(FIXTURE.encode(system, available), available), seen


@pytest.fixture(scope="module", params=names("train"))
def step(request):
    """One case of mode `train`, and its step."""
    case = CASES[request.param]
    return case, FIXTURE.step(built(case["variant"]), case)


def count_unused(variant):
    """Return the number of parameters that the reference stores and never uses: sheet, Converter."""
    layers = {key.split(".")[1] for key, _ in variant["parameters"] if key.startswith("mamba_fusion_layers.")}
    unused = [f"mamba_fusion_layers.{i}." for i in range(len(layers) - 1)] if not variant["mamba_skip"] else []
    unused += ["mamba_fusion_layer.", *(f"{modality}_decode_conv." for modality in FIXTURE.json["modality_order"])]
    return sum(np.prod(shape) for key, shape in variant["parameters"] if key.startswith(tuple(unused)))


@pytest.mark.parametrize("name", VARIANTS)
def test_converter_reads_the_switches_and_keeps_every_used_parameter(name):
    variant = VARIANTS[name]
    converted = spec("im_fuse").convert(FIXTURE.state(variant))
    assert all(converted.network[switch] == variant[switch] for switch in ("first_skip", "mamba_skip"))
    assert sum(value.numel() for value in converted.state.values()) == variant["parameter_count"] - count_unused(
        variant
    )


@pytest.mark.parametrize("name", names("eval"))
def test_prediction_matches(name):
    FIXTURE.check_prediction(CASES[name], predicted(name)[0])


@pytest.mark.parametrize("name", names("eval"))
@torch.inference_mode()
def test_prediction_from_a_shared_encoding_matches(name):
    case = CASES[name]
    encoding = encoding_of_all(case["variant"])
    FIXTURE.check_prediction(case, built(case["variant"]).decode(encoding, FIXTURE.available(case)))


@pytest.mark.parametrize("name", names("eval", "train", key="inner"))
@torch.inference_mode()
def test_inputs_of_the_decoder_and_the_second_transformer_match(name):
    case, (_, seen) = CASES[name], predicted(name)
    tokens_in, tokens_out = seen["tokens"]
    for key in seen.keys() - {"tokens"}:
        FIXTURE.check(case, key, seen[key][0])
    # The fixture has the tokens before positions are added.
    FIXTURE.check(case, "tok_in", tokens_in - built(case["variant"]).position)
    FIXTURE.check(case, "tok_out", tokens_out)


def test_training_outputs_match(step):
    FIXTURE.check_training_outputs(*step)


def test_losses_match(step):
    case, computed = step
    FIXTURE.check_losses(case, computed.losses)


def test_gradients_match(step):
    case, computed = step
    if case.get("grad"):
        readers = len(built(case["variant"]).skip_readers) + 1
        variant = VARIANTS[case["variant"]]
        FIXTURE.check_gradients(case, variant, computed.gradients, lambda name: our_name(name, readers))


def plain_sequence(mamba, tokens):
    """Return the outputs of a block for all tokens of one sequence, (1, C, V) to the same shape."""
    fused = FusedTokens(tokens, mamba.project(tokens), mamba.gate(tokens))
    no_modality = fused.projected[:, None, :, :0][:, :0]
    nothing = torch.empty(1, 0, dtype=torch.bool)
    return mamba.advance(Slab(no_modality, nothing, fused.projected[0, :, 0], fused))[0]


@pytest.mark.parametrize("name", BLOCKS)
def test_mamba_block_matches(name):
    """Some blocks have slow decays, where an error in carrying the state would show."""
    block, seed, tolerance = BLOCKS[name], FIXTURE.json["seed"], FIXTURE.tolerance
    shapes = dict(map(tuple, block["parameters"]))
    values = filler.fill(seed, {f"{name}.{key}": shape for key, shape in shapes.items()})
    state = {key: torch.from_numpy(values[f"{name}.{key}"]) for key in shapes}
    if block["long_memory"]:
        state["A_log"] = torch.arange(1.0, block["d_state"] + 1).log().expand_as(state["A_log"])
        state["dt_proj.bias"] = -5 + 10 * state["dt_proj.bias"]
        state["dt_proj.weight"] = 0.1 * state["dt_proj.weight"]
    mamba = Mamba(block["d_model"])
    mamba.load_state_dict({key.replace("conv1d", "conv"): value for key, value in state.items()})
    shape = [block["batch"], block["length"], block["d_model"]]
    tokens = reference.noise(seed, f"{name}.x", shape).requires_grad_()
    output = torch.cat([plain_sequence(mamba, each[None].mT) for each in tokens]).mT
    (output * reference.noise(seed, f"{name}.gy", shape)).sum().backward()
    for key, values, limit in (("y", output.detach(), "inner_rel"), ("gx", tokens.grad, "grad_rel")):
        expected = FIXTURE.stored[f"{name}/{key}"]
        found = values[:, :: block["stride"]]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance[limit] * np.abs(expected).max())
    norms = {key: mamba.get_parameter(key.replace("conv1d", "conv")).grad.norm().item() for key in shapes}
    expected = FIXTURE.stored[f"{name}/grad_norm"]
    found = [norms[key] for key in block["parameter_order"]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance["grad_rel"] * expected.max())
