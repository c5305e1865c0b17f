"""Names that users choose from, checked without torch, which takes seconds to import."""

from __future__ import annotations

import re

from anymri.errors import ConfigurationError, check_known

TORCH, BFLOAT16, OPENVINO, AUTO = "torch", "torch-bf16", "openvino", "auto"
LANES = {
    TORCH: "PyTorch in float32, on any device",
    BFLOAT16: "PyTorch in bfloat16, on CPUs and GPUs with instructions for it",
    OPENVINO: "OpenVINO in float32, on CPUs, with the extra `export`",
}
# Packages that the lane openvino needs.
OPENVINO_PACKAGES = ("openvino", "onnx", "onnxscript")
# How predictions are combined: mean probability, or STAPLE of the label maps.
COMBINATIONS = ("mean", "staple")
ENGINES = ("local", "ray")
AXES = "xyz"
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def check_device(name: str) -> None:
    """Raise `ConfigurationError` if a name is not that of a device; whether the device exists is not checked."""
    if _DEVICE.fullmatch(name) is None:
        raise ConfigurationError(
            f"The device {name!r} cannot be used: anymri runs on cpu, cuda and mps.", "Use auto or cpu."
        )


def check_lane(name: str) -> None:
    """Raise `ConfigurationError` with the known names if there is no lane of this name."""
    check_known("lane", name, (*LANES, AUTO))


def check_combination(name: str) -> None:
    """Raise `ConfigurationError` if predictions cannot be combined in this way."""
    check_known("combination", name, COMBINATIONS)


def check_flips(flips: str) -> None:
    """Raise `ConfigurationError` unless a text names axes to mirror, each once."""
    if not set(flips) <= set(AXES) or len(set(flips)) < len(flips):
        raise ConfigurationError(f"{flips!r} does not name axes to mirror.", "Use some of x, y and z, as in xyz.")


def check_engine(name: str, lane: str) -> None:
    """Raise `ConfigurationError` if there is no engine of this name, or if it does not take the lane."""
    check_known("engine", name, ENGINES)
    if name == "ray" and lane == AUTO:
        raise ConfigurationError(
            "The engine ray does not choose a lane: its machines may choose different ones.",
            f"Name one of {', '.join(LANES)}.",
        )
