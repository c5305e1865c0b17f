"""Authors' checkpoints in every form that their repositories write: recognised, converted, and reported."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from anymri.analysis.published import published
from anymri.errors import WeightsError
from anymri.systems import registry
from anymri.systems.checkpoints import Converted
from anymri.weights import recognition
from anymri.weights.conversion import report
from anymri.weights.convert import convert_checkpoint
from anymri.weights.state_dicts import find_state_dicts
from anymri.weights.store import load_weights
from cli.command import anymri, check_refused
from parity import reference

CONVERTIBLE = [name for name in registry.names() if registry.spec(name).convert]
# What a checkpoint of IM-Fuse does not show.
SWITCHES = {"im_fuse": {"interleaved": True}}
OPTIMISER = torch.optim.Adam([nn.Parameter(torch.zeros(2))])


def shapes(system):
    """Return the names and shapes of the authors' state dict, of one network in the fixture."""
    fixture = reference.load(system)
    if system == "m3ae":
        return fixture["stages"]["finetune"]["parameters"]
    if system == "im_fuse":
        return dict(fixture["variants"]["no_first_skip-interleaved-mamba_skip"]["parameters"])
    if system == "mam":
        return dict(fixture["cases"][0]["parameters"])
    return dict(fixture["model"]["parameters"] if "model" in fixture else fixture["parameters"])


def state_of(system):
    """Return an authors' state dict of random values that half precision holds; scalars count batches."""
    torch.manual_seed(0)
    named = shapes(system).items()
    return {name: torch.rand(shape).half().float() if shape else torch.tensor(1) for name, shape in named}


class Pickled(nn.Module):
    """Module as in the authors' pickles, with buffers and activations beside its parameters."""

    def __init__(self):
        super().__init__()
        self.last_activation = torch.ones(2)
        self.register_buffer("not_saved", torch.ones(2), persistent=False)


def pickled(state):
    """Return a module with the tensors of a state dict."""
    whole = Pickled()
    for name, value in state.items():
        *path, leaf = name.split(".")
        module = whole
        for child in path:
            if child not in module._modules:
                module.add_module(child, Pickled())
            module = module._modules[child]
        if value.is_floating_point():
            module.register_parameter(leaf, nn.Parameter(value))
        else:
            module.register_buffer(leaf, value)
    return whole


def prefixed(state, prefix="module."):
    return {prefix + name: value for name, value in state.items()}


def ported(state):
    """Return a checkpoint as the training scripts of the IM-Fuse repository write it."""
    optimiser = OPTIMISER.state_dict()
    return {"epoch": 9, "state_dict": prefixed(state), "optim_dict": optimiser, "val_Dice_best": np.float64(0.5)}


# The checkpoint of each repository, by the sheets; RA-HVED's does not say more than the names of the state dict.
AUTHORS = {
    **dict.fromkeys(("mmformer", "im_fuse", "robust_mseg", "sfusion"), ported),
    "u_hved": lambda state: ported(state) | {"scheduler": {"last_epoch": 9}},
    "ra_hved": lambda state: state,
    "xlstm_hved": lambda state: {
        **{"epoch": 9, "model_sd": state, "optim_sd": OPTIMISER.state_dict()},
        **{"model": pickled(state), "vloss": np.float64(0.5), "dice": 0.5},
    },
    "shaspec": lambda state: {"iter": 9, "val_Dice_best": 0.5, "model": pickled(state), "optimizer": OPTIMISER},
    "m3ae": lambda state: {
        **{"epoch": 9, "state_dict": prefixed(state), "best_1": 0.5},
        **{"optimizer": OPTIMISER.state_dict(), "scheduler": {"last_epoch": 9}},
    },
    "mam": lambda state: {
        **{"network_weights": state, "optimizer_state": OPTIMISER.state_dict(), "grad_scaler_state": {"scale": 1.0}},
        **{"logging": {"lrs": [np.float64(0.1)]}, "best_dice": 0.5, "current_epoch": 9, "trainer_name": "trainer"},
        **{"init_args": {"device": torch.device("cpu")}, "inference_allowed_mirroring_axes": None},
    },
}


def converted(folder, content, system=None, **switches):
    """Convert what `torch.save` writes of the content; return the report, and the system with its weights."""
    torch.save(content, folder / "authors.pth")
    conversion = convert_checkpoint(folder / "authors.pth", folder / "w.safetensors", system, switches)
    return conversion, load_weights(folder / "w.safetensors")[0]


@pytest.mark.parametrize("name", CONVERTIBLE)
def test_a_checkpoint_as_its_authors_write_it_is_recognised_and_converted(name, tmp_path):
    state = state_of(name)
    conversion, system = converted(tmp_path, AUTHORS[name](state), **SWITCHES.get(name, {}))
    expected = registry.spec(name).convert(state).state
    loaded = system.state_dict()
    assert conversion.system == name and loaded.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.items())
    assert conversion.tensors == len(expected) and conversion.values == sum(v.numel() for v in expected.values())
    assert conversion.values + conversion.unused_values == sum(value.numel() for value in state.values())


STATE = state_of("u_hved")
AVERAGE = {name: value + 1 for name, value in STATE.items()}
FORMS = {
    "state dict": STATE,
    **{key: {key: STATE, "epoch": torch.tensor(9)} for key in ("state_dict", "model", "network", "net", "weights")},
    "nested": {"checkpoint": {"model_state_dict": STATE}},
    "DataParallel": {"state_dict": prefixed(STATE)},
    "torch.compile": {"model": prefixed(STATE, "_orig_mod.module.")},
    "compiled parts": {name.replace(".", "._orig_mod.", 1): value for name, value in STATE.items()},
    "half precision": {name: value.half() for name, value in STATE.items()},
    "module": pickled(STATE),
    "module in DataParallel": {"model": nn.DataParallel(pickled(STATE)), "optimizer": OPTIMISER},
    "AveragedModel": {"ema": prefixed(STATE) | {"n_averaged": torch.tensor(3)}},
    "average before weights": {"model_ema": AVERAGE, "model": STATE},
    "average within": {"ema": {"module": AVERAGE, "decay": 0.999}, "state_dict": STATE},
    "weights of a discriminator": {"D": {"body.weight": torch.ones(3)}, "G": STATE},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_file_gives_the_same_weights(form, tmp_path):
    conversion, system = converted(tmp_path, FORMS[form])
    assert torch.equal(system.encoders["T1c"].stem.weight, STATE["t1ce_encoder.conv1.weight"])
    assert conversion.averaged == (form == "AveragedModel")


def test_the_report_says_what_was_used_and_why_the_rest_was_skipped(tmp_path):
    content = {
        **{"epoch": 9, "model": STATE, "model_ema": AVERAGE, "best": AVERAGE, "again": pickled(STATE)},
        **{"optimizer": OPTIMISER.state_dict(), "scaler": {"scale": 1.0}, "D": {"weight": torch.ones(3)}},
    }
    conversion, _ = converted(tmp_path, content)
    assert str(conversion).splitlines() == [
        "system: u_hved, U-HVED: hetero-modal variational encoder-decoder",
        "used: model: 195 tensors with 1,250,552 values",
        "skipped: epoch, scaler (not weights)",
        "skipped: model_ema (moving average of the weights; the authors test the weights of training itself)",
        "skipped: best (other weights of the same network)",
        "skipped: again (the same weights again)",
        "skipped: optimizer (optimiser)",
        "skipped: D (tensors of something else)",
    ]


def test_the_report_counts_tensors_that_the_authors_never_use(tmp_path):
    with torch.device("meta"):
        content = {"model": {name: torch.empty(shape) for name, shape in shapes("shaspec").items()}}
    match = recognition.recognise(tmp_path / "authors.pth", find_state_dicts(content), "shaspec")
    conversion = report(content, match)
    dead = {name: value for name, value in content["model"].items() if ".branch5_" in name}
    values = sum(value.numel() for value in dead.values())
    assert conversion.unused == tuple(dead)
    assert f"skipped: 15 tensors with {values:,} values, such as shared_enc.aspp.branch5_conv.weight" in str(conversion)


def test_entries_under_odd_keys_are_reported_and_not_used(tmp_path):
    odd = {torch.ones(2): 1, 10**400: 2, None: 3, 1.5: STATE, ("a", 1): 4, "x\x1b" * 500: 5}
    conversion, _ = converted(tmp_path, {**odd, "state_dict": STATE})
    assert sum(map(len, conversion.skipped.values())) == len(odd)
    assert "\x1b" not in str(conversion) and len(str(conversion)) < 1000


def test_an_average_is_used_and_named_where_there_are_no_other_weights(tmp_path):
    conversion, _ = converted(tmp_path, {"ema_state_dict": AVERAGE})
    assert "used: ema_state_dict, a moving average; the file does not have other weights" in str(conversion)
    assert "a moving average" in load_weights(tmp_path / "w.safetensors")[1].origin


def test_ra_hved_of_the_other_repository_has_its_order_of_modalities(tmp_path):
    """Both repositories have the network; they differ in the order of T2 and FLAIR, which no name shows."""
    fixture = reference.load("ra_hved")
    [variant] = [each for each in fixture["variants"] if each["name"] == "shared_recon_f8"]
    state = reference.filled_state(fixture["seed"], variant["model"])
    conversion, ours = converted(tmp_path, state)
    assert conversion.system == "ra_hved" and "--system xlstm_hved" in str(conversion)
    conversion, theirs = converted(tmp_path, state, "xlstm_hved")
    assert conversion.system == "xlstm_hved"
    images = torch.rand(1, 4, 32, 32, 32)
    present = torch.tensor([[True, True, True, False]])  # T1, T1c, T2
    with torch.inference_mode():
        expected = ours(images, present).logits
        actual = theirs(images[:, [0, 1, 3, 2]], present[:, [0, 1, 3, 2]]).logits
    assert torch.allclose(actual, expected, atol=1e-4) and expected.std() > 1e-2


@pytest.mark.parametrize("name", CONVERTIBLE)
def test_the_closest_system_is_named_for_a_checkpoint_that_almost_fits(name, tmp_path):
    with torch.device("meta"):
        state = {each: torch.empty(shape) for each, shape in shapes(name).items()}
    state["stranger.weight"] = torch.ones(1, device="meta")
    with pytest.raises(WeightsError, match=rf"closest system is {name} \(names that differ: 1\).*\n.*--system {name}"):
        recognition.recognise(tmp_path / "authors.pth", find_state_dicts(state))


def test_a_checkpoint_of_something_else_is_refused_with_its_names(tmp_path):
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "authors.pth")
    result = anymri("convert", tmp_path / "authors.pth", "-o", tmp_path / "w.safetensors")
    check_refused(result, "(weight, bias)", *CONVERTIBLE)


def test_a_checkpoint_that_fits_several_systems_is_refused(tmp_path, monkeypatch):
    convert = lambda state: Converted({}, dict(state))
    specs = {name: type("Spec", (), {"convert": staticmethod(convert)}) for name in ("one", "two")}
    monkeypatch.setattr(recognition, "convertible", lambda: list(specs))
    monkeypatch.setattr(recognition.registry, "spec", specs.__getitem__)
    with pytest.raises(WeightsError, match=r"fits several systems: one, two\.\n.*--system one"):
        recognition.recognise(tmp_path / "authors.pth", find_state_dicts({"a": torch.ones(1)}))


def test_the_command_prints_the_report_and_the_file(tmp_path):
    torch.save(ported(STATE), tmp_path / "authors.pth")
    result = anymri("convert", tmp_path / "authors.pth", "-o", tmp_path / "w.safetensors")
    assert result.returncode == 0, result.stderr
    assert "used: state_dict: 195 tensors" in result.stdout and "optim_dict (optimiser)" in result.stdout
    assert result.stdout.splitlines()[-1] == f"{tmp_path / 'w.safetensors'}"
    result = anymri("convert", tmp_path / "authors.pth", "-o", tmp_path / "w2.safetensors", "--system", "mmformer")
    check_refused(result, "mmFormer's reference")


def test_the_page_of_checkpoints_has_a_section_per_system_with_its_published_results():
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE))
    for name in CONVERTIBLE:
        quoted = set(re.findall(r"`(\w+-\d{4})`", sections[name]))
        assert quoted == {result.name for result in published().values() if result.system == name}
