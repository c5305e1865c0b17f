"""OpenVINO: conversion of ONNX models, and their computation on the CPU. Nothing is sent anywhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymri.errors import ConfigurationError
from anymri.extras import need

_TELEMETRY = "openvino_telemetry"


@cache
def _openvino() -> Any:
    """Return the package; raise `MissingExtraError` if it is not installed.

    Its telemetry is a package of its own, for which OpenVINO has a stub. It is hidden, so that the stub is used.
    """
    need("export", "openvino", purpose="The lane openvino")
    modules: dict[str, Any] = sys.modules
    hidden = {name: modules.pop(name) for name in list(modules) if name.partition(".")[0] == _TELEMETRY}
    modules[_TELEMETRY] = None
    try:
        import openvino
    finally:
        del modules[_TELEMETRY]
        modules |= hidden
    return openvino


def write_openvino(onnx: bytes, path: Path) -> None:
    """Convert a serialised ONNX model to OpenVINO in float32: `path` (.xml), and its weights beside it (.bin)."""
    openvino = _openvino()
    openvino.save_model(openvino.Core().read_model(onnx), path, compress_to_fp16=False)


class CompiledGraph:
    """Graph compiled for the CPU in float32.

    shapes  input -> shape
    """

    def __init__(self, path: Path, threads: int) -> None:
        openvino = _openvino()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        try:
            self._compiled = openvino.Core().compile_model(path, "CPU", settings)
        except RuntimeError as error:
            raise ConfigurationError(
                f"OpenVINO cannot compute the graph {path.stem}: {str(error).strip().splitlines()[-1]}",
                "Use the lane torch or torch-bf16.",
            ) from error
        self.shapes: dict[str, tuple[int, ...]] = {each.any_name: tuple(each.shape) for each in self._compiled.inputs}

    def __call__(self, inputs: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
        """Return the outputs in their order; inputs that the graph does not have are ignored."""
        used = {name: inputs[name] for name in self.shapes}
        return list(self._compiled(used, share_inputs=True).values())
