"""Formats of exported graphs, checked without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from anymri.errors import OutputError, check_known
from anymri.extras import need
from anymri.files import is_unused

ONNX, OPENVINO = "onnx", "openvino"
# Format -> the packages that write it.
FORMATS: Mapping[str, tuple[str, ...]] = {ONNX: ("onnx", "onnxscript"), OPENVINO: ("onnx", "onnxscript", "openvino")}
SUFFIXES = {ONNX: ".onnx", OPENVINO: ".xml"}


def check_export(folder: Path, to: str) -> None:
    """Raise an `AnymriError` for an unknown format, a missing package, or a folder that is in use."""
    check_known("format", to, FORMATS)
    need("export", *FORMATS[to], purpose=f"The export to {to}")
    if not is_unused(folder):
        raise OutputError(f"{folder} is not an empty folder.", "Choose a new folder for the graphs, with -o.")
