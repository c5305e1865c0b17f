"""Weights as a bundle of MONAI: configs/metadata.json and inference.json, models/, docs/.

`monai.bundle run` segments a case with it, prepared as `anymri segment` does. The bundle needs anymri installed: its
configuration names `anymri.load`, and `anymri.export.bundle_network.network` for programs that want the network alone.
The weights are a safetensors file and not model.pt, because anymri never writes a pickle.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from anymri._version import __version__
from anymri.export.formats import BUNDLE, check_folder
from anymri.export.huggingface import MODEL, copy_weights
from anymri.export.model_card import RESEARCH, description, dice_table, title
from anymri.files import new_folder, write_json, write_text
from anymri.modalities import MODALITIES
from anymri.regions import CLASSES, REGIONS
from anymri.systems.contract import System
from anymri.weights.card import WeightsCard
from anymri.weights.locate import find_weights
from anymri.weights.store import load_weights

_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
# Versions that metadata states where a package is not installed.
_OLDEST = {"monai": "1.5.0"}


def export_bundle(weights: Path, output: Path) -> Path:
    """Write weights as a MONAI bundle into a new folder, whole or not at all, and return it.

    weights  a weights file, run folder or name of installed weights

    Raises `WeightsError` for weights that cannot be used, `OutputError` if the folder is in use or cannot be written.
    """
    check_folder(output, BUNDLE)
    file = find_weights(weights)
    system, card = load_weights(file)
    with new_folder(output) as folder:
        for name in ("configs", "models", "docs"):
            (folder / name).mkdir()
        copy_weights(file, card, folder / "models" / MODEL)
        write_json(folder / "configs" / "metadata.json", _metadata(system, card))
        write_json(folder / "configs" / "inference.json", _inference())
        write_text(folder / "docs" / "README.md", _readme(card))
        write_text(folder / "LICENSE", f"{card.licence or 'The licence of these weights is not stated.'}\n")
    return output


def _inference() -> dict[str, Any]:
    """Return the configuration: `run` segments `case`; `network_def` is the network for the tools of MONAI."""
    return {
        "bundle_root": ".",
        "case": "CASE",
        "subset": None,
        "output_dir": "$@bundle_root + '/eval'",
        "device": "auto",
        "weights": f"$@bundle_root + '/models/{MODEL}'",
        "segmenter": {"_target_": "anymri.load", "weights": "@weights", "device": "@device"},
        "network_def": {"_target_": "anymri.export.bundle_network.network", "weights": "@weights"},
        "run": ["$@segmenter.segment(@case, @subset, @output_dir)"],
    }


def _metadata(system: System[Any], card: WeightsCard) -> dict[str, Any]:
    """Return the metadata: versions, texts, and the shapes of the input and output of the network."""
    channels = (CLASSES if system.output_kind == "classes" else tuple(REGIONS))[: system.out_channels]
    sides = list(system.crop or card.window)
    return {
        "schema": _SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by anymri {__version__}"},
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {"anymri": __version__},
        "name": title(card),
        "task": "Segmentation of brain tumours from any subset of T1, T1c, T2 and FLAIR",
        "description": " ".join(description(card)),
        "authors": "See the origin of the weights in docs/README.md",
        "copyright": card.licence or "not stated",
        "data_source": card.data or "not stated",
        "data_type": "nifti or dicom",
        "intended_use": RESEARCH,
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "MR",
                    "num_channels": len(MODALITIES),
                    "spatial_shape": sides,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": {str(number): modality for number, modality in enumerate(MODALITIES)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": system.out_channels,
                    "spatial_shape": sides,
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": True,
                    "channel_def": {str(number): name for number, name in enumerate(channels)},
                }
            },
        },
    }


def _readme(card: WeightsCard) -> str:
    run = (
        "python -m monai.bundle run --config_file configs/inference.json --meta_file configs/metadata.json --case CASE"
    )
    lines = [f"# {title(card)}", "", *(line for each in description(card) for line in (each, ""))]
    lines += ["In this folder, with anymri, monai and fire installed:", "", "```bash", run, "```", ""]
    lines += [
        "CASE is a folder of NIfTI or DICOM scans; the result is in `eval`. `--subset T1c+FLAIR` chooses modalities."
    ]
    lines += [
        "",
        *dice_table(card),
        "",
        f"Origin of the weights: {card.origin}. Licence: {card.licence or 'not stated'}.",
    ]
    return "\n".join(lines) + "\n"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _OLDEST[package]
