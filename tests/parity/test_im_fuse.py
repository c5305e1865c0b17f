"""IM-Fuse against the reference's outputs, losses and gradients. See `reference.py` for the folder of numbers."""

from functools import cache, partial

import numpy as np
import pytest
import torch

from anymri.layers.mamba import Mamba
from anymri.modalities import ALL
from anymri.systems.im_fuse.converter import our_name
from anymri.systems.registry import spec
from parity import filler, reference
from parity.token_fixture import TokenFixture

FIXTURE = TokenFixture("im_fuse")
VARIANTS, CASES = FIXTURE.json["variants"], FIXTURE.cases
BLOCKS = {block["name"]: block for block in FIXTURE.json["mamba_blocks"]}


def of_mode(mode, key=None):
    return [name for name, case in CASES.items() if case["mode"] == mode and (key is None or case.get(key))]


@cache
def built(name):
    variant = VARIANTS[name]
    return FIXTURE.build(variant, interleaved=variant["interleaved"])


def system_of(case):
    """In evaluation mode; variants have many tests and millions of weights, so their networks are built once."""
    system = built(case["variant"]).eval()
    system.zero_grad()
    return system


def idle(name, variant):
    """Whether the reference stores a parameter that it never uses: sheet, Converter."""
    count = len({key.split(".")[1] for key, _ in variant["parameters"] if key.startswith("mamba_fusion_layers.")})
    stored = [f"mamba_fusion_layers.{i}." for i in range(count - 1)] if not variant["mamba_skip"] else []
    stored += ["mamba_fusion_layer.", *(f"{modality}_decode_conv." for modality in FIXTURE.json["modality_order"])]
    return name.startswith(tuple(stored))


@pytest.mark.parametrize("name", VARIANTS)
def test_converter_sees_the_switches_and_keeps_every_parameter_in_use(name):
    variant = VARIANTS[name]
    converted = spec("im_fuse").convert(FIXTURE.state(variant))
    assert all(converted.network[switch] == variant[switch] for switch in ("first_skip", "mamba_skip"))
    kept = sum(value.numel() for value in converted.state.values())
    idle_count = sum(np.prod(shape) for key, shape in variant["parameters"] if idle(key, variant))
    assert kept == variant["parameter_count"] - idle_count


@pytest.mark.parametrize("name", of_mode("eval"))
def test_evaluation_of_a_subset_matches(name):
    """Alone, everything else NaN, and from an encoding of all modalities."""
    case = CASES[name]
    system, available = system_of(case), FIXTURE.available(case)
    with torch.inference_mode():
        FIXTURE.check_prediction(case, system.decode(FIXTURE.encode(system, available), available))
        encoding = system.encode(FIXTURE.images(), ALL.as_tensor(FIXTURE.config["batch"]))
        FIXTURE.check_prediction(case, system.decode(encoding, available))


@pytest.mark.parametrize("name", [*of_mode("eval", "inner"), *of_mode("train", "inner")])
@torch.inference_mode()
def test_what_the_decoder_and_the_second_transformer_see_matches(name):
    case = CASES[name]
    system, available = system_of(case), FIXTURE.available(case)
    seen = {}

    def callback(key, module, inputs, output):
        seen[key] = (*inputs, output)

    fusions = {f"dec_x{int(level) + 1}": fusion for level, fusion in system.fusions.items()}
    for key, module in {"tokens": system.transformer, **fusions}.items():
        module.register_forward_hook(partial(callback, key))
    system.decode(FIXTURE.encode(system, available), available)
    for key in fusions:
        FIXTURE.check(case, key, seen[key][0])
    # The fixture has the tokens before positions are added.
    FIXTURE.check(case, "tok_in", seen["tokens"][0] - system.position)
    FIXTURE.check(case, "tok_out", seen["tokens"][1])


@pytest.mark.parametrize("name", of_mode("train"))
def test_training_outputs_match(name):
    FIXTURE.check_training_outputs(CASES[name], *FIXTURE.step(system_of(CASES[name]), CASES[name]))


@pytest.mark.parametrize("name", of_mode("train"))
def test_losses_and_gradients_match(name):
    case = CASES[name]
    system = system_of(case)
    named = spec("im_fuse").objectives["train"](system.train(), FIXTURE.batch(case)).named()
    FIXTURE.check_losses(case, named)
    if case.get("grad"):
        variant = VARIANTS[case["variant"]]
        count = len(system.skip_readers) + 1
        named["total"].backward()
        FIXTURE.check_gradients(case, variant, system, lambda name: our_name(name, count))


@pytest.mark.parametrize("name", BLOCKS)
def test_a_mamba_block_alone_matches(name):
    """Some with slow decays, where an error in carrying the state would show."""
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
    answer = mamba.advance(mamba.enter(tokens.mT)[:, None], gate=mamba.gate(tokens.mT))[0].mT
    (answer * reference.noise(seed, f"{name}.gy", shape)).sum().backward()
    for key, values, limit in (("y", answer.detach(), "inner_rel"), ("gx", tokens.grad, "grad_rel")):
        expected = FIXTURE.stored[f"{name}/{key}"]
        found = values[:, :: block["stride"]]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance[limit] * np.abs(expected).max())
    norms = {key: mamba.get_parameter(key.replace("conv1d", "conv")).grad.norm().item() for key in shapes}
    expected = FIXTURE.stored[f"{name}/grad_norm"]
    found = [norms[key] for key in block["parameter_order"]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance["grad_rel"] * expected.max())
