"""Hostile and damaged weights and checkpoints: one sentence, before anything is allocated."""

import collections
import io
import json
import os
import pickle
import shutil
import struct
import time
import zipfile

import pytest
import torch
from safetensors.torch import save

import anymri
from anymri.errors import AnymriError, ConfigurationError, WeightsError
from anymri.systems import registry
from anymri.systems.blueprint import blueprint
from anymri.weights.convert import convert_checkpoint
from anymri.weights.store import load_weights, save_weights
from untrained import card, write_weights

FIRST = "encoders.T1.stem.weight"
CONVERTED = [name for name in registry.names() if registry.card(name).reference]


@pytest.fixture(scope="module")
def state():
    return registry.create("u_hved", **card().network).state_dict()


def refused(path, message):
    """Check that weights are refused in one short sentence, in less than two seconds."""
    began = time.process_time()
    with pytest.raises(WeightsError, match=message) as error:
        load_weights(path)
    assert "\n" not in error.value.what and len(error.value.what) < 900 + len(str(path))
    assert time.process_time() - began < 2


@pytest.fixture
def written(tmp_path, state):
    """Return a function that writes weights with changed tensors, and with fields of the card changed as text."""

    def write(tensors=None, **fields):
        changed = {**state, **(tensors or {})}
        content = {name: value.contiguous() for name, value in changed.items() if value is not None}
        text = json.dumps(json.loads(card().model_dump_json()) | fields)
        (tmp_path / "w.safetensors").write_bytes(save(content, metadata={"anymri": text}))
        return tmp_path / "w.safetensors"

    return write


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_with_the_first_tensor(written, state, number):
    value = state[FIRST].clone()
    value.view(-1)[-1] = number
    refused(written({FIRST: value}), rf"not finite: {FIRST}")


@pytest.mark.parametrize("damage", [bytes(64), bytes(range(64))])
def test_numbers_that_have_changed_since_they_were_written_are_refused(tmp_path, state, damage):
    save_weights(tmp_path / "w.safetensors", state, card())
    content = bytearray((tmp_path / "w.safetensors").read_bytes())
    content[-1000 : -1000 + len(damage)] = damage
    (tmp_path / "w.safetensors").write_bytes(content)
    refused(tmp_path / "w.safetensors", "damaged|not finite")


def test_frozen_tensors_that_have_changed_since_they_were_written_are_refused(tmp_path, state):
    save_weights(tmp_path / "w.safetensors", state, card(), frozen=("encoders.T1",))
    [frozen] = tmp_path.glob("frozen-*")
    frozen.write_bytes(frozen.read_bytes()[:-64] + bytes(64))
    refused(tmp_path / "w.safetensors", f"{frozen.name} is damaged")


@pytest.mark.parametrize(
    "value",
    [
        None,
        torch.zeros(0),
        torch.tensor(1.0),
        torch.zeros(5, 1, 3, 3, 3),
        torch.zeros(4, 1, 3, 3, 3, dtype=torch.int64),
        torch.zeros(4, 1, 3, 3, 3, dtype=torch.complex64),
    ],
    ids=["missing", "empty", "scalar", "other shape", "integers", "complex"],
)
def test_tensors_of_other_shapes_or_types_are_refused_by_name(written, value):
    refused(written({FIRST: value}), rf"does not fit u_hved: .*{FIRST}")


def test_foreign_tensors_are_refused_with_some_of_their_names(written):
    refused(written({f"x\x1b{number}": torch.zeros(1) for number in range(100)}), r"x\\x1b0, .* and 92 more")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_loaded_as_float32(written, state, kind):
    system, _ = load_weights(written({FIRST: state[FIRST].to(kind)}))
    assert system.state_dict()[FIRST].dtype == torch.float32


@pytest.mark.parametrize(
    "fields",
    [
        {"network": {"width": 10**9, "num_classes": 4}},
        {"network": {"width": 16_000, "num_classes": 4}},
        {"network": {"width": -1, "num_classes": 4}},
        {"network": {"width": float("nan"), "num_classes": 4}},
        {"network": {"width": 4, "num_classes": -1}},
        {"network": {"width": 4, "num_classes": 10**6}},
        {"network": {"width": 4}},
        {"network": {"width": {"a": [[[1]]]}, "num_classes": 4}},
        {"network": {"width": 4, "num_classes": 4, "modalities": ["T1", "T1"]}},
        {"network": {"widht\x1b": 4, "num_classes": 4}},
        {"window": 10**6},
        {"window": 0},
        {"window": 33},
        {"window_overlap": 0.999999},
        {"window_overlap": float("nan")},
        {"system": "x" * 10**5},
        {"stranger": 1},
        {"frozen_file": "../w.safetensors"},
        {"frozen_file": "w.safetensors"},
        {"frozen_file": "frozen-0123456789abcdef.safetensors"},
        {"preprocessing": {"normalisation": "none"}},
    ],
    ids=str,
)
def test_a_card_of_nonsense_is_refused_before_anything_is_built(written, fields):
    refused(written(**fields), "fit|frozen-0123")


def test_a_card_of_deep_nesting_or_without_text_is_refused(tmp_path):
    for text in ('{"network":' * 1000 + "1" + "}" * 1000, "", "null", "NaN", '{"system": "u_hved"'):
        (tmp_path / "w.safetensors").write_bytes(save({"a": torch.zeros(1)}, metadata={"anymri": text}))
        refused(tmp_path / "w.safetensors", "card")


def header(text, data=b"\0" * 8, length=None):
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.mark.parametrize(
    "content",
    [
        header(b"{}", length=2**60),
        header(b"[" * 10_000),
        header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 80]}}'),
        header(b'{"a": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 8]}}'),
        header(b'{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 8]}}'),
        header(
            b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},'
            b' "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
        ),
        header(b'{"__metadata__": {"anymri": 1}, "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'),
        header(b"\xff\xfe"),
    ],
)
def test_damaged_safetensors_are_refused(tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    refused(tmp_path / "w.safetensors", "damaged")


def test_truncated_weights_are_refused(written):
    file = written()
    content = file.read_bytes()
    for length in (4, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        refused(file, "damaged")


def test_only_regular_files_are_opened_as_weights_or_checkpoints(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(WeightsError, match="is not a regular file"):
            anymri.load(path)
        with pytest.raises(WeightsError, match="is not a regular file"):
            convert_checkpoint(type(tmp_path)(path), tmp_path / "w.safetensors")


@pytest.mark.parametrize("system", registry.names())
def test_a_blueprint_has_the_tensors_of_the_network(system):
    network = registry.card(system).presets["nano"]
    planned, built = (each.state_dict() for each in (blueprint(system, network), registry.build(system, network)))
    assert {name: (value.shape, value.dtype) for name, value in planned.items()} == {
        name: (value.shape, value.dtype) for name, value in built.items()
    }
    assert all(value.is_meta for value in planned.values())


@pytest.mark.parametrize("system", ["sfusion", "xlstm_hved"])
def test_loaded_networks_have_no_tensor_without_values(system, tmp_path):
    network = {**registry.card(system).presets["nano"], "num_classes": 4}
    built = registry.build(system, network)
    window = built.usable_crop((32, 32, 32))
    save_weights(tmp_path / "w.safetensors", built.state_dict(), card(system=system, network=network, window=window))
    loaded, _ = load_weights(tmp_path / "w.safetensors")
    for (name, value), other in zip(loaded.named_buffers(), built.buffers(), strict=True):
        assert torch.equal(value, other), name


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize(
    ("system", "argument", "value"),
    [
        ("u_hved", "width", 16_384),
        ("sfusion", "layers", 5000),
        ("sfusion", "heads", -1),
        ("m3ae", "grid", [10_000, 10_000, 10_000]),
        ("m3ae", "grid", [1] * 10**5),
        ("unet_dropout", "blocks", [16_384] * 5),
        ("mmformer", "dropout", float("nan")),
        ("mmformer", "crop", 0),
        ("mmformer", "width", 0),
        ("mam", "heads", 10**40),
    ],
)
def test_networks_that_no_machine_holds_are_refused_before_they_are_built(system, argument, value):
    with pytest.raises(ConfigurationError) as error:
        blueprint(system, {argument: value})
    assert len(error.value.what) < 400


# Authors' checkpoints.


class Storage:
    """Storage of four floats in the pickle of a checkpoint."""


class Call:
    """Call of a function while a checkpoint is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Pickler(pickle._Pickler):
    def persistent_id(self, value):
        return ("storage", torch.FloatStorage, "0", "cpu", 4) if isinstance(value, Storage) else None


def tensor(size=(4,), stride=(1,)):
    return Call(torch._utils._rebuild_tensor_v2, Storage(), 0, size, stride, False, collections.OrderedDict())


def checkpoint(path, value=None, pickled=None, padding=b"", compression=zipfile.ZIP_STORED):
    """Write a checkpoint by hand, as torch.save does not write it."""
    if pickled is None:
        buffer = io.BytesIO()
        Pickler(buffer, 2).dump(value)
        pickled = buffer.getvalue()
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", b"\0" * 16)
        archive.writestr("archive/data/1", padding)
        archive.writestr("archive/version", "3\n")


def shared(depth=40):
    value = {"a": tensor()}
    for _ in range(depth):
        value = {"a": value, "b": value}
    return value


VALUES = {
    "list as state dict": {"state_dict": [1], "a": tensor()},
    "text as state dict": {"state_dict": "text", "model": "text", "network_weights": "text", "a": tensor()},
    "tensor as state dict": {name: tensor() for name in ("state_dict", "model", "model_sd", "network_weights")},
    "numbers as names": {"state_dict": {1: tensor()}, "model": {1: tensor()}, "model_sd": {None: tensor()}},
    "numbers as values": {"state_dict": {"a": tensor(), "b": 3}},
    "tensor alone": tensor(),
    "list": [tensor()],
    "empty": {},
    "empty state dict": {"state_dict": {}, "a": tensor()},
    "nested": {"net": {"net": {"net": {"a": tensor()}}}},
    "large view": {"a": tensor((10**6, 10**6), (0, 0))},
    "reserved memory": {"a": tensor(), "b": Call(bytearray, 2 * 10**9)},
    "tensor without storage": {"a": Call(torch.Tensor, 10**9)},
}


@pytest.mark.parametrize("system", [None, *CONVERTED])
def test_checkpoints_of_odd_shape_are_refused_by_all_converters(system, tmp_path):
    for name, value in VALUES.items():
        checkpoint(tmp_path / "authors.pth", value)
        with pytest.raises(WeightsError) as error:
            convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors", system)
        assert "\n" not in error.value.what and len(error.value.what) < 400 + len(str(tmp_path)), name
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02" + b"}X\x01\0\0\0a" * 5000 + b"}" + b"s" * 5000 + b".",
        b"\x80\x02}q\x00X\x01\0\0\0ah\x00s.",
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x02" + b"(" * 1000 + b".",
        b"",
        b"." * 5_000_000,
    ],
    ids=["deep", "contains itself", "memo", "marks", "empty", "large"],
)
def test_hostile_pickles_are_refused(pickled, tmp_path):
    checkpoint(tmp_path / "authors.pth", pickled=pickled)
    with pytest.raises(WeightsError, match=r"authors\.pth cannot be read as tensors alone"):
        convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors")


def test_a_checkpoint_of_shared_dictionaries_is_not_expanded(tmp_path, monkeypatch):
    monkeypatch.setattr("anymri.weights.pickles._MOST_OBJECTS", 10_000)
    checkpoint(tmp_path / "authors.pth", shared())
    with pytest.raises(WeightsError, match="tensors alone"):
        convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors")


def test_an_archive_that_inflates_beyond_its_size_is_refused_before_it_is_read(tmp_path):
    checkpoint(tmp_path / "bomb.pth", {"a": tensor()}, padding=b"\0" * 20_000_000, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="more memory than its size"):
        convert_checkpoint(tmp_path / "bomb.pth", tmp_path / "w.safetensors")


def test_truncated_and_old_checkpoints_are_refused(tmp_path):
    file = tmp_path / "authors.pth"
    torch.save({"a": torch.ones(1000)}, file)
    content = file.read_bytes()
    torch.save({"a": torch.ones(10)}, file, _use_new_zipfile_serialization=False)
    for damaged in (b"", content[:-30], content[: len(content) // 2], b"text" * 100, file.read_bytes()):
        file.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"1\.6"):
            convert_checkpoint(file, tmp_path / "w.safetensors")


def test_a_checkpoint_that_is_not_finite_is_refused(tmp_path):
    from parity import reference

    state = reference.reference_state(reference.load("u_hved"))
    name = "seg_decoder.conv_out.weight"
    torch.save({**state, name: torch.full_like(state[name], float("nan"))}, tmp_path / "authors.pth")
    with pytest.raises(AnymriError, match=r"not finite: segmentation_decoder\.out\.weight"):
        convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors")


def test_good_weights_load(tmp_path):
    assert load_weights(write_weights(tmp_path / "w.safetensors"))[1].system == "u_hved"


def test_weights_of_zeros_are_refused(written, state):
    refused(written({name: torch.zeros_like(value) for name, value in state.items()}), "are all zero")


def test_a_card_with_an_unknown_label_scheme_is_refused(written):
    refused(written(label_scheme="zzz"), r"label_scheme \(there is no label scheme 'zzz'\)")


@pytest.mark.parametrize("place", ["file", "state dict", "tensor", "beside"])
def test_code_in_a_checkpoint_is_not_run_while_its_system_is_recognised(place, tmp_path):
    from parity import reference

    ran = tmp_path / "ran"
    payload = Call(shutil.copyfile, __file__, str(ran))
    state = reference.reference_state(reference.load("u_hved"))
    stored = {
        "file": payload,
        "state dict": {"state_dict": payload},
        "tensor": {"state_dict": {**state, "seg_decoder.conv_out.weight": payload}},
        "beside": {"epoch": payload, "state_dict": state},
    }[place]
    torch.save(stored, tmp_path / "authors.pth")
    if place == "beside":
        conversion = convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors")
        assert conversion.system == "u_hved" and conversion.skipped == {"not weights": ("epoch",)}
    else:
        with pytest.raises(WeightsError):
            convert_checkpoint(tmp_path / "authors.pth", tmp_path / "w.safetensors")
        assert not (tmp_path / "w.safetensors").exists()
    assert not ran.exists()
    torch.load(tmp_path / "authors.pth", weights_only=False)
    assert ran.exists()  # the payload works where pickles are run
