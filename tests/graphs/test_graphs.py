"""Networks as graphs: ONNX and OpenVINO compute what PyTorch computes, and folders of graphs say how."""

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch

from anymri.errors import ConfigurationError, MissingExtraError, OutputError
from anymri.extras import need
from anymri.files import output_folder, sha256
from anymri.graphs import folder as folder_module
from anymri.graphs.folder import export_weights, write_graphs
from anymri.graphs.openvino_model import CompiledGraph, write_openvino
from anymri.graphs.parts import parts_of
from anymri.inference.lanes.openvino import OpenVINO, obstacle
from anymri.modalities import ALL, Subset
from anymri.systems import registry
from anymri.systems.computation import Computation, computed_by
from untrained import card, write_weights

USED = Subset.parse("T1+FLAIR")
SMALLER = {
    "sfusion": {"grid": 4, "layers": 1},
    "m3ae": {"grid": (32, 32, 40)},
    "u_hved": {"width": 4},
    # With a single voxel at the coarsest level, OpenVINO computes the transformer wrongly where modalities are missing.
    "mam": {"crop": (32, 32, 64)},
}
NAMES = [name for name in registry.names() if registry.spec(name).network.graph_obstacle is None]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ANYMRI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def created(name, **changes):
    """Return a small network, and images (2, M, X, Y, Z) of its smallest crop."""
    torch.manual_seed(0)
    smallest = {"crop": 32} if "crop" in registry.card(name).switches else {}
    system = registry.create(name, "nano", **{**smallest, **SMALLER.get(name, {}), **changes})
    side = max(system.usable_crop((32, 32, 32)))
    return system, torch.randn(2, len(system.modalities), *system.usable_crop((side, side, side)))


def assert_close(found, expected):
    """Compare logits; networks with random weights amplify rounding."""
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4 * scale)


def check_lane(name):
    """Compare the lane with the network for two samples, of which one lacks T1 and is mirrored along x."""
    system, images = created(name)
    present = torch.tensor([[True] * 4, [False, True, True, True]])
    images[1, 0] = torch.nan
    sides = torch.tensor(images.shape[2:])
    first = torch.tensor([[-20, 3, 5], [15, 0, 0]])
    corners = torch.stack([first, first + torch.tensor([[1, 1, 1], [-1, 1, 1]]) * (sides - 1)], dim=1)
    lane = OpenVINO(card(system=name), "0")
    with torch.inference_mode():
        exact = system.encode(images, present, corners)
        with computed_by(lane, system):
            encoding = system.encode(images, present, corners)
        available = USED.as_tensor(2) & present
        expected = system.decode(exact, available).logits
        with computed_by(lane, system):
            assert_close(system.decode(encoding, available).logits, expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_of_a_network_compute_what_it_computes(name, monkeypatch):
    # As while they are traced, without the seconds that tracing takes.
    for module in ("anymri.layers.streams", "anymri.systems.sfusion.network"):
        monkeypatch.setattr(f"{module}.is_exporting", lambda: TRACED[0])

    class Part:
        def __init__(self, part):
            self.part = part
            self.shapes = {name: each.shape for name, each in zip(part.inputs, part.arguments, strict=True)}

        def __call__(self, inputs):
            TRACED[0] = True
            with computed_by(Computation(), self.part.module.system):
                found = self.part.module(*(torch.from_numpy(inputs[name].copy()) for name in self.part.inputs))
            TRACED[0] = False
            return [each.numpy() for each in (found if isinstance(found, tuple) else (found,))]

    def load(lane, system, sides):
        with computed_by(Computation(), system), parts_of(system, sides) as parts:
            return {part.name: Part(part) for part in parts}

    monkeypatch.setattr(OpenVINO, "_load", load)
    check_lane(name)


TRACED = [False]


@pytest.mark.acceptance
@pytest.mark.parametrize("name", NAMES)
def test_the_lane_computes_what_the_network_computes(name, cache):
    check_lane(name)
    assert len(list((cache / "graphs").iterdir())) == 1


@pytest.mark.parametrize("writable", [True, False])
def test_graphs_are_kept_in_the_cache_folder_where_it_can_be_written(cache, monkeypatch, writable):
    made = []

    def write(system, card, checksum, sides, folder, to):
        output_folder(folder)
        made.append((checksum, sides, to))

    monkeypatch.setattr("anymri.graphs.folder.write_graphs", write)
    if not writable:
        cache.write_text("a file")
    system, _ = created("u_hved")
    for checksum in ("1", "2", "1", "1"):
        OpenVINO(card(), checksum)._load(system, (32, 32, 32))
    assert all(each[1:] == ((32, 32, 32), "openvino") for each in made)
    assert [each[0] for each in made] == (["1", "2"] if writable else ["1", "2", "1", "1"])


LARGER = [
    pytest.param(name, ("T1", "T1c", "T2", "FLAIR"), marks=pytest.mark.acceptance)
    for name in ("mmformer", "sfusion", "mam")
]


@pytest.mark.parametrize(("name", "modalities"), [("u_hved", ("FLAIR",)), *LARGER])
def test_onnx_and_openvino_compute_what_the_network_computes(name, modalities, tmp_path):
    import onnxruntime

    system, images = created(name, modalities=modalities)
    write_graphs(system, card(system=name), "0", images.shape[2:], tmp_path / "out", "onnx")
    facts = json.loads((tmp_path / "out" / "graphs.json").read_text())
    files = {each: tmp_path / "out" / graph["file"] for each, graph in facts["graphs"].items()}
    run = {each: partial(onnxruntime.InferenceSession(file).run, None) for each, file in files.items()}
    one, available = images[:1], torch.tensor([[m in ("T1c", "FLAIR") for m in modalities]])
    inputs = {"available": available.numpy()}
    for number, modality in enumerate(facts["modalities"]):
        encoder = f"encoder_{modality.lower()}"
        outputs = run[encoder]({"image": one[:, number : number + 1].numpy()})
        if not available[0, number]:
            outputs = [np.zeros_like(output) for output in outputs]
        inputs |= dict(zip(facts["graphs"][encoder]["outputs"], outputs, strict=True))
    assert {name: list(each.shape) for name, each in inputs.items()} == {
        name: each["shape"] for name, each in facts["graphs"]["decoder"]["inputs"].items()
    }
    with torch.inference_mode():
        expected = system(one, available).logits
    assert_close(torch.from_numpy(run["decoder"](inputs)[0]), expected)
    write_openvino(files["decoder"].read_bytes(), tmp_path / "decoder.xml")
    assert_close(torch.from_numpy(CompiledGraph(tmp_path / "decoder.xml", 1)(inputs)[0]), expected)


def test_an_exported_folder_names_weights_window_and_preprocessing(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "to_onnx", lambda part: part.name.encode())
    weights = write_weights(tmp_path / "w.safetensors")
    folder = export_weights(weights, tmp_path / "out")
    facts = json.loads((folder / "graphs.json").read_text())
    assert facts["weights_sha256"] == sha256(weights) and facts["window"] == [32, 32, 32]
    assert facts["preprocessing"]["normalisation"] == card().preprocessing.normalisation
    assert facts["output"]["channels"] == ["background", "NCR", "ED", "ET"]
    files = {each["file"] for each in facts["graphs"].values()}
    assert files == {"encoder_t1.onnx", "encoder_t1c.onnx", "encoder_t2.onnx", "encoder_flair.onnx", "decoder.onnx"}
    assert {path.name for path in folder.iterdir()} == files | {"graphs.json", "README.md"}
    text = (folder / "README.md").read_text()
    assert all(name in text for name in files)


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def fail(part):
        if part.name == "decoder":
            raise ConfigurationError("It fails.", "Nothing.")
        return b""

    monkeypatch.setattr(folder_module, "to_onnx", fail)
    weights = write_weights(tmp_path / "weights" / "w.safetensors")
    with pytest.raises(ConfigurationError, match="It fails"):
        export_weights(weights, tmp_path / "made" / "out")
    assert not any((tmp_path / "made").iterdir())


def test_exports_that_cannot_be_made_are_refused_before_any_work(tmp_path, monkeypatch):
    weights = write_weights(tmp_path / "w.safetensors")
    with pytest.raises(ConfigurationError, match="no format named 'onxx'"):
        export_weights(weights, tmp_path / "out", "onxx")
    with pytest.raises(OutputError, match="not an empty folder"):
        export_weights(weights, tmp_path)
    torch.manual_seed(0)
    with pytest.raises(ConfigurationError, match="im_fuse cannot be exported"):
        write_graphs(registry.create("im_fuse", "nano"), card(system="im_fuse"), "0", (64,) * 3, tmp_path / "o", "onnx")

    def without(extra, *modules, **words):
        need(extra, *(f"absent_{module}" for module in modules), **words)

    monkeypatch.setattr("anymri.graphs.formats.need", without)
    with pytest.raises(MissingExtraError, match=r"export to onnx.*\n.*anymri\[export\]"):
        export_weights(weights, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_lane_needs_the_cpu_its_packages_and_fixed_windows(monkeypatch):
    assert obstacle(torch.device("cpu"), card()) is None
    assert "on the CPU, not on cuda" in obstacle(torch.device("cuda"), card())
    assert "fixed sides" in obstacle(torch.device("cpu"), card(window_fitted=True))
    monkeypatch.setattr("anymri.inference.lanes.openvino.find_spec", lambda name: None)
    assert "anymri[export]" in obstacle(torch.device("cpu"), card())


def test_reconstructions_are_refused_in_the_lane():
    with pytest.raises(ConfigurationError, match="does not reconstruct"):
        OpenVINO(card(), "0").decode(None, None, ALL.as_tensor(), True)


def test_openvino_is_imported_without_its_telemetry():
    code = (
        "import sys\nfrom anymri.graphs.openvino_model import _openvino\n_openvino()\n"
        "import openvino.tools.ovc.telemetry_utils as used\n"
        "assert not any(name.startswith('openvino_telemetry') for name in sys.modules)\n"
        "assert 'stub' in used.tm.__name__, used.tm"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
