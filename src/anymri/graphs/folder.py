"""Folder of the graphs of weights: one file per graph, graphs.json and README.md that say how to compute them."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from anymri._version import __version__
from anymri.errors import ConfigurationError
from anymri.files import new_folder, sha256, write_json, write_text
from anymri.graphs.formats import FORMATS, ONNX, SUFFIXES, check_export
from anymri.graphs.onnx_model import to_onnx
from anymri.graphs.parts import CORNERS, Part, parts_of
from anymri.graphs.readme import readme
from anymri.regions import CLASSES, REGIONS
from anymri.systems.contract import System
from anymri.systems.crops import Sides
from anymri.weights.card import WeightsCard
from anymri.weights.locate import find_weights
from anymri.weights.store import load_weights

DESCRIPTION = "graphs.json"


def export_weights(weights: Path | str, output: Path | str, to: str = ONNX) -> Path:
    """Write the network of weights as graphs for other programs into a new folder, and return it.

    weights  a weights file, run folder or name of installed weights
    output   folder to write; whole or not at all
    to       onnx or openvino, with the extra `export`

    Raises `ConfigurationError` for another format, and for a network that cannot be a graph; `OutputError` if the
    folder is in use or cannot be written; `MissingExtraError` without the packages.
    """
    folder = Path(output)
    check_export(folder, to)
    file = find_weights(Path(weights))
    system, card = load_weights(file)
    write_graphs(system, card, sha256(file), system.crop or card.window, folder, to)
    return folder


def write_graphs(system: System[Any], card: WeightsCard, checksum: str, sides: Sides, folder: Path, to: str) -> None:
    """Write the graphs of a system for windows of `sides` voxels into a folder, which appears whole or not at all.

    checksum  SHA-256 of the weights file
    folder    does not exist, or is empty

    Raises `ConfigurationError` for a network that cannot be a graph, `OutputError` if the folder cannot be written.
    """
    if system.graph_obstacle:
        raise ConfigurationError(
            f"A network of {card.system} cannot be exported as a graph: {system.graph_obstacle}.",
            "Run these weights with the lane torch or torch-bf16.",
        )
    with new_folder(folder) as temporary:
        with parts_of(system, sides) as parts:
            for part in parts:
                _write(part, temporary / f"{part.name}{SUFFIXES[to]}", to)
            facts = _facts(system, card, checksum, sides, parts, to)
        write_json(temporary / DESCRIPTION, facts)
        write_text(temporary / "README.md", readme(facts))


def _write(part: Part, path: Path, to: str) -> None:
    content = to_onnx(part)
    if to == ONNX:
        path.write_bytes(content)
        return
    from anymri.graphs.openvino_model import write_openvino

    write_openvino(content, path)


def _facts(
    system: System[Any], card: WeightsCard, checksum: str, sides: Sides, parts: list[Part], to: str
) -> dict[str, Any]:
    """Return what a program needs to compute the graphs, as plain values."""
    names = CLASSES if system.output_kind == "classes" else tuple(REGIONS)
    windows = card.model_dump(include={"window_overlap", "window_blending", "window_values", "window_steps"})
    return {
        "format": to,
        "system": card.system,
        "weights_sha256": checksum,
        "licence": card.licence,
        "modalities": list(system.modalities),
        "axes": "x, y, z in LPS orientation (x to the left, y to the back, z to the top), z fastest in memory",
        "window": list(sides),
        "windows": windows,
        "preprocessing": card.preprocessing.model_dump(mode="json"),
        "output": {
            "kind": system.output_kind,
            "channels": list(names[: system.out_channels]),
            "activation": "softmax over channels" if system.output_kind == "classes" else "sigmoid of each channel",
        },
        "uses_crop_position": CORNERS in parts[-1].inputs,
        "graphs": {
            part.name: {
                "file": f"{part.name}{SUFFIXES[to]}",
                "inputs": {
                    name: {"shape": list(tensor.shape), "type": str(tensor.dtype).removeprefix("torch.")}
                    for name, tensor in zip(part.inputs, part.arguments, strict=True)
                },
                "outputs": list(part.outputs),
            }
            for part in parts
        },
        "versions": {"anymri": __version__} | {name: version(name) for name in ("torch", *FORMATS[to])},
    }
