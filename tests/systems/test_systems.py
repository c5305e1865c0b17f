"""Find, create, save, load and convert systems and their weights."""

import pickle

import numpy as np
import pytest
import torch

import anymri
from anymri.errors import ConfigurationError, UnknownSystemError, WeightsError
from anymri.weights.convert import convert_checkpoint
from anymri.weights.pickles import read_checkpoint
from anymri.weights.store import load_weights, save_weights
from parity import reference
from untrained import card, write_weights


@pytest.fixture
def weights(tmp_path):
    return write_weights(tmp_path / "weights.safetensors")


def test_unknown_system_is_refused_with_the_closest_name():
    with pytest.raises(UnknownSystemError, match="u_hved"):
        anymri.create("uhved")


def test_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="published, nano"):
        anymri.create("u_hved", preset="huge")


def test_unknown_network_option_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="width"):
        anymri.create("u_hved", depth=3)
    with pytest.raises(ConfigurationError, match=r"'widht'.*\n?.*Did you mean width\?"):
        anymri.create("u_hved", widht=4)


def test_loaded_weights_equal_the_saved_ones(weights):
    system, loaded = load_weights(weights)
    assert loaded.checksum and loaded.model_copy(update={"checksum": None}) == card() and not system.training
    images, present = system.stack({"flair": torch.randn(1, 16, 16, 16)})
    again = anymri.load(weights, device="cpu").system
    torch.testing.assert_close(again(images, present).logits, system(images, present).logits, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a safetensors file"),
        (b"\x00" * 100, "not a safetensors file"),
        (pickle.dumps({}), "not a safetensors file"),
    ],
    ids=["empty", "zeros", "a pickle"],
)
def test_file_without_weights_is_refused(tmp_path, content, message):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_weights(path)


def test_weights_that_do_not_fit_their_card_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    state = anymri.create("u_hved", preset="nano").state_dict()
    save_weights(path, state, card(network={"width": 8, "num_classes": 4}))
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(path)


def test_weights_of_a_system_that_does_not_exist_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"a": torch.zeros(1)}, card(system="v_hved"))
    with pytest.raises(WeightsError, match="v_hved"):
        load_weights(path)


def test_weights_without_a_card_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="does not say which system"):
        load_weights(tmp_path / "w.safetensors")


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="holds no weights"):
        load_weights(tmp_path)


@pytest.fixture
def checkpoint():
    """A checkpoint with the reference's names, as data-parallel training saves it."""
    state = reference.reference_state(reference.load("u_hved"))
    return {"epoch": 1, "state_dict": {f"module.{name}": value for name, value in state.items()}}


def test_a_converted_checkpoint_loads_as_weights(tmp_path, checkpoint):
    torch.save(checkpoint, tmp_path / "authors.pth")
    convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors")
    system, loaded = load_weights(tmp_path / "w.safetensors")
    assert loaded.network == {"width": system.encoders["T1"].stem.out_channels, "num_classes": system.num_classes}
    stem = checkpoint["state_dict"]["module.t1ce_encoder.conv1.weight"]
    assert torch.equal(system.encoders["T1c"].stem.weight, stem)


def test_checkpoint_with_missing_and_foreign_names_is_refused_with_both(tmp_path, checkpoint):
    state = checkpoint["state_dict"]
    state["stranger.weight"] = torch.zeros(1)
    del state["module.t2_encoder.e1_c1.norm.bias"]
    torch.save(checkpoint, tmp_path / "authors.pth")
    with pytest.raises(WeightsError, match=r"encoders\.T2\.levels\.0\.0\.norm\.bias.*stranger\.weight"):
        convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors", "u_hved")
    assert not (tmp_path / "w.safetensors").exists()


class Payload:
    def __reduce__(self):
        return print, ("code ran",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    torch.save({"state_dict": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="tensors alone"):
        convert_checkpoint(tmp_path / "evil.pth", tmp_path / "w.safetensors")
    assert "code ran" not in capsys.readouterr().out


def test_a_checkpoint_with_a_pickled_module_in_it_converts(tmp_path):
    """XLSTM-HVED's authors save theirs this way. The classes of the module are not importable and not needed."""
    fixture = reference.load("xlstm_hved")
    state = reference.filled_state(fixture["seed"], fixture["model"])
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    checkpoint = {"epoch": 1, "model_sd": state, "optim_sd": optimiser.state_dict(), "model": AsAuthorsSave()}
    torch.save(checkpoint | {"vloss": np.float64(0.5), "optimiser": optimiser}, tmp_path / "authors.pth")
    convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors")
    system, _ = load_weights(tmp_path / "w.safetensors")
    assert torch.equal(system.levels[0]["T1c"].entry.weight, state["init_blocks.0.0.weight"])


class AsAuthorsSave(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
        self.kept_activation = torch.zeros(1)


def test_a_pickled_module_is_read_as_its_state_dict(tmp_path):
    module = AsAuthorsSave()
    torch.save({"model": module, "optimizer": torch.optim.SGD(module.parameters())}, tmp_path / "authors.pth")
    read = read_checkpoint(tmp_path / "authors.pth")["model"]
    assert read.keys() == module.state_dict().keys()
    assert all(torch.equal(read[name], value) for name, value in module.state_dict().items())
